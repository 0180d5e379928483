"""Presence in one process: a roster per room."""

import asyncio
import time
from collections.abc import Callable

from application.ports.presence import Presence, PresenceListener
from domain.identifiers import RoomId, SessionId, UserId
from domain.member import Attendance, PresenceChange, Roster, Snapshot

SWEEP_INTERVAL = 0.25  # seconds; how late a grace may end


class MemoryPresence(Presence):
    """See the port. `grace` is in seconds, counted on `clock` (monotonic)."""

    def __init__(self, grace: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._grace = grace
        self._clock = clock
        self._rosters: dict[RoomId, Roster] = {}
        self._waiting: set[RoomId] = set()  # rooms with somebody in grace
        self._listener: PresenceListener | None = None

    def attach(self, listener: PresenceListener) -> None:
        self._listener = listener

    async def enter(
        self,
        room: RoomId,
        session: SessionId,
        user: UserId,
        info: bytes,
        *,
        max_members: int | None,
        list_limit: int,
    ) -> Attendance:
        roster = self._rosters.get(room) or Roster(room)
        change = roster.enter(session, user, info, max_members)
        self._rosters[room] = roster
        self._tell(change)
        return Attendance(roster.snapshot(list_limit), change is not None)

    def leave(self, room: RoomId, session: SessionId, user: UserId, *, clean: bool) -> None:
        roster = self._rosters.get(room)
        if roster is None:
            return
        now, grace = self._clock(), self._grace
        self._tell(roster.leave(session, user, clean=clean, now=now, grace=grace))
        if roster.waits:
            self._waiting.add(room)
        self._drop_if_empty(room, roster)

    async def snapshot(self, room: RoomId, list_limit: int | None = None) -> Snapshot:
        roster = self._rosters.get(room)
        return Snapshot((), 0, 0) if roster is None else roster.snapshot(list_limit)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            self.sweep()

    def sweep(self) -> None:
        """Let everybody go whose grace is over."""
        now = self._clock()
        for room in list(self._waiting):
            roster = self._rosters.get(room)
            if roster is not None:
                for change in roster.expire(now):
                    self._tell(change)
                self._drop_if_empty(room, roster)
            if roster is None or not roster.waits:
                self._waiting.discard(room)

    def _drop_if_empty(self, room: RoomId, roster: Roster) -> None:
        if not len(roster):
            self._rosters.pop(room, None)

    def _tell(self, change: PresenceChange | None) -> None:
        if change is not None and self._listener is not None:
            self._listener.presence_changed(change)
