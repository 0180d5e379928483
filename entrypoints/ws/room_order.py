"""Commands on one room take effect in the order sent, also while one of them has to wait."""

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from domain.errors import RateLimited
from entrypoints.ws.connection import size_of

Work = Callable[[], Coroutine[Any, Any, None]]
"""Called where it is awaited: a coroutine made before would be left unawaited by a task that is
cancelled before its first step."""

Command = Callable[[], Work | None]
"""Does its work and returns None, or returns the rest of it."""


MAX_WAITING = 256  # commands on one room of one connection
MAX_WAITING_BYTES = 1_048_576  # of commands on all rooms of one connection
ENVELOPE = 256  # bytes that a command takes beside its frame, more or less


class RoomOrder:
    """One connection's queues, a room each, there only while something is under way in it."""

    __slots__ = ("_bytes", "_over", "_spawn", "_waiting")

    def __init__(
        self, spawn: Callable[[Coroutine[Any, Any, None]], object], over: Callable[[], bool]
    ) -> None:
        """`over`: whether the session has ended, so that nothing which waits is done any more."""
        self._spawn = spawn
        self._over = over
        self._bytes = 0  # of what waits
        self._waiting: dict[str | None, deque[tuple[Command, int]]] = {}

    def run(self, room: str | None, command: Command, sent: str = "") -> None:
        """Run a command now, or once those before it are through. `room` is whatever text names
        it, None for the connection itself; `sent` the frame it came in, if it came from the client.

        Raises RateLimited when too many wait, or too much over all rooms."""
        waiting = self._waiting.get(room)
        if waiting is not None:
            self._queue(waiting, command, size_of(sent) + ENVELOPE)
            return
        rest = command()
        if rest is not None:
            self._waiting[room] = deque()
            self._spawn(self._finish(room, rest))

    def _queue(self, waiting: deque[tuple[Command, int]], command: Command, size: int) -> None:
        if len(waiting) >= MAX_WAITING:
            raise RateLimited(f"{MAX_WAITING} commands wait for one room", retry_after=1.0)
        if self._bytes and self._bytes + size > MAX_WAITING_BYTES:
            raise RateLimited(f"{MAX_WAITING_BYTES} bytes of commands wait", retry_after=1.0)
        waiting.append((command, size))
        self._bytes += size

    async def _finish(self, room: str | None, rest: Work) -> None:
        waiting = self._waiting[room]
        await rest()
        while waiting:
            command, size = waiting.popleft()
            self._bytes -= size
            following = None if self._over() else command()
            if following is not None:
                await following()
        del self._waiting[room]
