"""When the Python load generator sends its messages."""

import asyncio
import math
import time
from collections.abc import Callable


class Pace:
    """At most `window` messages on their way, or `rate` a second, until there were `messages` or
    `seconds` are over (0: no such bound)."""

    def __init__(
        self, *, messages: int = 0, seconds: float = 0.0, window: int = 1, rate: float = 0.0
    ) -> None:
        self._messages = messages or math.inf
        self._seconds = seconds or math.inf
        self._window = window
        self._rate = rate
        self._began = 0.0

    def begin(self, now: float) -> None:
        self._began = now

    def over(self, sent: int) -> bool:
        """Whether nothing more is to be sent."""
        return sent >= self._messages or time.monotonic() - self._began >= self._seconds

    def due(self, sent: int, complete: int) -> float | None:
        """When the next message should have been sent, None while it should not.

        At a fixed rate that is not when it is sent: a server that stalls must show.
        """
        if self.over(sent):
            return None
        now = time.monotonic()
        if not self._rate:
            return now if sent - complete < self._window else None
        when = self._began + sent / self._rate
        return when if when <= now else None

    def progress(self, complete: int) -> tuple[float, float]:
        """How far it is, of how much."""
        if self._seconds < math.inf:
            return min(time.monotonic() - self._began, self._seconds), self._seconds
        return complete, self._messages

    async def tick(self, send: Callable[[], None]) -> None:
        """Call in time for everything that is due, until cancelled. Answers call by themselves."""
        send()
        while self._rate:
            passed = time.monotonic() - self._began
            await asyncio.sleep(math.ceil(passed * self._rate) / self._rate - passed)
            send()
