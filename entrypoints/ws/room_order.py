"""Commands on one room take effect in the order sent, also while one of them has to wait."""

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from domain.errors import RateLimited
from domain.identifiers import RoomId

Work = Callable[[], Coroutine[Any, Any, None]]
"""Called where it is awaited: a coroutine made before would be left unawaited by a task that is
cancelled before its first step."""

Command = Callable[[], Work | None]
"""Does its work and returns None, or returns the rest of it."""


MAX_WAITING = 256  # commands on one room of one connection


class RoomOrder:
    """One connection's queues, a room each, there only while something is under way in it."""

    __slots__ = ("_spawn", "_waiting")

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._spawn = spawn
        self._waiting: dict[str, deque[Command]] = {}

    def run(self, room: RoomId | str, command: Command) -> None:
        """Run a command now, or once those before it are through. Raises RateLimited when too
        many wait."""
        waiting = self._waiting.get(room)
        if waiting is not None:
            if len(waiting) >= MAX_WAITING:
                raise RateLimited(f"{MAX_WAITING} commands wait for {room}", retry_after=1.0)
            waiting.append(command)
            return
        rest = command()
        if rest is not None:
            self._waiting[room] = deque()
            self._spawn(self._finish(room, rest))

    async def _finish(self, room: str, rest: Work) -> None:
        waiting = self._waiting[room]
        await rest()
        while waiting:
            following = waiting.popleft()()
            if following is not None:
                await following()
        del self._waiting[room]
