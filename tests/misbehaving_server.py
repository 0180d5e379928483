"""Servers of one room that get something wrong, to prove that it is seen."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

Fault = Callable[["Room", str], list[str]]


class Room:
    """Whatever a member sends goes to all, as the fault decides: frame in, frames out."""

    def __init__(self, fault: Fault) -> None:
        self.count = 0  # messages so far
        self.texts: list[str] = []
        self._fault = fault
        self._members: set[ServerConnection] = set()

    async def handle(self, connection: ServerConnection) -> None:
        self._members.add(connection)
        try:
            async for frame in connection:
                assert isinstance(frame, str)
                self.count += 1
                self.texts.append(frame)
                for answer in self._fault(self, frame):
                    for member in list(self._members):
                        await member.send(answer)
        finally:
            self._members.discard(connection)


def faultless(room: Room, frame: str) -> list[str]:
    return [frame]


def repeating(room: Room, frame: str) -> list[str]:
    return [frame, frame]


def silent(room: Room, frame: str) -> list[str]:
    """After the first, so that everybody has been seen to be there."""
    return [frame] if room.count == 1 else []


def swapping(room: Room, frame: str) -> list[str]:
    """The second and the third change places."""
    if room.count == 2:
        return []
    return [frame, room.texts[1]] if room.count == 3 else [frame]


def inventing(room: Room, frame: str) -> list[str]:
    """A message with a number that was never used."""
    return [frame.replace("0000000001", "0000000099")]


def skipping(room: Room, frame: str) -> list[str]:
    """A hole in the numbering."""
    seq = room.count if room.count < 3 else room.count + 1
    return [json.dumps({"text": frame, "seq": seq}, separators=(",", ":"))]


def batching(room: Room, frame: str) -> list[str]:
    """Two messages in one frame are no fault: some servers do that."""
    if room.count == 1:
        return [frame]
    return [] if room.count % 2 == 0 else [room.texts[-2] + "\n" + frame]


def refusing(room: Room, frame: str) -> list[str]:
    return ['{"type":"error","code":"rate_limited","message":"too \\"fast\\""}']


@asynccontextmanager
async def room_server(fault: Fault) -> AsyncIterator[int]:
    """Yields the port."""
    async with serve(Room(fault).handle, "127.0.0.1", 0, compression=None) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def greeting_server(greet: Callable[[ServerConnection], object]) -> AsyncIterator[int]:
    """A server that does one thing to whoever comes. Yields the port."""

    async def handle(connection: ServerConnection) -> None:
        done = greet(connection)
        if hasattr(done, "__await__"):
            await done
        await connection.wait_closed()

    async with serve(handle, "127.0.0.1", 0, compression=None) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def closed_door() -> AsyncIterator[int]:
    """A server that answers every request with 503. Yields the port."""

    def refuse(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "over capacity\n")

    async def never(connection: ServerConnection) -> None:
        raise AssertionError("nobody gets in")

    async with serve(never, "127.0.0.1", 0, process_request=refuse) as server:
        yield server.sockets[0].getsockname()[1]
