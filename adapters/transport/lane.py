"""The fast lane: complete frames straight to the socket, past ASGI.

What it saves, per frame to a member: an ASGI event, a task switch, framing, and, for all frames
of one loop turn but the first, a system call.
"""

import asyncio
import os
from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol

from application.disconnects import Disconnect
from application.ports.transport import Receive, Transport, TransportListener

CLOSE_DEADLINE = 5.0  # seconds from the beginning of the end to the end of the connection


class Lane(Protocol):
    """What the server's protocol class lets us do to its connection. All of it synchronous."""

    @property
    @abstractmethod
    def compressed(self) -> bool:
        """Whether the peer agreed to compressed frames."""

    @property
    @abstractmethod
    def buffered(self) -> int:
        """Bytes handed to `write` and not yet taken by the kernel."""

    @abstractmethod
    def write(self, frames: bytes) -> None:
        """Write, or buffer what the kernel does not take. Nothing, once `is_closing`."""

    @abstractmethod
    def socket_fd(self) -> int | None:
        """The socket, when bytes may be written to it directly (no TLS), as long as the lane is not
        clogged: see `watch`."""

    @abstractmethod
    def is_closing(self) -> bool:
        """Whether the connection is gone or going."""

    @abstractmethod
    def send_ping(self) -> bool:
        """Send a WebSocket ping; False when the connection is no longer open."""

    @abstractmethod
    def hold(self, seconds: float) -> None:
        """Read nothing more from the peer for so long."""

    @abstractmethod
    def heard(self) -> bool:
        """Whether the peer gave a sign of life since the last call."""

    @abstractmethod
    def close_frame(self, code: int, reason: str) -> bytes:
        """Begin the closing handshake; the frame to write for it, empty when it has begun.

        The connection is dropped CLOSE_DEADLINE later, with everything still unsent.
        """

    @abstractmethod
    def watch(self, clogged: Callable[[bool], None]) -> None:
        """Tell `clogged` whether something is buffered, now if so and whenever it changes. A lane
        that is gone counts as clogged for good: its descriptor may be another's already."""

    @abstractmethod
    def divert(self, receive: Receive) -> "asyncio.Future[int]":
        """Hand frames to `receive` from now on, those that wait first. The result is the close
        code received, 1006 for none, once nothing more can come."""


class Turn:
    """The connections with something to write in this turn of the event loop, the `due` ones.
    Whoever adds the first of them calls `begin` before."""

    __slots__ = ("due",)

    def __init__(self) -> None:
        self.due: list[LaneTransport] = []

    def begin(self) -> None:
        asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        due, self.due = iter(self.due), []
        try:
            for transport in due:
                transport.flush()
        finally:
            if left := list(due):  # what fails on one connection must not strand the others
                if not self.due:
                    self.begin()
                self.due += left


class LaneTransport(Transport):
    """One connection's outbox: a list of frames for this turn, then the server's write buffer."""

    __slots__ = (
        "_clogged",
        "_closing",
        "_fd",
        "_lane",
        "_limit",
        "_listener",
        "_queue",
        "_queued",
        "_taking",
        "_turn",
        "_wanted",
    )

    def __init__(self, lane: Lane, turn: Turn, limit: int) -> None:
        """`limit`: bytes of backlog over which the peer counts as too slow."""
        self._lane = lane
        self._turn = turn
        self._limit = limit
        self._listener: TransportListener | None = None
        self._queue: list[bytes] = []
        self._queued = 0  # bytes in it
        self._clogged = False
        self._wanted = False  # somebody saw `ready` or `idle` false and waits for `drained`
        self._closing = False
        self._taking = True
        lane.watch(self._note_clogged)
        self._fd = lane.socket_fd()

    def attach(self, listener: TransportListener) -> None:
        self._listener = listener

    def push(self, frames: bytes) -> None:
        if not self._taking:
            return
        queue = self._queue
        if not queue:
            turn = self._turn
            if not turn.due:
                turn.begin()
            turn.due.append(self)
        queue.append(frames)
        self._queued += len(frames)
        if self._queued > self._limit:
            self.flush()  # how much one turn brings says nothing about the peer

    def flush(self) -> None:
        """Write what was pushed in this turn, with one system call if the kernel takes it."""
        queue = self._queue
        if len(queue) == 1:
            frames = queue.pop()
        elif queue:
            frames = b"".join(queue)
            queue.clear()
        else:
            return
        self._queued = 0
        if self._clogged or self._fd is None:
            self._lane.write(frames)
        else:
            try:
                sent = os.write(self._fd, frames)
            except OSError:
                sent = 0  # full or broken; the server's own write finds out and acts
            if sent < len(frames):
                self._lane.write(frames[sent:])
        if self._clogged:
            self._check_limit()
        elif self._wanted:
            self._promise_drained()

    @property
    def compressed(self) -> bool:
        return self._lane.compressed

    @property
    def backlog(self) -> int:
        return self._queued + (self._lane.buffered if self._clogged else 0)

    @property
    def ready(self) -> bool:
        if self.backlog > self._limit // 4:
            self._wanted = True
            return False
        return True

    @property
    def idle(self) -> bool:
        if self._clogged:
            self._wanted = True
        return not self._clogged

    def ping(self) -> bool:
        return not self._closing and self._lane.send_ping()

    def heard(self) -> bool:
        return self._lane.heard()

    def hold(self, seconds: float) -> None:
        self._lane.hold(seconds)

    def close(self, disconnect: Disconnect, farewell: bytes | None, *, discard: bool) -> None:
        if self._closing:
            return
        if discard:
            self._queue.clear()
            self._queued = 0
        if farewell is not None:
            self._queue.append(farewell)
        self._queue.append(self._lane.close_frame(disconnect.code, disconnect.reason))
        self._closing, self._taking = True, False
        self.flush()

    async def run(self, receive: Receive) -> int:
        try:
            return await self._lane.divert(receive)
        finally:
            self._closing, self._taking = True, False
            self._queue.clear()

    def _note_clogged(self, clogged: bool) -> None:
        self._clogged = clogged
        if not clogged and self._wanted:
            self._promise_drained()

    def _promise_drained(self) -> None:
        # Later, like all that is told: a flush runs within a loop over connections.
        asyncio.get_running_loop().call_soon(self._tell_drained)

    def _tell_drained(self) -> None:
        if self._wanted and not self._clogged and self._listener is not None and self.ready:
            self._wanted = False
            self._listener.drained()

    def _check_limit(self) -> None:
        if self._taking and self.backlog > self._limit:
            self._taking = False
            if self._listener is not None:
                asyncio.get_running_loop().call_soon(self._listener.overflowed)
