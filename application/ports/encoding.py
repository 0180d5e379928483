"""Port: how what happens in rooms looks at one kind of door."""

from abc import abstractmethod
from typing import Protocol

from application.disconnects import Disconnect
from domain.errors import HubbubError
from domain.identifiers import RoomId
from domain.member import PresenceChange, Snapshot
from domain.message import Message
from domain.timeline import Replay

RequestId = str | int


class Dialect(Protocol):
    """Turns events into complete frames, ready to be written: server WebSocket frames (header
    included), or the events of a stream. Only the transports of its doors know which.

    Members who speak the same dialect share one instance: the hub groups them by it, asks for a
    frame once, and hands the same bytes to all of them. Methods are pure and synchronous. None
    means that this door does not show such an event.
    """

    __slots__ = ()

    @abstractmethod
    def message(self, message: Message, skipped: int = 0) -> bytes | None:
        """A message of a room, numbered or ephemeral; `skipped` is how many before it this member
        of a conflating room is not sent."""

    @abstractmethod
    def presence_change(self, change: PresenceChange) -> bytes | None:
        """One user came or went."""

    @abstractmethod
    def presence_summary(self, room: RoomId, snapshot: Snapshot) -> bytes | None:
        """The count of a crowded room, or the list of one that is no longer crowded."""

    @abstractmethod
    def resync(self, room: RoomId, replay: Replay) -> bytes | None:
        """The numbering of a room could not be continued; what to believe now."""

    @abstractmethod
    def removed(self, room: RoomId, code: str, reason: str) -> bytes | None:
        """The session was taken out of a room."""

    @abstractmethod
    def ping(self) -> bytes | None:
        """A sign of life that a page can see."""

    @abstractmethod
    def error(self, error: HubbubError, request: RequestId | None = None) -> bytes | None:
        """A command was refused or failed; the connection stays."""

    @abstractmethod
    def disconnect(self, disconnect: Disconnect) -> bytes | None:
        """The farewell written just before the close frame."""
