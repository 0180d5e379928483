"""An event stream as a browser reads it: the parsing of the HTML standard, 9.2.6, and nothing of
hubbub but that data is JSON."""

import asyncio
import json
import re
import ssl
from collections import deque
from collections.abc import AsyncIterator
from typing import NamedTuple

import httpx

from tests.peer import DEADLINE, Frame

_LINE_END = re.compile(rb"\r\n|\n|\r")


class Event(NamedTuple):
    """`id` is the last event id at the time of the event."""

    name: str
    frame: Frame
    id: str


class EventParser:
    """Takes bytes as they come. What a reader holds of an unfinished event is lost at the end."""

    def __init__(self) -> None:
        self.last_id = ""
        self.retry: int | None = None  # ms
        self.comments = 0
        self._rest = b""
        self._id = ""
        self._name = ""
        self._data: list[str] = []

    def feed(self, part: bytes) -> list[Event]:
        """The events that are complete with these bytes."""
        self._rest += part
        # A CR at the very end may be half of a CRLF.
        held = b"\r" if self._rest.endswith(b"\r") else b""
        *lines, rest = _LINE_END.split(self._rest[: len(self._rest) - len(held)])
        self._rest = rest + held
        events = []
        for line in lines:
            event = self._line(line.decode())
            if event is not None:
                events.append(event)
        return events

    def _line(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "":
                self.comments += 1
            case "data":
                self._data.append(value)
            case "event":
                self._name = value
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry = int(value)
        return None

    def _dispatch(self) -> Event | None:
        self.last_id = self._id
        name, data = self._name or "message", self._data
        self._name, self._data = "", []
        return Event(name, json.loads("\n".join(data)), self.last_id) if data else None


class EventSource:
    """One request for a stream. Every wait has a deadline. Close it at the end."""

    def __init__(self, client: httpx.AsyncClient, response: httpx.Response) -> None:
        self.response = response
        self.parser = EventParser()
        self._client = client
        self._parts: AsyncIterator[bytes] = response.aiter_bytes()
        self._events: deque[Event] = deque()

    @classmethod
    async def open(cls, url: str, last_id: str = "", **headers: str) -> "EventSource":
        if last_id:
            headers["Last-Event-ID"] = last_id
        # Not needed here, and reading all the certificates of the machine takes its time.
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client = httpx.AsyncClient(verify=tls, trust_env=False, timeout=DEADLINE)
        request = client.build_request("GET", url, headers=headers)
        return cls(client, await client.send(request, stream=True))

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def last_id(self) -> str:
        """What a browser would hand in now."""
        return self.parser.last_id

    async def next(self) -> Event | None:
        """The next event, None at the end of the stream."""
        while not self._events:
            part = await self.part()
            if not part:
                return None
            self._events.extend(self.parser.feed(part))
        return self._events.popleft()

    async def part(self) -> bytes:
        """The next bytes, as they come and not parsed; nothing at the end of the stream."""
        async with asyncio.timeout(DEADLINE):
            try:
                return await anext(self._parts)
            except (StopAsyncIteration, httpx.RemoteProtocolError, httpx.ReadError):
                return b""

    async def expect(self, name: str, **fields: object) -> Event:
        """The next event, which must be of this name and have these fields."""
        event = await self.next()
        assert event is not None, "the stream is over"
        got = {field: event.frame.get(field, ...) for field in fields}
        assert (event.name, got) == (name, fields), event
        assert event.frame["type"] == name
        return event

    async def joined(self, *rooms: str) -> list[Event]:
        """The events that a stream begins with, without the first."""
        await self.expect("connected")
        return [await self.expect("joined", room=room) for room in rooms]

    async def rest(self) -> list[Event]:
        """Everything until the end of the stream."""
        events = []
        while (event := await self.next()) is not None:
            events.append(event)
        return events

    async def refused(self) -> Event:
        """The only event of a stream that somebody who is not let in gets."""
        assert self.status == 200
        (event,) = await self.rest()
        assert event.name == event.frame["type"] == "disconnect"
        return event

    async def close(self) -> None:
        """Be gone; the server finds out by itself."""
        await self.response.aclose()
        await self._client.aclose()
