"""A room with members on this node, and the groups its frames go out to."""

import asyncio

from application.ports.encoding import Dialect
from application.ports.transport import Transport
from application.session import Membership
from domain.identifiers import SessionId
from domain.room import Room

_MAX_PENDING = 128 * 1024  # bytes a group gathers within one loop turn before it is flushed


class Group:
    """The live members of one room who speak one dialect. `told` counts the notices that went out
    in all, for whoever sets it back."""

    __slots__ = ("_notices", "_pending", "_sent", "_size", "dialect", "told", "transports")

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.transports: dict[Transport, Membership] = {}
        self._pending: list[bytes] = []
        self._size = 0
        self._notices = 0  # of those pending
        self._sent = 0
        self.told = 0

    def notify(self, frame: bytes) -> bool:
        """As `queue`, for a frame that is no message."""
        self._notices += 1
        return self.queue(frame)

    def queue(self, frame: bytes) -> bool:
        """Add a frame for everybody. Returns whether it is the first since the last flush."""
        self._pending.append(frame)
        self._size += len(frame)
        if self._size > _MAX_PENDING:
            self._send()
            return False
        return len(self._pending) == 1

    def flush(self) -> int:
        """Hand what is queued to every member. Returns how many messages went out in all since the
        last time."""
        if self._pending:
            self._send()
        sent, self._sent = self._sent, 0
        return sent

    def _send(self) -> None:
        pending = self._pending
        frames = pending[0] if len(pending) == 1 else b"".join(pending)
        self._pending = []
        self._size = 0
        for transport in self.transports:
            transport.push(frames)
        self._sent += (len(pending) - self._notices) * len(self.transports)
        if self._notices:
            self.told += self._notices * len(self.transports)
            self._notices = 0


class LiveRoom:
    """A room with members on this node, or one that somebody is just entering (`holds`)."""

    __slots__ = (
        "groups",
        "holds",
        "last",
        "memberships",
        "open",
        "opening",
        "room",
        "summary_due",
    )

    def __init__(self, room: Room) -> None:
        self.room = room
        self.groups: dict[Dialect, Group] = {}
        self.memberships: dict[SessionId, Membership] = {}
        self.last: tuple[str, int] = ("", 0)  # log and seq delivered last
        self.holds = 0
        self.open = False  # subscribed
        self.opening: asyncio.Future[None] | None = None
        self.summary_due = False

    def group_of(self, membership: Membership) -> Group:
        """The group of a live member."""
        return self.groups[membership.session.dialect]
