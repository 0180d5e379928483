"""A reader of rooms over an event stream, who comes back with the last id as a browser does."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import httpx

from tests.chaos.history import AnyEvent, Cut, now
from tests.chaos.notebook import Notebook
from tests.event_source import Event, EventSource

_PAUSE = 0.3  # seconds before it comes back


class Reader:
    """One stream after another, until `stop`. `where` as in Client."""

    def __init__(
        self,
        user: str,
        rooms: Sequence[str],
        where: Callable[[], int | None],
        history: list[AnyEvent],
    ) -> None:
        self.notebook = Notebook(user, rooms, history)
        self.user = user
        self._where = where
        query = "&".join(f"room={room}" for room in rooms)
        self._path = f"/v1/events?user={user}&{query}"
        self._last_id = ""
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Raises what went wrong in it."""
        self._running.cancel()
        with suppress(asyncio.CancelledError):
            await self._running

    def check(self) -> None:
        """Raises what went wrong in it."""
        if self._running.done() and not self._running.cancelled():
            self._running.result()

    async def _run(self) -> None:
        while True:
            port = self._where()
            if port is not None:
                with suppress(httpx.HTTPError, OSError, TimeoutError):
                    await self._stream(f"http://127.0.0.1:{port}{self._path}")
                self.notebook.left()
            await asyncio.sleep(_PAUSE)

    async def _stream(self, url: str) -> None:
        source = await EventSource.open(url, self._last_id)
        try:
            if source.status != 200:
                return
            while (event := await source.next()) is not None:
                self._take(event)
            self.notebook.note(Cut(now(), self.user, 0))
        finally:
            await source.close()

    def _take(self, event: Event) -> None:
        frame = event.frame
        seat = self.notebook.seats.get(frame.get("room", ""))
        if seat is not None and frame["type"] in ("joined", "resync"):
            self.notebook.stands(seat, frame)
        elif seat is not None and frame["type"] == "message" and "seq" in frame:
            self.notebook.given(seat, frame)
        # What follows an event that broke off is given again from here.
        self._last_id = event.id
