"""How what happens in rooms is written for people. What others wrote is never trusted: a terminal
obeys control characters."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import typer

_JOINER = "\N{ZERO WIDTH JOINER}"  # holds the parts of an emoji together
_HALF_A_DAY = 43_200.0  # seconds
_encode = msgspec.json.Encoder().encode


def safe(text: str) -> str:
    """The text with everything that could move a cursor or turn letters around spelled out."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == _JOINER else _spelled(char) for char in text
    )


def _spelled(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code < 0x1_0000 else f"\\U{code:08x}"


def json_line(value: Any) -> str:
    """One JSON text on one line, fit for a terminal."""
    return harmless(_encode(value).decode())


def harmless(json: str) -> str:
    """The same JSON text without raw control characters. In JSON those can only stand in strings,
    where they may be spelled out."""
    if json.isprintable():
        return json
    return "".join(f"\\u{ord(char):04x}" if 0x7F <= ord(char) < 0xA0 else char for char in json)


def show(line: str) -> None:
    """Write a line at once; without colours where it is not read on a terminal."""
    typer.echo(line, color=False if "NO_COLOR" in os.environ else None)


def note(line: str) -> None:
    """Tell something about the work itself, apart from what it brings."""
    color = False if "NO_COLOR" in os.environ else None
    typer.echo(typer.style(f"hubbub: {line}", dim=True), err=True, color=color)


def message_line(frame: Mapping[str, Any]) -> str:
    """A message, as a line for people. The frame has the fields of one in protocol v1."""
    seq = frame.get("seq")
    place = f"{frame.get('room')} {'~' if seq is None else seq}"
    skipped = frame.get("skipped")
    parts = [
        typer.style(_clock(frame.get("ts")), dim=True),
        typer.style(safe(place), fg="cyan"),
        typer.style(safe(str(frame.get("from") or "-")), fg="green"),
        _body(frame.get("data")),
    ]
    if skipped:
        parts.append(typer.style(f"({skipped} before it skipped)", dim=True))
    return "  ".join(parts)


def presence_line(frame: Mapping[str, Any]) -> str | None:
    """Who came or went, or how many are there. None for any other frame."""
    room, count = safe(str(frame.get("room"))), frame.get("count")
    match frame.get("type"):
        case "join":
            told = f"{safe(str(frame.get('user')))} joins"
        case "leave":
            told = f"{safe(str(frame.get('user')))} leaves"
        case "presence" | "joined" if count is not None:
            told = "here"
        case _:
            return None
    users = "" if count is None else f" ({count} {'user' if count == 1 else 'users'})"
    members = frame.get("members")
    names = ": " + ", ".join(safe(str(m["user"])) for m in members) if members else ""
    return typer.style(f"{room}  {told}{users}{names}", fg="yellow")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write columns, the last one as long as it is."""
    written = [list(head), *([safe(cell) for cell in row] for row in rows)]
    widths = [max(len(row[place]) for row in written) for place in range(len(head) - 1)]
    for number, row in enumerate(written):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        line = "  ".join([*cells, row[-1]]).rstrip()
        show(line if number else typer.style(line, dim=True))


def _clock(ts: Any) -> str:
    """The time of a message by the clock here, with the day where that is not clear."""
    try:
        shape = "%H:%M:%S" if abs(time.time() - ts) < _HALF_A_DAY else "%Y-%m-%d %H:%M:%S"
        return time.strftime(shape, time.localtime(ts))
    except (TypeError, ValueError, OverflowError, OSError):
        return "?"  # no time that there is


def _body(data: Any) -> str:
    if isinstance(data, dict) and list(data) == ["text"] and isinstance(data["text"], str):
        return safe(data["text"])
    return safe(_encode(data).decode())
