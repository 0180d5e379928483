"""JSON from clients, made fit to be spliced into frames for others.

`data` is decoded once and encoded once; the result is compact JSON on one line that every parser
reads alike. What has no such form is refused:

- NaN and Infinity, and numbers that are infinite as a double (integers below that keep every
  digit, whatever their size; a fraction that underflows becomes 0.0);
- lone surrogates, and text that is not UTF-8;
- values nested deeper than MAX_DEPTH, which would exhaust some parser's stack.

Of duplicate keys the last one counts.
"""

import re
from typing import Any, TypeVar

from msgspec import MsgspecError
from msgspec.json import Decoder, Encoder

from domain.errors import BadFrame

MAX_DEPTH = 64

T = TypeVar("T")

_encode = Encoder().encode
_json: Decoder[Any] = Decoder()
_CONTAINERS = (list, dict)

# An integer beyond every double has 309 digits or more; of those, every 16th is 19 in a row.
_HUGE_SAMPLED = re.compile(rb"[0-9]{19}")


def decode(decoder: "Decoder[T]", text: str | bytes, tag: str = "type") -> T:
    """Decode client JSON; `tag` is the field that says what it is. Raises BadFrame, and nothing
    else for any text."""
    try:
        return decoder.decode(text)
    except (MsgspecError, ValueError, ArithmeticError, RecursionError) as error:
        raise BadFrame(_explanation(error, tag)) from None


def canonical(value: Any) -> bytes:
    """Canonical JSON of a value that `decode` returned. Raises BadFrame."""
    try:
        encoded = _encode(value)
    except RecursionError as error:
        raise BadFrame(_explanation(error, "")) from None
    # A bracket that opens is one that closes: anything shorter is neither deep nor huge.
    if len(encoded) > 2 * MAX_DEPTH:
        _refuse_extremes(value, encoded)
    return encoded


def recode(text: str | bytes) -> bytes:
    """Client JSON to canonical JSON. Raises BadFrame."""
    return canonical(decode(_json, text))


def _explanation(error: Exception, tag: str) -> str:
    """What is wrong, in words that repeat nothing of the input."""
    if isinstance(error, RecursionError):
        return f"nested deeper than {MAX_DEPTH}"
    if isinstance(error, UnicodeError):
        return "not valid UTF-8"
    message = str(error)
    if message.startswith("Invalid value"):
        return f"`{tag}` names nothing known here"
    return message if isinstance(error, MsgspecError) else "not valid JSON"


def _refuse_extremes(value: Any, encoded: bytes) -> None:
    """Cheap upper bounds on the bytes first; the value is walked only when one is passed."""
    if encoded.count(b"[") + encoded.count(b"{") > MAX_DEPTH and _is_deep(value):
        raise BadFrame(f"nested deeper than {MAX_DEPTH}")
    if _HUGE_SAMPLED.search(encoded[::16]) and _has_huge(value):
        raise BadFrame("a number is outside ±1.8e308")


def _is_deep(value: list[Any] | dict[str, Any]) -> bool:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for container in level
            for item in (container.values() if type(container) is dict else container)
            if type(item) in _CONTAINERS
        ]
        if not level:
            return False
    return True


def _has_huge(value: Any) -> bool:
    match value:
        case int():
            try:
                float(value)
            except OverflowError:
                return True
            return False
        case list():
            return any(map(_has_huge, value))
        case dict():
            return any(map(_has_huge, value.values()))
    return False
