"""Directory of the only node."""

import asyncio
from collections.abc import Sequence

from application.ports.directory import Directory
from domain.identifiers import RoomId
from domain.listing import first_after


class MemoryDirectory(Directory):
    """See the port."""

    def __init__(self) -> None:
        self._rooms: set[RoomId] = set()

    def opened(self, room: RoomId) -> None:
        self._rooms.add(room)

    def closed(self, room: RoomId) -> None:
        self._rooms.discard(room)

    async def page(self, prefix: str, after: str, limit: int) -> Sequence[RoomId]:
        return first_after(self._rooms, prefix, after, limit)

    async def run(self) -> None:
        await asyncio.Event().wait()  # there is nobody to tell
