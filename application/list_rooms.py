"""Use case: somebody asks which rooms there are."""

from collections.abc import Iterable
from heapq import nsmallest
from typing import NamedTuple

from application.hub import Hub
from application.ports.presence import Presence
from domain.grants import Action, Caller
from domain.identifiers import RoomId, owner
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
    """Rooms with a session on this node, but for personal ones."""

    def __init__(self, hub: Hub, presence: Presence, catalog: RoomCatalog) -> None:
        self._hub = hub
        self._presence = presence
        self._catalog = catalog

    async def __call__(
        self, caller: Caller, prefix: str = "", after: str = "", limit: int = PAGE
    ) -> RoomPage:
        """At most `limit` rooms with names that begin with `prefix` and come after `after`, of
        those whose members the caller may list. Raises Unavailable."""
        limit = max(1, min(limit, PAGE))
        wanted = (
            room
            for room in self._names()
            if room > after
            and room.startswith(prefix)
            and owner(room) is None
            and caller.may(Action.MEMBERS, room)
        )
        found = nsmallest(limit + 1, wanted)
        rooms = [RoomCount(room, await self._count(room)) for room in found[:limit]]
        return RoomPage(rooms, more=len(found) > limit)

    def _names(self) -> Iterable[RoomId]:
        """Where the names come from. Those of this node only: nobody else's are known here."""
        return self._hub.rooms()

    async def _count(self, room: RoomId) -> int | None:
        if self._catalog.of(room).presence is PresenceMode.OFF:
            return None
        return (await self._presence.snapshot(room, 0)).count
