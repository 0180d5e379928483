"""Users in a room, and what is told about their coming and going.

A user is a member from the first session to the last, and, when the last one was lost rather than
ended, for a grace longer: a reload or a tunnel is not a departure.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from domain.errors import RoomFull
from domain.identifiers import RoomId, SessionId, UserId


class Member(NamedTuple):
    """A user in a room. `info` is public JSON from the token; 0 sessions means in grace."""

    user: UserId
    info: bytes
    sessions: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`members` is None where they are not listed; `count` is users, those in grace included."""

    members: tuple[Member, ...] | None
    count: int
    version: int


class ChangeKind(StrEnum):
    JOIN = "join"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class PresenceChange:
    """One user came or went; `count` and `version` are those after it."""

    kind: ChangeKind
    room: RoomId
    user: UserId
    info: bytes
    count: int
    version: int


class Attendance(NamedTuple):
    """What entering a room led to. `joined`: this was the user's first session in it."""

    snapshot: Snapshot
    joined: bool


class _Seat:
    __slots__ = ("info", "sessions")

    def __init__(self, info: bytes) -> None:
        self.info = info
        self.sessions: set[SessionId] = set()


class Roster:
    """The members of one room. Every change raises `version` by exactly one."""

    __slots__ = ("_graced", "_listed", "_room", "_seats", "version")

    def __init__(self, room: RoomId) -> None:
        self._room = room
        self._seats: dict[UserId, _Seat] = {}
        # Users in grace and when it ends, in the order they were lost; with one grace for all of
        # them that is also the order in which they leave, so that expiring looks at the head only.
        self._graced: dict[UserId, float] = {}
        self._listed: tuple[Member, ...] | None = None  # until something changes
        self.version = 0

    def __len__(self) -> int:
        return len(self._seats)

    @property
    def waits(self) -> bool:
        """Whether somebody is in grace."""
        return bool(self._graced)

    def enter(
        self, session: SessionId, user: UserId, info: bytes, max_members: int | None = None
    ) -> PresenceChange | None:
        """Add a session. Returns a change for the first one of a user; raises RoomFull."""
        self._listed = None
        seat = self._seats.get(user)
        if seat is not None:
            seat.sessions.add(session)
            seat.info = info
            self._graced.pop(user, None)
            return None
        if max_members is not None and len(self._seats) >= max_members:
            raise RoomFull(f"{self._room} holds {max_members} members")
        seat = self._seats[user] = _Seat(info)
        seat.sessions.add(session)
        return self._change(ChangeKind.JOIN, user, info)

    def leave(
        self, session: SessionId, user: UserId, *, clean: bool, now: float, grace: float
    ) -> PresenceChange | None:
        """Take a session out. Returns a change when the user is gone with it."""
        seat = self._seats.get(user)
        if seat is None or session not in seat.sessions:
            return None
        self._listed = None
        seat.sessions.remove(session)
        if seat.sessions:
            return None
        if clean or grace <= 0:
            return self._remove(user)
        self._graced[user] = now + grace
        return None

    def expire(self, now: float) -> Iterator[PresenceChange]:
        """Let everybody go whose grace is over."""
        while self._graced:
            user, ends_at = next(iter(self._graced.items()))
            if ends_at > now:
                return
            yield self._remove(user)

    def snapshot(self, list_limit: int | None = None) -> Snapshot:
        """Everybody, ordered by name; no list when there are more than `list_limit`."""
        if list_limit is not None and len(self._seats) > list_limit:
            return Snapshot(None, len(self._seats), self.version)
        if self._listed is None:
            self._listed = tuple(
                Member(user, seat.info, len(seat.sessions))
                for user, seat in sorted(self._seats.items())
            )
        return Snapshot(self._listed, len(self._seats), self.version)

    def _remove(self, user: UserId) -> PresenceChange:
        self._listed = None
        seat = self._seats.pop(user)
        self._graced.pop(user, None)
        return self._change(ChangeKind.LEAVE, user, seat.info)

    def _change(self, kind: ChangeKind, user: UserId, info: bytes) -> PresenceChange:
        self.version += 1
        return PresenceChange(kind, self._room, user, info, len(self._seats), self.version)
