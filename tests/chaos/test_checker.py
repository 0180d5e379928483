"""The checker finds every kind of broken promise, and none where none was broken."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.chaos.checker import KINDS, Verdict, check
from tests.chaos.history import (
    Acked,
    AnyEvent,
    Cut,
    Delivered,
    End,
    Failed,
    Fault,
    Invoked,
    Kept,
    Told,
    Unknown,
    read,
    write,
)

CLIENTS = ("ann", "bob", "cleo")
OPS = 40
LOST = 3  # messages at the end of a reign that another store did not have

History = list[AnyEvent]


class Tale:
    """A good history of one room, with a failover that lost a tail and told everybody."""

    def __init__(self, room: str, rng: random.Random) -> None:
        self.events: History = []
        self._room = room
        self._rng = rng
        self._now = rng.randrange(1_000_000)
        self._log: list[Kept] = []
        self._term = "e.a"
        for who in CLIENTS:
            self.events.append(Told(self._tick(), who, room, "none", self._term, 0))
        fails_over = rng.randrange(OPS // 2, OPS - LOST)
        for number in range(OPS):
            if number == fails_over:
                self._fail_over()
            self._publish(f"{room}-{number}")
        self.events += [End(self._tick(), who, room, self._term, self._top) for who in CLIENTS]
        self.events += self._log

    @property
    def _top(self) -> int:
        return len(self._log)

    def _tick(self) -> int:
        self._now += self._rng.randrange(1, 1_000_000)
        return self._now

    def _publish(self, op: str) -> None:
        self.events.append(Invoked(self._tick(), "p", op, self._room))
        outcome = self._rng.random()
        if outcome < 0.1:
            self.events.append(Failed(self._tick(), "p", op, "unavailable"))
            return
        if outcome > 0.2:
            self._apply(op)
        if outcome < 0.3:
            self.events.append(Unknown(self._tick(), "p", op, "unknown"))
            return
        kept = self._log[-1]
        self.events.append(Acked(self._tick(), "p", op, kept.log, kept.seq, kept.id))

    def _apply(self, op: str) -> None:
        kept = Kept(self._room, self._term, self._top + 1, f"id-{op}", op)
        self._log.append(kept)
        for who in CLIENTS:
            if self._rng.random() < 0.1:
                where = (who, self._room, "ok", self._term, kept.seq - 1)
                self.events += [Cut(self._tick(), who, 1006), Told(self._tick(), *where)]
            place = (kept.log, kept.seq, kept.id, op)
            self.events.append(Delivered(self._tick(), who, self._room, *place))

    def _fail_over(self) -> None:
        del self._log[-LOST:]
        self._term = "e.b"
        self.events.append(Fault(self._tick(), "failover"))
        for who in CLIENTS:
            where = (who, self._room, "rewound", self._term, self._top)
            self.events.append(Told(self._tick(), *where, valid_to=self._top))


def good(seed: int) -> History:
    rng = random.Random(seed)
    return [*Tale("r", rng).events, *Tale("s", rng).events]


def some(history: History, kind: type[AnyEvent], rng: random.Random, back: int = 1) -> int:
    """The index of an event of the last log, with `back` more of the kind after it."""
    top = max(n for n, e in enumerate(history) if isinstance(e, Told) and e.outcome == "rewound")
    found = [n for n, event in enumerate(history) if isinstance(event, kind) and n > top]
    return rng.choice(found[: len(found) - back])


def a_delivery(history: History, rng: random.Random) -> tuple[int, int]:
    """The indices of two that follow each other at one client, in one room and one log, with
    another one behind them."""
    while True:
        first = some(history, Delivered, rng)
        one = history[first]
        assert isinstance(one, Delivered)
        later = [
            n
            for n, event in enumerate(history)
            if n > first
            and isinstance(event, Delivered)
            and (event.who, event.room, event.log) == (one.who, one.room, one.log)
        ]
        if len(later) > 1:
            return first, later[0]


def phantom(history: History, rng: random.Random) -> None:
    index, _ = a_delivery(history, rng)
    history[index] = replace(history[index], op="of nobody")


def silent_gap(history: History, rng: random.Random) -> None:
    del history[a_delivery(history, rng)[0]]


def duplicate(history: History, rng: random.Random) -> None:
    index, _ = a_delivery(history, rng)
    history.insert(index + 1, history[index])


def reorder(history: History, rng: random.Random) -> None:
    one, other = a_delivery(history, rng)
    history[one], history[other] = history[other], history[one]


def divergence(history: History, rng: random.Random) -> None:
    index, _ = a_delivery(history, rng)
    history[index] = replace(history[index], id="another")


def log_hole(history: History, rng: random.Random) -> None:
    del history[some(history, Kept, rng)]


def applied_twice(history: History, rng: random.Random) -> None:
    index = some(history, Kept, rng)
    kept = history[index]
    last = max(e.seq for e in history if isinstance(e, Kept) and e.room == "s")
    assert isinstance(kept, Kept)
    history.append(replace(kept, seq=last + 1, id="again"))


def failure_applied(history: History, rng: random.Random) -> None:
    index = some(history, Acked, rng, back=0)
    acked = history[index]
    assert isinstance(acked, Acked)
    history[index] = Failed(acked.t, acked.who, acked.op, "unavailable")


def acked_lost(history: History, rng: random.Random) -> None:
    kept = [event for event in history if isinstance(event, Kept) and event.room == "s"][-1]
    history[:] = [
        event for event in history if not isinstance(event, Kept | Delivered) or event.id != kept.id
    ]
    ends = [n for n, e in enumerate(history) if isinstance(e, End) and e.room == "s"]
    for index in ends:
        history[index] = replace(history[index], seq=kept.seq - 1)
    history.append(Acked(10**12, "p", kept.op, kept.log, kept.seq, kept.id))


def lost_untold(history: History, rng: random.Random) -> None:
    """As `acked_lost`, but that somebody had it."""
    kept = [event for event in history if isinstance(event, Kept) and event.room == "s"][-1]
    history.remove(kept)


def told_wrongly(history: History, rng: random.Random) -> None:
    index, _ = a_delivery(history, rng)
    got = history[index]
    assert isinstance(got, Delivered)
    where = (got.t, got.who, got.room, "rewound", got.log, got.seq - 1)
    history[index + 1 : index + 1] = [Told(*where, valid_to=got.seq - 1), got]


def missing(history: History, rng: random.Random) -> None:
    """What it says of its end is not what it was given."""
    last = max(n for n, e in enumerate(history) if isinstance(e, Delivered) and e.room == "s")
    del history[last]


def stale_end(history: History, rng: random.Random) -> None:
    index = some(history, End, rng, back=0)
    end = history[index]
    assert isinstance(end, End)
    history[index] = replace(end, seq=end.seq - 1)


def real_time(history: History, rng: random.Random) -> None:
    """One is begun after another was acknowledged that is numbered behind it."""
    places = {e.op: e.seq for e in history if isinstance(e, Kept) and e.room == "s"}
    done = [e for e in history if isinstance(e, Acked) and e.op in places]
    late = done[-1]
    early = next(op for op, seq in places.items() if seq < places[late.op])
    for index, event in enumerate(history):
        if isinstance(event, Invoked) and event.op == early:
            history[index] = replace(event, t=late.t + 1)


MUTATIONS: dict[str, Callable[[History, random.Random], None]] = {
    mutation.__name__: mutation
    for mutation in (
        phantom,
        silent_gap,
        duplicate,
        reorder,
        divergence,
        log_hole,
        applied_twice,
        failure_applied,
        acked_lost,
        lost_untold,
        told_wrongly,
        missing,
        stale_end,
        real_time,
    )
}


def kinds(verdict: Verdict, *, may_lose: bool = True) -> set[str]:
    return {finding.kind for finding in verdict.bad(may_lose=may_lose)}


@pytest.mark.parametrize("seed", range(20))
def test_a_good_history_is_good(seed: int) -> None:
    verdict = check(good(seed))
    assert not verdict.bad(may_lose=True)
    assert verdict.acked > OPS / 2
    assert verdict.delivered > OPS
    assert verdict.told["rewound"] == 2 * len(CLIENTS)


def test_a_lost_tail_is_only_excused_where_something_may_be_lost() -> None:
    verdict = check(good(1))
    assert verdict.lost
    assert verdict.lost <= verdict.withdrawn
    assert kinds(verdict, may_lose=False) == {"acked_lost"}


def test_every_kind_of_finding_has_its_mutation() -> None:
    assert set(MUTATIONS) == set(KINDS)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", sorted(MUTATIONS))
def test_a_history_made_bad_is_found_to_be(kind: str, seed: int) -> None:
    history = good(seed)
    MUTATIONS[kind](history, random.Random(seed))
    assert kind in kinds(check(history), may_lose=False)


@pytest.mark.parametrize("seed", range(5))
def test_a_lost_tail_is_told_or_untold(seed: int) -> None:
    told = good(seed)
    assert not kinds(check(told))
    index = next(n for n, e in enumerate(told) if isinstance(e, Told) and e.outcome == "rewound")
    untold = [*told[:index], *told[index + 1 :]]
    assert "lost_untold" in kinds(check(untold)) or "reorder" in kinds(check(untold))


def test_a_tail_lost_at_the_very_end_is_told_or_untold() -> None:
    """Nothing comes after it that would show."""
    history: History = [
        Told(1, "ann", "r", "none", "e.a", 0),
        Invoked(2, "p", "x", "r"),
        Delivered(3, "ann", "r", "e.a", 1, "id-x", "x"),
        Acked(4, "p", "x", "e.a", 1, "id-x"),
    ]
    told = Told(5, "ann", "r", "rewound", "e.b", 0, valid_to=0)
    assert kinds(check([*history, told, End(6, "ann", "r", "e.b", 0)])) == set()
    assert kinds(check([*history, End(6, "ann", "r", "e.a", 1)])) == {"lost_untold"}


def test_what_is_lost_and_published_again_by_the_node_is_withdrawn_rightly() -> None:
    def history(log: str) -> History:
        got: History = [Delivered(3, "ann", "r", "e.a", 1, "id-x", "x")]
        again: History = [Delivered(6, "ann", "r", log, 1, "id-x", "x"), End(7, "ann", "r", log, 1)]
        told = Told(5, "ann", "r", "rewound", log, 0, valid_to=0)
        start: History = [Told(1, "ann", "r", "none", "e.a", 0), Invoked(2, "p", "x", "r")]
        return [*start, *got, told, *again, Kept("r", log, 1, "id-x", "x")]

    assert kinds(check(history("e.b"))) == set()
    assert kinds(check(history("e.a"))) == {"told_wrongly"}


def test_a_gap_that_was_told_is_none() -> None:
    def history(*between: AnyEvent) -> History:
        start: History = [Told(1, "ann", "r", "none", "e.a", 0)]
        ops: History = [Invoked(2 + n, "p", f"x{n}", "r") for n in range(1, 5)]
        got: History = [
            Delivered(9, "ann", "r", "e.a", 4, "id-4", "x4"),
            End(9, "ann", "r", "e.a", 4),
        ]
        return [*start, *ops, *between, *got, Kept("r", "e.a", 4, "id-4", "x4")]

    assert kinds(check(history())) == {"silent_gap"}
    assert kinds(check(history(Told(8, "ann", "r", "gap", "e.a", 3)))) == set()


def test_delays_are_the_worst_of_each_client_since_each_fault() -> None:
    second = 1_000_000_000
    history: History = [
        Told(1, "ann", "r", "none", "e.a", 0),
        Invoked(1 * second, "p", "a", "r"),
        Delivered(9 * second, "ann", "r", "e.a", 1, "a", "a"),  # begun before
        Fault(2 * second, "one"),
        Invoked(3 * second, "p", "b", "r"),
        Delivered(5 * second, "ann", "r", "e.a", 2, "b", "b"),
        Fault(6 * second, "two"),
        Invoked(7 * second, "p", "c", "r"),
        Delivered(8 * second, "ann", "r", "e.a", 3, "c", "c"),
    ]
    assert check(history).delays == [1.0, 2.0]


def test_a_history_survives_its_file(tmp_path: Path) -> None:
    history = good(3)
    write(tmp_path / "a" / "history.jsonl", history)
    assert list(read(tmp_path / "a" / "history.jsonl")) == history
