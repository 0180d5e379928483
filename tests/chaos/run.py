"""One run: clients and publishers on a system, a fault among them, and the verdict."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import publisher, stores
from tests.chaos.checker import Finding, Verdict, check
from tests.chaos.history import AnyEvent, Fault, Kept, now, write
from tests.chaos.member import Member
from tests.chaos.notebook import Seat
from tests.chaos.publisher import Publisher
from tests.chaos.reader import Reader
from tests.chaos.system import Setting, System

JOIN_DEADLINE = 120.0  # seconds; hundreds of clients on a busy machine
PATIENCE = 60.0  # seconds after which what should have come about counts as broken
CALM = 1.0  # seconds of load before a fault, and after it
_BRIEFLY = 1.0  # seconds, where a promise is broken already
_LOOK = 0.02
_TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Load:
    """`members` are users with a WebSocket, `readers` with an event stream; each is in
    `rooms_each` of the rooms (0: in all). Each publisher pauses for `pause` seconds after every
    answer. `pace` shortens the pauses of clients that come back."""

    members: int = 16
    readers: int = 2
    rooms: int = 4
    rooms_each: int = 2
    publishers: int = 4
    pause: float = 0.02
    padding: int = 0
    impatient: float = 0.1
    pace: float = 0.25
    prefix: str = "room"


@dataclass(frozen=True)
class Row:
    """A line of the fault matrix. `inject` does the harm and undoes it, while there is load;
    `judge` names what else was promised and not kept."""

    name: str
    fault: str
    injected: str
    expected: str
    inject: Callable[["Run"], Awaitable[None]]
    setting: Setting
    load: Load = Load()
    may_lose: bool = False
    marker: bool = True
    judge: Callable[["Run", Verdict], Iterator[str]] = lambda run, verdict: iter(())


class Run:
    """Made by `perform`. Injections find here what there is to be harmed."""

    def __init__(
        self, system: System, load: Load, name: str, rng: random.Random, patience: float
    ) -> None:
        self.system = system
        self.patience = patience
        self.load = load
        self.rng = rng
        self.history: list[AnyEvent] = []
        self.rooms = [f"{load.prefix}-{name}-{number}" for number in range(load.rooms)]
        self.name = name
        self.members = [self._member(number) for number in range(load.members)]
        self.readers = [self._reader(number) for number in range(load.readers)]
        self.publishers = [self._publisher(number) for number in range(load.publishers)]
        self.notes: dict[str, float] = {}  # figures of the row's own
        self.broken: list[str] = []  # promises an injection saw broken
        self._enough = asyncio.Event()
        self._talking: list[asyncio.Task[None]] = []

    def _rng(self) -> random.Random:
        return random.Random(self.rng.random())

    def _some(self) -> list[str]:
        each = self.load.rooms_each or len(self.rooms)
        return self.rng.sample(self.rooms, min(each, len(self.rooms)))

    def _member(self, number: int) -> Member:
        rng, user = self._rng(), f"m{number}-{self.name}"
        where = self.system.somewhere(rng)
        return Member(user, self._some(), where, self.history, rng, self.load.pace)

    def _reader(self, number: int) -> Reader:
        where = self.system.somewhere(self._rng())
        return Reader(f"r{number}-{self.name}", self._some(), where, self.history)

    def _publisher(self, number: int) -> Publisher:
        rng, user = self._rng(), f"p{number}-{self.name}"
        return Publisher(user, self.system.somewhere(rng), self.history, rng, self.load.pace)

    @property
    def clients(self) -> Sequence[Member | Reader]:
        return (*self.members, *self.readers)

    def seats(self) -> Iterator[Seat]:
        for client in self.clients:
            yield from client.notebook.seats.values()

    def fault(self, what: str) -> None:
        """Write down that something is done now; delays are counted from these."""
        self.history.append(Fault(now(), what))

    def promise(self, kept: bool, text: str) -> None:
        if not kept:
            self.broken.append(text)

    async def all_in(self) -> bool:
        """Whether every client comes into its rooms."""
        return await self.until(
            lambda: all(client.notebook.is_in for client in self.clients), JOIN_DEADLINE
        )

    async def until(self, condition: Callable[[], bool], within: float | None = None) -> bool:
        """Whether it comes about in time. Raises what went wrong in a client."""
        end = asyncio.get_running_loop().time() + (within or self.patience)
        while not condition():
            for client in (*self.clients, *self.publishers):
                client.check()
            if asyncio.get_running_loop().time() > end:
                return False
            await asyncio.sleep(_LOOK)
        return True

    def talk(self) -> None:
        """Let the publishers begin."""
        self._enough.clear()
        self._talking = [
            asyncio.create_task(self._talk(publisher)) for publisher in self.publishers
        ]

    async def hush(self) -> None:
        """Let them come to an end with what they have begun."""
        self._enough.set()
        async with asyncio.timeout(publisher.PATIENCE + 10):
            await asyncio.gather(*self._talking)
        self._talking = []

    async def _talk(self, publisher: Publisher) -> None:
        rng, load = self._rng(), self.load
        padding = "x" * load.padding
        while not self._enough.is_set():
            impatient = rng.random() < load.impatient
            await publisher.publish(rng.choice(self.rooms), padding, impatient=impatient)
            await asyncio.sleep(load.pause * rng.uniform(0.5, 1.5))

    async def finish(self, marker: bool) -> list[Kept]:
        """Everything has become quiet: the logs of the store, once all clients have them or should
        have had them."""
        await self.hush()
        if marker:
            await asyncio.gather(
                *(self.publishers[0].publish(room, "the end") for room in self.rooms)
            )
        kept: list[Kept] = []
        tops: dict[str, tuple[int, str]] = {}
        for room in self.rooms:
            log = await asyncio.to_thread(stores.read, self.system.store, room)
            kept += log
            if log:
                tops[room] = (log[-1].seq, log[-1].op)
        await self.until(lambda: self._are_at(tops), _BRIEFLY if self.broken else self.patience)
        for client in self.clients:
            client.notebook.end()
        return kept

    def _are_at(self, tops: dict[str, tuple[int, str]]) -> bool:
        return all(
            seat.joined and (seat.seq, seat.last) == tops[seat.room]
            for seat in self.seats()
            if seat.room in tops
        )

    async def stop(self) -> None:
        for task in self._talking:
            task.cancel()
        everybody = (*self.clients, *self.publishers)
        ends = await asyncio.gather(
            *(client.stop() for client in everybody), return_exceptions=True
        )
        for end in ends:
            if isinstance(end, Exception):
                raise end


@dataclass
class Result:
    """Of one row with one seed. `bad` is empty when every promise was kept."""

    row: Row
    seed: int
    verdict: Verdict
    bad: list[Finding]
    notes: dict[str, float]


_serial = iter(range(1_000_000_000))


async def perform(
    row: Row,
    system: System,
    seed: int,
    histories: Path | None = None,
    patience: float = PATIENCE,
) -> Result:
    """Run a row on a system with its setting, which is whole again afterwards. The history is
    written into the folder given, and after a bad run what the nodes wrote."""
    rng = random.Random(f"{row.name}-{seed}")
    run = Run(system, row.load, f"{row.name}-{seed}-{next(_serial)}", rng, patience)
    tracebacks = system.stderr().count(_TRACEBACK)
    try:
        run.promise(await run.all_in(), "not everybody could join")
        run.talk()
        await asyncio.sleep(CALM)
        try:
            await row.inject(run)
        finally:
            await system.restore()
        await asyncio.sleep(CALM)
        kept = await run.finish(row.marker)
    finally:
        await run.stop()
    if histories is not None:
        write(history_file(histories, row.name, seed), [*run.history, *kept])
    verdict = check([*run.history, *kept])
    bad = verdict.bad(may_lose=row.may_lose)
    run.broken += row.judge(run, verdict)
    if system.stderr().count(_TRACEBACK) > tracebacks:
        written = system.stderr().rpartition(_TRACEBACK)[2]
        run.broken.append(f"a node wrote a traceback: {written[:2000]}")
    bad = [*(Finding("promise", "", text) for text in run.broken), *bad]
    if histories is not None and bad:
        history_file(histories, row.name, seed).with_suffix(".log").write_text(system.stderr())
    return Result(row, seed, verdict, bad, run.notes)


def history_file(folder: Path, row: str, seed: int) -> Path:
    return folder / f"row-{row}-seed-{seed}.jsonl"
