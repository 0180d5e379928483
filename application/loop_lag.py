"""How late this process comes to what is due: the first sign of one that has too much to do."""

import asyncio
import time
from collections.abc import Callable

from application.ports.metrics import Metrics

INTERVAL = 0.25  # seconds between two looks


class LoopLag:
    """Sets a timer again and again, and notes how late it fires."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            due = self._clock() + INTERVAL
            await asyncio.sleep(INTERVAL)
            self._metrics.observe("event_loop_lag_seconds", max(0.0, self._clock() - due))
