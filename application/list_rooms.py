"""Use case: somebody asks which rooms there are."""

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from application.ports.directory import Directory
from application.ports.presence import Presence
from domain.grants import Action, Caller
from domain.identifiers import RoomId
from domain.options import PresenceMode, RoomCatalog

PAGE = 100


class RoomCount(NamedTuple):
    """`users` on all nodes, those in grace included; None without presence."""

    room: RoomId
    users: int | None


class RoomPage(NamedTuple):
    """Rooms by name; `more` means that there are further ones after the last."""

    rooms: list[RoomCount]
    more: bool


class ListRooms:
    """Rooms with a session on any node, but for personal ones."""

    def __init__(self, directory: Directory, presence: Presence, catalog: RoomCatalog) -> None:
        self._directory = directory
        self._presence = presence
        self._catalog = catalog

    async def __call__(
        self, caller: Caller, prefix: str = "", after: str = "", limit: int = PAGE
    ) -> RoomPage:
        """At most `limit` rooms with names that begin with `prefix` and come after `after`, of
        those whose members the caller may list. Raises Unavailable."""
        limit = max(1, min(limit, PAGE))
        # Only what the caller may see is asked for: others' rooms could be any number.
        beginnings = _within(prefix, caller.grants.beginnings(Action.MEMBERS))
        pages = await asyncio.gather(
            *(self._directory.page(each, after, limit + 1) for each in beginnings)
        )
        wanted = {room for page in pages for room in page if caller.may(Action.MEMBERS, room)}
        found = sorted(wanted)[: limit + 1]
        counts = await asyncio.gather(*map(self._count, found[:limit]))
        rooms = [RoomCount(*each) for each in zip(found, counts, strict=False)]
        return RoomPage(rooms, more=len(found) > limit)

    async def _count(self, room: RoomId) -> int | None:
        if self._catalog.of(room).presence is PresenceMode.OFF:
            return None
        return (await self._presence.snapshot(room, 0)).count


def _within(prefix: str, beginnings: Iterable[str]) -> list[str]:
    """What names begin with that begin with `prefix` and with one of `beginnings`."""
    both = [
        max(prefix, each, key=len)
        for each in beginnings
        if each.startswith(prefix) or prefix.startswith(each)
    ]
    shortest: list[str] = []
    for each in sorted(set(both)):  # what another one begins with comes before it
        if not shortest or not each.startswith(shortest[-1]):
            shortest.append(each)
    return shortest
