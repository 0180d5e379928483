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
        """Add a session of a user. Entering twice is entering once.

        The snapshot lists nobody when there are more than `list_limit` users.
        Raises RoomFull when the user would be one too many, Unavailable when nothing was done.
        """

    @abstractmethod
    def leave(self, room: RoomId, session: SessionId, user: UserId, *, clean: bool) -> None:
        """Take a session out. Takes effect at once or a little later; leaving twice is harmless."""

    @abstractmethod
    async def snapshot(self, room: RoomId, list_limit: int | None = None) -> Snapshot:
        """Everybody in the room, those in grace included, by user name; nobody listed when there
        are more than `list_limit`. Raises Unavailable."""

    @abstractmethod
    async def run(self) -> None:
        """Expire graces and keep the node's members alive, until cancelled."""
