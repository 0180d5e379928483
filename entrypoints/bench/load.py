"""One run of a plan by the Python load generator. generator.c does the same in the same order."""

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Any

from entrypoints.bench.costs import cpu_seconds, memory_kib
from entrypoints.bench.member import Member
from entrypoints.bench.pace import Pace
from entrypoints.bench.plan import End, Event, Phase, Plan, Progress, Step
from entrypoints.bench.tally import Account, Failure, Tally

_GOODBYE = 2.0  # seconds the server has to take its leave
_PROBE_AGAIN = 0.5
_TICK = 0.01
_SHOW_AGAIN = 0.1


class _Stopwatch:
    """Time and costs of a phase."""

    def __init__(self, name: str, plan: Plan, tally: Tally, first: int | None = None) -> None:
        """`first` is the number of the first message that counts, the next one if None."""
        tally.begin(tally.sent if first is None else first)
        self._name = name
        self._plan = plan
        self._tally = tally
        self._memory = memory_kib(plan.pids)
        self._server_cpu = cpu_seconds(plan.pids)
        self._own_cpu = time.process_time()
        self.began = tally.last_news

    def phase(self, until: float, count: int, messages: int) -> Phase:
        pids = self._plan.pids
        return Phase(
            phase=self._name,
            seconds=until - self.began,
            count=count,
            messages=messages,
            own_cpu=time.process_time() - self._own_cpu,
            latency_ms=self._tally.latencies(),
            server_cpu=cpu_seconds(pids) - self._server_cpu if pids else None,
            rss_kib=(self._memory, memory_kib(pids)) if pids else None,
        )


