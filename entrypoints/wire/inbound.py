"""Frames that clients send at `/v1/ws`, and what the other doors take.

Checked here is the shape; names of rooms, grants and limits are the use cases' business. Every
function raises BadFrame with a text that names the field, and nothing else, for any input.
"""

import json
import re
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.json import Decoder

from application.ports.encoding import RequestId
from domain.errors import BadFrame
from domain.timeline import MAX_PAGE_MESSAGES
from entrypoints.wire.canonical import canonical, recode
from entrypoints.wire.canonical import decode as decode_json

_MAX_ID_CHARACTERS = 64
_MAX_INTEGER = 2**53  # every integer up to here is a double, so that no client rounds it

Seq = Annotated[int, Meta(ge=0, le=_MAX_INTEGER)]
RequestIdField = (
    Annotated[int, Meta(ge=-_MAX_INTEGER, le=_MAX_INTEGER)]
    | Annotated[str, Meta(max_length=_MAX_ID_CHARACTERS)]
)
_Key = Annotated[str, Meta(min_length=1, max_length=128)]
_Limit = Annotated[int, Meta(ge=1)]


class _Frame(Struct, tag_field="type", kw_only=True):
    """`null` in an optional field is the same as its absence."""

    id: RequestIdField | None = None


class PositionFields(Struct):
    log: str
    seq: Seq


class Auth(_Frame, tag="auth"):
    token: str

    def __repr__(self) -> str:
        return "Auth(token=<hidden>)"


class Join(_Frame, tag="join"):
    """`history`: how many of the newest messages to begin with, where no position leads on."""

    room: str
    position: PositionFields | None = None
    history: Seq | None = None


class Leave(_Frame, tag="leave"):
    room: str


class Publish(_Frame, tag="publish"):
    """`key` and `ephemeral` exclude each other."""

    room: str
    data: Any  # canonical and bytes, once `decode` has returned it
    key: _Key | None = None
    ephemeral: bool = False
    echo: bool = True


class History(_Frame, tag="history"):
    """At most one of `before` and `after`; `limit` is 1 to 100."""

    room: str
    before: Seq | None = None
    after: Seq | None = None
    log: str | None = None
    limit: _Limit = MAX_PAGE_MESSAGES


class Members(_Frame, tag="members"):
    """`after` is the last user name of the page before; `limit` is 1 to 100."""

    room: str
    after: str | None = None
    limit: _Limit = MAX_PAGE_MESSAGES


class Ping(_Frame, tag="ping"):
    pass


class Pong(_Frame, tag="pong"):
    pass


ClientFrame = Auth | Join | Leave | Publish | History | Members | Ping | Pong

_frame: Decoder[ClientFrame] = Decoder(ClientFrame)
_object = Decoder(dict[str, Any])
_STRING = r'"(?:[^"\\]|\\.)*"'
_TOKEN = re.compile(rf"{_STRING}|[{{}}\[\]]", re.DOTALL)
_VALUE = re.compile(rf"\s*:\s*(-?[0-9]+|{_STRING})", re.DOTALL)


def decode(text: str | bytes) -> ClientFrame:
    """One frame of protocol v1. Unknown fields are ignored."""
    frame = decode_json(_frame, text)
    if isinstance(frame, Publish):
        frame.data = canonical(frame.data)
        if frame.key is not None:
            _check_key(frame, frame.key)
    elif isinstance(frame, (History, Members)):
        frame.limit = min(frame.limit, MAX_PAGE_MESSAGES)
        if isinstance(frame, History) and frame.before is not None and frame.after is not None:
            raise BadFrame("`before` and `after` exclude each other")
    return frame


def _check_key(frame: Publish, key: str) -> None:
    if frame.ephemeral:
        raise BadFrame("`key` and `ephemeral` exclude each other: nothing is stored")
    if not (key.isascii() and key.isprintable()):
        raise BadFrame("`key` takes printable ASCII only")


def request_id(text: str | bytes) -> RequestId | None:
    """The `id` of a frame that `decode` refused, for the error reply; None where there is none.

    Far more lenient than `decode`: a client waits for the answer to its id, whatever was wrong
    with the rest.
    """
    try:
        frame = json.loads(text, strict=False, parse_int=_modest)
    except ValueError:
        return None
    except RecursionError:
        frame = _outermost(text if isinstance(text, str) else text.decode(errors="replace"))
    found = frame.get("id") if isinstance(frame, dict) else None
    match found:
        case bool():
            return None
        case int() if abs(found) <= _MAX_INTEGER:
            return found
        case str() if len(found) <= _MAX_ID_CHARACTERS and not _has_surrogates(found):
            return found
    return None


def _outermost(text: str) -> dict[str, Any]:
    """The `id` of a frame that is nested too deeply to be read, and nothing else of it."""
    depth, found = 0, {}
    for token in _TOKEN.finditer(text):
        if token[0] == '"id"' and depth == 1 and (value := _VALUE.match(text, token.end())):
            found["id"] = json.loads(value[1], strict=False, parse_int=_modest)
        else:
            depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token[0], 0)
    return found


def _modest(digits: str) -> int | None:
    """Python refuses to read integers of thousands of digits, and none such can be an id."""
    return int(digits) if len(digits) <= 20 else None


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def decode_any(text: str | bytes) -> bytes:
    """Any JSON value, as canonical JSON."""
    return recode(text)


def decode_text_object(text: str | bytes) -> bytes:
    """Canonical `{"text": T}` from an object, T null where it has no `text`."""
    fields = decode_json(_object, text)
    return canonical({"text": fields.get("text")})
