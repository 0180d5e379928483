"""Use case: this node is about to stop, and its clients should come back one by one."""

import asyncio
import random
from contextlib import suppress

from application.disconnects import RESTARTING
from application.hub import Hub

RETURNS_PER_SECOND = 50.0  # clients that come back; fewer of them need less than the window
_SETTLE = 1.0  # seconds of the window that every stop may take


class Drain:
    """Sends every client away with a moment of its own to come back.

    The moments lie evenly over a window, in random order. A client is closed at half of its time
    and told to wait for the other half: so the server is gone after half of the window, nobody is
    away for longer than that, and no two clients return together.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def __call__(self, window: float, hurry: asyncio.Event) -> None:
        """Returns when no session is left. `window` is in seconds, the longest it may be; once
        `hurry` is set the rest is closed at once."""
        sessions = list(self._hub.sessions.values())
        random.shuffle(sessions)
        span = min(window, _SETTLE + len(sessions) / RETURNS_PER_SECOND)
        loop = asyncio.get_running_loop()
        start = loop.time()
        for index, session in enumerate(sessions):
            half = span * index / len(sessions) / 2
            wait = start + half - loop.time()
            if wait > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(hurry.wait(), wait)
            session.end(RESTARTING._replace(reconnect_after=round(half, 3)))
        # Whoever was at the gate already when it was shut may have come in meanwhile.
        for session in list(self._hub.sessions.values()):
            session.end(RESTARTING._replace(reconnect_after=round(span / 2, 3)))
