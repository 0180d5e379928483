"""Following rooms: one event stream after the other, each going on where the last one broke."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

import httpx
import msgspec

from entrypoints.remote.event_stream import Event, EventParser, NoEvents
from entrypoints.remote.lines import safe
from entrypoints.remote.problems import Exit, Problem
from entrypoints.remote.server import CREDENTIALS, Target, refusal, stranger, unreached

MAX_ROOMS = 16  # of one event stream
_FIRST_SILENCE = 60.0  # seconds without a sign of life, before the server has said how often
_MARGIN = 10.0  # seconds a ping may be late
_LEAST_WAIT, _MOST_WAIT = 1.0, 30.0  # seconds between two attempts
_STAY_AWAY = 204

_frame = msgspec.json.Decoder(dict[str, Any]).decode


class Wish(NamedTuple):
    """What to follow. `user` is a name to go by where people name themselves."""

    rooms: Sequence[str]
    history: int = 0
    presence: bool = False
    user: str | None = None

    def query(self) -> httpx.QueryParams:
        fields = [("room", room) for room in self.rooms]
        fields += [("history", str(self.history))] if self.history else []
        fields += [("presence", "1")] if self.presence else []
        fields += [] if self.user is None else [("user", self.user)]
        return httpx.QueryParams(tuple(fields))


class Happening(NamedTuple):
    """A frame of protocol v1, read and as it came."""

    frame: dict[str, Any]
    text: str


class _Broken(Exception):
    """The stream is over, and another one may go on. `why` is for people."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Follower:
    """Follows until it is told to stay away. The id of the last event that arrived whole goes
    with the next request, so that nothing is lost or shown twice."""

    def __init__(
        self,
        target: Target,
        wish: Wish,
        seen: Callable[[Happening], None],
        note: Callable[[str], None],
    ) -> None:
        """`seen` gets what happens, `note` what is to be said of the connection."""
        self._target = target
        self._wish = wish
        self._seen = seen
        self._note = note
        self._last_id = ""
        self._retry = _LEAST_WAIT
        self._entered = False  # ever
        self._failures = 0  # since there was a stream

    async def run(self) -> None:
        """Only ends by raising Problem."""
        options = {**self._target.options(), "timeout": httpx.Timeout(15.0, read=None)}
        async with httpx.AsyncClient(**options) as client:
            while True:
                try:
                    await self._stream(client)
                except _Broken as broken:
                    wait = self._wait()
                    self._note(f"{broken.why}; coming back in {wait:.1f} s")
                    await asyncio.sleep(wait)

    async def _stream(self, client: httpx.AsyncClient) -> None:
        """One request. Raises Problem, _Broken."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        request = client.stream("GET", "/v1/events", params=self._wish.query(), headers=headers)
        try:
            async with request as response:
                await self._accepted(response)
                await self._read(response.aiter_bytes())
        except httpx.HTTPError as error:
            if self._entered:
                raise _Broken("the connection broke") from None
            # Most likely the address is wrong: told, and that is all.
            raise unreached(error, self._target) from None
        except NoEvents:
            raise stranger(self._target) from None

    async def _accepted(self, response: httpx.Response) -> None:
        kind = response.headers.get("content-type", "").partition(";")[0]
        if response.status_code == httpx.codes.OK and kind == "text/event-stream":
            return
        if response.status_code == _STAY_AWAY:
            raise Problem("the server asks to stay away", Exit.REFUSED)
        await response.aread()
        if response.is_success:
            raise stranger(self._target)
        problem = refusal(response, self._target)
        if problem.retry is None or not self._entered:
            raise problem
        raise _Broken(problem.text)

    async def _read(self, parts: AsyncIterator[bytes]) -> None:
        parser, silence = EventParser(), _FIRST_SILENCE
        while True:
            try:
                async with asyncio.timeout(silence):
                    part = await anext(parts, b"")
            except TimeoutError:
                raise _Broken(f"nothing was heard for {silence:.0f} s") from None
            events = parser.feed(part)
            if parser.retry is not None:
                self._retry = max(parser.retry, _LEAST_WAIT)
            for event in events:
                interval = self._take(event)
                silence = silence if interval is None else interval + _MARGIN
            if not part:
                raise _Broken("the connection ended")

    def _take(self, event: Event) -> float | None:
        """Pass an event on. Returns the seconds between two pings where it says so."""
        try:
            frame = _frame(event.data)
        except (msgspec.DecodeError, UnicodeEncodeError):
            raise stranger(self._target) from None
        if event.name == "disconnect":
            self._goodbye(frame)
        if event.name == "connected":
            if self._entered and self._failures:
                self._note("connected again")
            self._entered, self._failures = True, 0
            interval = frame.get("ping_interval")
            return float(interval) if isinstance(interval, (int, float)) else None
        if not self._entered:
            raise stranger(self._target)
        self._seen(Happening(frame, event.data))
        self._last_id = event.id or self._last_id
        return None

    def _goodbye(self, frame: dict[str, Any]) -> None:
        code, reason = frame.get("code"), safe(str(frame.get("reason")))
        if not isinstance(code, int):
            raise stranger(self._target)
        if not 4000 <= code < 4100:
            self._entered = True  # it is a hubbub, if a full one
            raise _Broken(f"the server ends the stream: {reason}")
        if code == 4001:
            raise Problem(
                f"{self._target.url} does not let us in ({reason}): {CREDENTIALS}", Exit.REFUSED
            )
        verdict = Exit.REFUSED if code == 4003 else Exit.FAILED
        raise Problem(f"{self._target.url} sends us away: {reason}", verdict)

    def _wait(self) -> float:
        """Seconds until the next attempt: what the server said, which is another number for each
        client, and more with every attempt that came to nothing."""
        self._failures += 1
        longest = min(_MOST_WAIT, self._retry * 2.0 ** min(self._failures - 1, 10))
        return max(self._retry, longest * random.uniform(0.5, 1))