class Load:
    """One run of a plan. Every method raises Failure."""

    def __init__(
        self, plan: Plan, authorization: str | None, tell: Callable[[Event], None]
    ) -> None:
        self._plan = plan
        self._authorization = authorization
        self._tell = tell
        self._tally = Tally(plan)
        self._accounts = [Account(index) for index in range(plan.connections)]
        self._members: dict[int, Member] = {}
        self._failure: Failure | None = None
        self._shown = 0.0
        self._tls = ssl.create_default_context() if plan.tls else None

    async def run(self) -> None:
        plan = self._plan
        asyncio.get_running_loop().set_exception_handler(self._blunder)
        watch = _Stopwatch("connect", plan, self._tally)
        await self._connect(range(plan.connections), plan.enter, timed=True)
        self._tell(watch.phase(self._tally.last_news, plan.connections, 0))
        if plan.publish is not None:
            await self._prove()
        if plan.messages or plan.seconds:
            pace = Pace(
                messages=plan.messages, seconds=plan.seconds, window=plan.window, rate=plan.rate
            )
            await self._publish("measure", pace, self._room_size)
        if plan.hold:
            await self._stay()
        if plan.missed:
            await self._come_back()
        await self._say_goodbye()
        self._tell(End())

    # Waiting

    def _fail(self, failure: Failure) -> None:
        self._failure = self._failure or failure

    def _blunder(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something of ours has raised in a callback."""
        problem = context.get("exception") or context["message"]
        self._fail(Failure(f"a fault of the load generator: {problem!r}"))

    async def _until(
        self,
        done: Callable[[], bool],
        progress: Callable[[], Progress],
        stalled: Callable[[], str],
    ) -> None:
        """Wait until it is done, telling how far it is, as long as there is news."""
        while self._failure is None and not done():
            now = time.monotonic()
            if now - self._shown > _SHOW_AGAIN:
                self._shown = now
                self._tell(progress())
            if now - self._tally.last_news > self._plan.patience:
                raise Failure(stalled())
            await asyncio.sleep(_TICK)
        if self._failure is not None:
            raise self._failure

    # Connecting

    async def _connect(
        self, indices: Sequence[int], script: Sequence[Step], *, timed: bool = False
    ) -> None:
        waiting, ready = iter(indices), [0]
        workers = [
            asyncio.create_task(self._work(waiting, script, ready, timed))
            for _ in range(min(self._plan.parallel, len(indices)))
        ]
        phase, total, patience = "connect" if timed else "return", len(indices), self._plan.patience
        try:
            await self._until(
                lambda: ready[0] == total,
                lambda: Progress(phase, ready[0], total),
                lambda: (
                    f"{ready[0]} of {total} connections are ready, "
                    f"and nothing came for {patience:g} s"
                ),
            )
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(
        self, indices: Iterator[int], script: Sequence[Step], ready: list[int], timed: bool
    ) -> None:
        for index in indices:
            began = time.monotonic()
            try:
                member = await self._dial(index, script)
            except OSError as error:
                reason = error.strerror or str(error)
                where = f"{self._plan.host} port {self._plan.port}"
                self._fail(Failure(f"cannot connect to {where}: {reason}"))
                return
            self._members[index] = member
            await member.ready
            ready[0] += 1
            self._tally.news(time.monotonic() - began if timed else None)

    async def _dial(self, index: int, script: Sequence[Step]) -> Member:
        member = Member(
            self._accounts[index],
            self._plan,
            self._tally,
            script,
            self._authorization,
            self._fail,
        )
        await asyncio.get_running_loop().create_connection(
            lambda: member, self._plan.host, self._plan.port, ssl=self._tls
        )
        return member

    # Publishing

    def _room_size(self, index: int) -> int:
        rooms = self._plan.rooms
        return (self._plan.connections - index % rooms + rooms - 1) // rooms

    def _send(self, index: int, when: float, expected: int) -> None:
        assert self._plan.publish is not None
        self._members[index].say(self._plan.publish, self._tally.register(when, expected))

    async def _prove(self) -> None:
        """Publish in every room until a message has reached all members. Some doors do not say
        when a member is in; from here on everybody counts."""
        tally, rooms = self._tally, self._plan.rooms
        tally.news()
        probes: dict[int, int] = {}
        asked = 0.0

        def unproved() -> list[int]:
            known = (room for room in range(rooms) if room in probes)
            proved = {room for room in known if tally.arrived(probes[room])}
            return [room for room in range(rooms) if room not in proved]

        def done() -> bool:
            nonlocal asked
            rest, now = unproved(), time.monotonic()
            if now - asked > _PROBE_AGAIN:
                asked = now
                for room in rest:
                    probes[room] = tally.sent
                    self._send(room, now, self._room_size(room))
            return not rest

        await self._until(
            done,
            lambda: Progress("prove", rooms - len(unproved()), rooms),
            lambda: f"{len(unproved())} of {rooms} rooms do not deliver to all their members",
        )

    async def _publish(self, name: str, pace: Pace, reach: Callable[[int], int]) -> None:
        """`reach`: how many are to get what a connection sends."""
        tally, patience = self._tally, self._plan.patience
        watch = _Stopwatch(name, self._plan, tally)
        pace.begin(watch.began)
        turns = cycle(range(self._plan.publishers))
        expected = 0

        def sent() -> int:
            return tally.sent - tally.first_counted

        def send_what_is_due() -> None:
            nonlocal expected
            while self._failure is None:
                when = pace.due(sent(), tally.complete)
                if when is None:
                    return
                index = next(turns)
                expected += reach(index)
                self._send(index, when, reach(index))

        tally.on_complete = send_what_is_due
        timer = asyncio.create_task(pace.tick(send_what_is_due))
        try:
            await self._until(
                lambda: pace.over(sent()) and tally.complete == sent(),
                lambda: Progress(name, *pace.progress(tally.complete)),
                lambda: (
                    f"{expected - tally.deliveries} of {expected} deliveries did not come "
                    f"within {patience:g} s"
                ),
            )
        finally:
            tally.on_complete = None
            timer.cancel()
        self._tell(watch.phase(tally.last_news, tally.deliveries, sent()))

    # Without messages, and after missing some

    async def _stay(self) -> None:
        hold = self._plan.hold
        watch = _Stopwatch("hold", self._plan, self._tally)

        def passed() -> float:
            self._tally.news()
            return time.monotonic() - watch.began

        await self._until(
            lambda: passed() >= hold, lambda: Progress("hold", passed(), hold), lambda: "never"
        )
        self._tell(watch.phase(time.monotonic(), self._plan.connections, 0))

    async def _come_back(self) -> None:
        """All members but the publishers are cut off, miss some messages, come back at once with
        their positions, and must get exactly what they missed."""
        tally, plan = self._tally, self._plan
        absent = range(plan.publishers, plan.connections)
        for index in absent:
            if not self._accounts[index].log:
                raise Failure(f"connection {index} was not told its position")
            self._members[index].vanish()
        await self._publish("away", Pace(messages=plan.missed), lambda _: 1)
        tally.expect_more(len(absent))
        watch = _Stopwatch("return", plan, tally, tally.first_counted)
        tally.storm_began = watch.began
        await self._connect(absent, plan.again)
        await self._until(
            lambda: tally.returned == len(absent),
            lambda: Progress("return", tally.returned, len(absent)),
            lambda: f"{tally.returned} of {len(absent)} came back with all they missed",
        )
        missed = plan.missed * len(absent)
        if tally.deliveries != missed:
            raise Failure(f"{tally.deliveries} of {missed} missed messages came")
        self._tell(watch.phase(tally.last_news, len(absent), missed))

    async def _say_goodbye(self) -> None:
        for member in self._members.values():
            member.say_goodbye()
        await asyncio.wait([member.ended for member in self._members.values()], timeout=_GOODBYE)
