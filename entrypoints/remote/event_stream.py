"""Server-sent events out of bytes, as the HTML standard has them (9.2.6)."""

import re
from typing import NamedTuple

_LINE_END = re.compile(rb"\r\n|\n|\r")
_MAX_BYTES = 16 * 1024 * 1024  # of one event; no hubbub sends as much


class Event(NamedTuple):
    """`data` is its text, and `id` the last event id from here on."""

    name: str
    data: str
    id: str


class NoEvents(Exception):
    """What comes is no event stream."""


class EventParser:
    """Takes bytes as they come. An event whose end never comes has not been there."""

    def __init__(self) -> None:
        self.retry: float | None = None  # seconds to wait before coming back, as last told
        self._rest = b""
        self._size = 0
        self._id = ""
        self._name = ""
        self._data: list[str] = []

    def feed(self, part: bytes) -> list[Event]:
        """The events that are complete with these bytes. Raises NoEvents."""
        text = self._rest + part
        held = b"\r" if text.endswith(b"\r") else b""  # perhaps half of a CRLF
        *lines, rest = _LINE_END.split(text[: len(text) - len(held)])
        self._rest = rest + held
        self._size += len(part)
        events = [event for line in lines if (event := self._line(line)) is not None]
        if events:
            self._size = len(self._rest)
        if self._size > _MAX_BYTES:
            raise NoEvents("an event without an end")
        return events

    def _line(self, line: bytes) -> Event | None:
        if not line:
            return self._complete()
        name, _, text = line.partition(b":")
        try:
            value = text.removeprefix(b" ").decode()
        except UnicodeDecodeError:
            raise NoEvents("not UTF-8") from None
        match name:
            case b"":
                self._size = 0  # a sign of life
            case b"data":
                self._data.append(value)
            case b"event":
                self._name = value
            case b"id" if "\0" not in value:
                self._id = value
            case b"retry" if value.isascii() and value.isdigit() and len(value) < 10:
                self.retry = int(value) / 1000
        return None

    def _complete(self) -> Event | None:
        name, data = self._name or "message", self._data
        self._name, self._data = "", []
        return Event(name, "\n".join(data), self._id) if data else None
