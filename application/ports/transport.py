"""Port: one connection to one peer."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol

from application.disconnects import Disconnect

Receive = Callable[[str | bytes], None]
"""Takes one frame from the peer: text as str, binary as bytes. Must not raise."""


class TransportListener(Protocol):
    """What a transport tells its session. Calls never come from inside `push`."""

    __slots__ = ()

    @abstractmethod
    def overflowed(self) -> None:
        """The backlog passed its limit. Told once; the transport takes no more frames."""

    @abstractmethod
    def drained(self) -> None:
        """The transport is `ready` or `idle` again after somebody saw that it was not."""


class Transport(Protocol):
    """Sends frames to one peer, in the order they were pushed, without ever blocking the caller.

    The backlog is counted in bytes: everything pushed and not yet taken by the kernel, as far as
    the server lets us see. A transport never raises for a peer that is gone; it swallows frames
    until its session is closed.
    """

    __slots__ = ()

    @abstractmethod
    def attach(self, listener: TransportListener) -> None:
        """Name the session to be told. Called once, before the first push."""

    @abstractmethod
    def push(self, frames: bytes) -> None:
        """Queue one or more complete frames: those of WebSocket, or events where the dialect is
        one of event streams. Never waits, never calls back."""

    @property
    @abstractmethod
    def backlog(self) -> int:
        """Bytes pushed and not yet written."""

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether there is room for a page of history. After a False, `drained` will be told."""

    @property
    @abstractmethod
    def idle(self) -> bool:
        """Whether the peer keeps up: nothing from earlier turns waits. After a False, `drained`
        will be told."""

    @property
    def compressed(self) -> bool:
        """Whether frames compressed by permessage-deflate (RFC 7692) may be pushed."""
        return False

    @abstractmethod
    def ping(self) -> bool:
        """Ask the peer for a sign of life. False when this server gives no way to: expect none."""

    @abstractmethod
    def hold(self, seconds: float) -> None:
        """Read nothing more from the peer for so long: it sends faster than it may."""

    @abstractmethod
    def heard(self) -> bool:
        """Whether the peer gave a sign of life since the last call: it sent anything at all, or,
        where it has nothing to send, did not leave all that waited for it untaken."""

    @abstractmethod
    def close(self, disconnect: Disconnect, farewell: bytes | None, *, discard: bool) -> None:
        """Write what is queued (nothing, with `discard`), `farewell`, then a close frame where
        there are such.

        A peer that does not take them is cut off at a deadline of 5 s. Idempotent: the first
        call counts.
        """

    @abstractmethod
    async def run(self, receive: Receive) -> int:
        """Carry frames both ways until the connection is over; returns the close code received,
        1006 for none. Frames that arrived before are handed over first, in order."""
