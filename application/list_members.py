"""Use case: somebody asks who is in a room."""

from bisect import bisect_right
from dataclasses import dataclass

from application.ports.presence import Presence
from domain.errors import NotGranted
from domain.grants import Action, Caller
from domain.identifiers import RoomId, room_id
from domain.member import Member
from domain.options import PresenceMode, RoomCatalog

PAGE = 100


@dataclass(frozen=True, slots=True)
class MemberPage:
    """Members by name. `members` is None where the room does not list them, `count` and
    `version` as well where it keeps no presence at all."""

    room: RoomId
    members: list[Member] | None
    count: int | None
    version: int | None
    more: bool


class ListMembers:
    def __init__(self, presence: Presence, catalog: RoomCatalog) -> None:
        self._presence = presence
        self._catalog = catalog

    async def __call__(
        self, caller: Caller, name: str, after: str | None = None, limit: int = PAGE
    ) -> MemberPage:
        """At most `limit` members with names after `after`. Raises BadName, NotGranted,
        Unavailable."""
        room = room_id(name)
        if not caller.may(Action.MEMBERS, room):
            raise NotGranted(f"no grant to list the members of {room}")
        mode = self._catalog.of(room).presence
        if mode is PresenceMode.OFF:
            return MemberPage(room, None, None, None, more=False)
        snapshot = await self._presence.snapshot(room)
        if mode is PresenceMode.COUNT or snapshot.members is None:
            return MemberPage(room, None, snapshot.count, snapshot.version, more=False)
        members = snapshot.members
        start = 0 if after is None else bisect_right(members, after, key=lambda m: m.user)
        page = list(members[start : start + max(1, min(limit, PAGE))])
        return MemberPage(
            room, page, snapshot.count, snapshot.version, more=start + len(page) < len(members)
        )
