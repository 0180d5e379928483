"""Port: who is in a room, over all nodes."""

from abc import abstractmethod
from typing import Protocol

from domain.identifiers import RoomId, SessionId, UserId
from domain.member import Attendance, PresenceChange, Snapshot


class PresenceListener(Protocol):
    """Receives changes of the rooms this node attends, in order of their version per room."""

    __slots__ = ()

    @abstractmethod
    def presence_changed(self, change: PresenceChange) -> None:
        """One user came or went."""


class Presence(Protocol):
    """Counts users, not sessions: a user joins with the first session and leaves with the last.

    An unclean loss of the last session keeps the user for a grace, in which a return changes
    nothing. Every change raises the room's version by exactly one. A change is told to the
    listener before `enter` returns its snapshot, or carries a version at most the snapshot's.

    A node that could not hear of every change by itself is told the difference instead: a leave
    for everybody who is gone and a join for everybody who came, all of them with the version and
    the count after the last of the changes missed. So versions may leap there, and then several
    changes carry the same one; they never fall while somebody is in the room.
    """

    __slots__ = ()

    @abstractmethod
    def attach(self, listener: PresenceListener) -> None:
        """Name the node to tell changes to. Called once, before anything else."""

    @abstractmethod
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
        """Add a session of a user. Entering twice is entering once, with the info of the last time.

        The snapshot lists nobody when there are more than `list_limit` users. It holds exactly
        what the listener was told by the time it is returned.
        Raises RoomFull when the user would be one too many, Unavailable when nothing was done, or
        is being taken back. Cancelled, it may have been done: `leave` takes it back.
        """

    @abstractmethod
    def leave(self, room: RoomId, session: SessionId, user: UserId, *, clean: bool) -> None:
        """Take a session out. Leaving twice is harmless.

        Takes effect at once or as soon as it can be told, however long that takes; a grace is
        counted from then on.
        """

    @abstractmethod
    async def snapshot(self, room: RoomId, list_limit: int | None = None) -> Snapshot:
        """Everybody in the room, those in grace included, by user name; nobody listed when there
        are more than `list_limit`. Raises Unavailable."""

    @abstractmethod
    async def run(self) -> None:
        """Expire graces and keep the node's members alive, until cancelled."""
