"""One room's cursor: what it accepts, drops and asks about, without a Redis."""

from itertools import count, takewhile
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from adapters.redis import replica as replica_module
from adapters.redis.records import Record
from adapters.redis.replica import LogView, Replica, Verdict, judge
from domain.identifiers import RoomId, UserId
from domain.lineage import REMEMBERED, Lineage
from domain.message import Message
from domain.options import Retention
from domain.position import Position
from domain.timeline import Outcome, PageRequest, Recovery, Timeline

CHAT = RoomId("chat")
KEEP = Retention(1000, 600.0)


def record(
    seq: int,
    term: str = "t1",
    start: int = 1,
    previous: str = "",
    epoch: str = "e",
    id_: str = "",
    data: bytes = b"1",
) -> Record:
    message = Message(CHAT, seq, id_ or f"m{seq}", UserId("ann"), data, 0.0, f"{epoch}.{term}")
    return Record(epoch, term, start, previous, KEEP, message)


def view(
    top: int,
    *records: Record,
    lineage: tuple[tuple[str, int], ...] = (("t1", 0),),
    epoch: str = "e",
    floor: int = 0,
) -> LogView:
    return LogView(epoch, Lineage(lineage), top, floor, 600.0, records)


def held(top: int, *, terms: tuple[tuple[str, int], ...] = (("t1", 0),)) -> Replica:
    """Live after so many messages."""
    replica = Replica()
    records = [record(seq, terms[-1][0]) for seq in range(1, top + 1)]
    begin_again(replica, view(top, *records, lineage=terms))
    assert replica.live
    return replica


def go_on(replica: Replica, look: LogView, now: float = 0.0) -> list[Message]:
    return list(replica.go_on(look, now))


def begin_again(replica: Replica, look: LogView) -> list[Message]:
    replica.timeline = look.timeline(0.0, replica.timeline)
    return list(replica.settle(0.0))


def timeline(replica: Replica) -> Timeline:
    assert replica.timeline is not None
    return replica.timeline


def seqs(messages: list[Message]) -> list[int]:
    return [message.seq for message in messages]


# Live


@pytest.mark.parametrize(
    ("arriving", "verdict"),
    [
        (record(6), Verdict.NEXT),
        (record(5), Verdict.OLD),
        (record(1), Verdict.OLD),
        (record(7), Verdict.HOLE),
        # The store was followed by one that has all we have.
        (record(6, "t2", start=6, previous="t1"), Verdict.NEXT),
        # By one that has less: the tail is withdrawn.
        (record(5, "t2", start=5, previous="t1"), Verdict.HOLE),
        (record(6, "t2", start=5, previous="t1"), Verdict.HOLE),
        # By one that has more.
        (record(7, "t2", start=7, previous="t1"), Verdict.HOLE),
        (record(7, "t2", start=6, previous="t1"), Verdict.HOLE),
        # Deaf for the whole of t2, which began before us and so replaced what we have.
        (record(6, "t3", start=6, previous="t2"), Verdict.HOLE),
        # Another life.
        (record(1, epoch="f"), Verdict.HOLE),
        (record(6, epoch="f"), Verdict.HOLE),
        # A store that does not know yet that its time is over.
        (record(6, "t0"), Verdict.OLD),
        (record(9, "t0"), Verdict.OLD),
    ],
)
def test_what_continues_a_log(arriving: Record, verdict: Verdict) -> None:
    replica = held(5, terms=(("t0", 0), ("t1", 2)))
    assert judge(timeline(replica), arriving) is verdict


def test_the_next_message_is_delivered_and_in_the_timeline() -> None:
    replica = held(5)
    assert replica.receive(record(6), 100.0)
    assert (timeline(replica).position, timeline(replica).expires_at) == (
        Position("e", 6, "t1"),
        700.0,
    )


def test_what_is_there_already_is_not_delivered_again() -> None:
    replica = held(5)
    assert not replica.receive(record(5), 0.0)
    assert (replica.live, timeline(replica).top) == (True, 5)


def test_a_hole_ends_delivery_until_the_log_is_read() -> None:
    replica = held(5)
    assert not replica.receive(record(7), 0.0)
    assert not replica.live
    assert not replica.receive(record(6), 0.0)
    assert timeline(replica).top == 5


def test_another_term_that_has_everything_goes_on_without_a_word() -> None:
    replica = held(5)
    assert replica.receive(record(6, "t2", start=6, previous="t1"), 0.0)
    assert timeline(replica).position == Position("e", 6, "t2")
    assert list(timeline(replica).lineage) == [("t1", 0), ("t2", 5)]
    assert timeline(replica).recover(Position("e", 3, "t1")).recovery.outcome == "ok"
    assert timeline(replica).recover(Position("e", 6, "t1")).recovery.outcome == "rewound"


def test_what_the_log_keeps_is_what_the_last_message_says() -> None:
    replica = held(5)
    replica.receive(replace(record(6), keep=Retention(2, 5.0)), 100.0)
    assert (timeline(replica).first, timeline(replica).floor) == (5, 4)
    assert timeline(replica).expires_at == 105.0


# Reading


def test_what_came_meanwhile_is_delivered_after_what_was_read() -> None:
    replica = held(5)
    replica.begin_reading()
    for seq in (7, 8, 9):
        replica.receive(record(seq), 0.0)
    messages = go_on(replica, view(8, record(6), record(7), record(8)))
    assert (seqs(messages), replica.live) == ([6, 7, 8, 9], True)


@pytest.mark.parametrize("meanwhile", [(10,), (10, 11)])
def test_the_first_of_what_came_meanwhile_must_follow_what_was_read(
    meanwhile: tuple[int, ...],
) -> None:
    """Comparing neighbours only would let an empty log and a buffer that begins too late pass."""
    replica = held(8)
    replica.begin_reading()
    for seq in meanwhile:
        replica.receive(record(seq), 0.0)
    assert go_on(replica, view(8)) == []
    assert (replica.live, timeline(replica).top) == (False, 8)


def test_a_hole_within_what_came_meanwhile_is_found() -> None:
    replica = held(5)
    replica.begin_reading()
    for seq in (6, 7, 9):
        replica.receive(record(seq), 0.0)
    assert seqs(go_on(replica, view(6, record(6)))) == [6, 7]
    assert not replica.live


def test_what_came_before_the_reading_began_is_in_what_is_read() -> None:
    """It may be of a life that is over: kept, it would be asked about for ever."""
    replica = held(5)
    replica.missed()
    replica.receive(record(3, epoch="old"), 0.0)
    replica.begin_reading()
    assert go_on(replica, view(5)) == []
    assert replica.live


def test_what_was_missed_while_reading_is_read_too() -> None:
    """Else what is lost after the look and before its answer came would be noticed by nobody."""
    replica = held(5)
    replica.begin_reading()
    replica.missed()
    assert go_on(replica, view(5)) == []
    assert not replica.live
    replica.begin_reading()
    assert go_on(replica, view(5)) == []
    assert replica.live


def test_what_came_of_the_old_term_meanwhile_is_dropped() -> None:
    replica = held(5)
    replica.begin_reading()
    replica.receive(record(6), 0.0)
    replica.receive(record(7), 0.0)
    fresh = view(6, record(6, "t2"), lineage=(("t1", 0), ("t2", 5)), floor=5)
    assert begin_again(replica, fresh) == []
    assert (replica.live, timeline(replica).position) == (True, Position("e", 6, "t2"))


def test_a_new_term_within_what_came_meanwhile_is_taken_over() -> None:
    replica = held(5)
    replica.begin_reading()
    replica.receive(record(6), 0.0)
    replica.receive(record(7, "t2", start=7, previous="t1"), 0.0)
    assert seqs(go_on(replica, view(5))) == [6, 7]
    assert timeline(replica).position == Position("e", 7, "t2")


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_module, "MAX_BUFFER", 100_000)
    replica = held(0)
    replica.begin_reading()
    for seq in range(1, 1001):
        replica.receive(record(seq, data=b"x" * 1000), 0.0)
    assert go_on(replica, view(0)) == []
    assert not replica.live
    replica.begin_reading()
    records = [record(seq) for seq in range(1, 1001)]
    assert len(go_on(replica, view(1000, *records))) == 1000
    assert replica.live


def test_the_end_of_what_waits_is_kept_when_it_joins_what_was_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replica_module, "MAX_BUFFER", 1000)
    replica = held(0)
    replica.begin_reading()
    for seq in range(1, 8):
        replica.receive(record(seq), 0.0)
    read = [record(seq) for seq in range(1, 7)]
    assert seqs(go_on(replica, view(6, *read))) == [1, 2, 3, 4, 5, 6, 7]
    assert replica.live


def test_what_is_read_brings_its_terms_along() -> None:
    replica = held(5)
    replica.begin_reading()
    lineage = (("t1", 0), ("t2", 5), ("t3", 7))
    records = [record(6, "t2"), record(7, "t2"), record(8, "t3")]
    assert seqs(go_on(replica, view(8, *records, lineage=lineage, floor=2), 50.0)) == [6, 7, 8]
    at = timeline(replica)
    assert (at.position, list(at.lineage)) == (Position("e", 8, "t3"), list(lineage))
    assert (at.log, at.floor, at.expires_at) == ("e.t3", 0, 650.0)


def test_there_must_be_something_to_go_on_with() -> None:
    with pytest.raises(RuntimeError):
        go_on(Replica(), view(0))


@pytest.mark.parametrize(
    ("position", "continues"),
    [
        (Position("e", 5, "t1"), True),
        (Position("e", 6, "t1"), False),
        (Position("e", 9, "t2"), True),
        (Position("e", 10, "t2"), False),
        (Position("e", 4, "t1"), True),
        (Position("e", 3, "t1"), False),
        (Position("e", 5, "t0"), False),
        (Position("f", 5, "t1"), False),
    ],
)
def test_which_positions_a_look_at_the_log_continues(position: Position, continues: bool) -> None:
    following = [record(seq, "t2") for seq in range(position.seq + 1, 10)]
    look = view(9, *following, lineage=(("t1", 0), ("t2", 5)), floor=4)
    assert look.continues(position) is continues


@pytest.mark.parametrize(
    ("look", "continues"),
    [
        (view(5), True),
        (view(6), False),
        (view(7, record(6), record(7)), True),
        (view(7, record(7)), False),
        (view(7, record(5), record(6), record(7)), False),
        (view(8, record(6), record(7)), False),
    ],
)
def test_a_look_must_show_all_that_follows(look: LogView, continues: bool) -> None:
    assert look.continues(Position("e", 5, "t1")) is continues


@pytest.mark.parametrize(
    ("look", "begins"),
    [
        (view(0), True),
        (view(2, record(1), record(2)), True),
        (view(2, record(2)), False),
        (view(2, record(2), floor=1), False),
        (view(2, record(1), record(2), lineage=(("t1", 0), ("t2", 1))), False),
    ],
)
def test_which_looks_show_all_there_ever_was(look: LogView, begins: bool) -> None:
    assert look.begins_here is begins


def test_a_new_life_is_begun_before_its_first_message() -> None:
    replica, look = held(5), view(2, record(1, epoch="f"), record(2, epoch="f"), epoch="f")
    replica.begin_reading()
    replica.receive(record(3, epoch="f"), 0.0)
    replica.timeline = look.beginning()
    assert timeline(replica).position == Position("f", 0, "t1")
    tops = [(message.seq, timeline(replica).top) for message in replica.go_on(look, 0.0)]
    assert tops == [(1, 1), (2, 2), (3, 3)]


# Whatever happens


class Store(NamedTuple):
    """One that numbers; its log and lineage are its own."""

    log: list[Record]
    lineage: list[tuple[str, int]]
    reign: str


class Reigns(RuleBasedStateMachine):
    """Stores that fall back, restart, lose everything, or are back as if nobody had followed them;
    a feed that loses, and repeats what was sent long ago, perhaps by a store that is none any more.

    Whenever the replica has accepted a record, it holds exactly the messages that the store which
    sent it had then; and with every message that arrives, those the store in force has. Whoever
    has seen what the replica held at any time is told exactly what of it is no more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fresh = map("{}".format, count(1))
        self.replica = Replica()
        self.sent: list[Record] = []
        self.histories: dict[str, list[Record]] = {}  # of each message, up to itself
        self.seen: dict[Position, list[str]] = {}  # the messages held when it was the newest
        self.away: list[Store] = []  # stores that were followed by another one, and went on
        self.found()
        begin_again(self.replica, self.look(0))

    def found(self) -> None:
        self.epoch, self.term = f"e{next(self.fresh)}", f"t{next(self.fresh)}"
        self.log: list[Record] = []
        self.lineage = [(self.term, 0)]
        self.reign = self.term
        self.away.clear()

    def look(self, after: int) -> LogView:
        records = self.log[after:]
        return LogView(self.epoch, Lineage(self.lineage), len(self.log), 0, 600.0, records)

    @rule(arrives=st.sampled_from([True, True, True, False]))
    def publish(self, arrives: bool) -> None:
        previous = self.lineage[-2][0] if len(self.lineage) > 1 else ""
        if self.reign != self.lineage[-1][0]:
            previous = self.lineage[-1][0]
            self.lineage.append((self.reign, len(self.log)))
        term, before = self.lineage[-1]
        sent = record(
            len(self.log) + 1, term, before + 1, previous, self.epoch, f"m{next(self.fresh)}"
        )
        self.log.append(sent)
        self.sent.append(sent)
        self.histories[sent.message.id] = list(self.log)
        if arrives:
            self.hear(sent)
            self.holds(self.log)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        self.hear(data.draw(st.sampled_from(self.sent)))

    def hear(self, sent: Record) -> None:
        accepted = self.replica.receive(sent, 0.0)
        if accepted:
            self.holds(self.histories[sent.message.id])
        elif not self.replica.live:
            self.read()

    @rule()
    def read(self) -> None:
        position = timeline(self.replica).position
        self.replica.begin_reading()
        look = self.look(position.seq)
        if look.continues(position):
            go_on(self.replica, look)
        else:
            begin_again(self.replica, self.look(0))
        self.holds(self.log)

    def holds(self, log: list[Record]) -> None:
        held = timeline(self.replica).page(PageRequest(after=0)).messages
        ids = [m.id for m in held]
        assert ids == [r.message.id for r in log]
        self.seen[timeline(self.replica).position] = ids

    @rule(lost=st.integers(0, 4))
    def fall_back(self, lost: int) -> None:
        """A replica of the store takes over that had not heard of its last messages."""
        self.away.append(Store(list(self.log), list(self.lineage), self.reign))
        del self.log[max(0, len(self.log) - lost) :]
        while self.lineage[-1][1] > len(self.log) or (
            len(self.lineage) > 1 and self.lineage[-1][1] == len(self.log)
        ):
            self.lineage.pop()
        self.reign = f"t{next(self.fresh)}"

    @precondition(lambda self: self.away)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        """A store that was followed by another one is asked again, and never heard of that."""
        place = data.draw(st.integers(0, len(self.away) - 1))
        back = self.away[place]
        self.away[place] = Store(self.log, self.lineage, self.reign)
        self.log, self.lineage, self.reign = back
        for _ in range(data.draw(st.integers(0, 2))):
            self.publish(arrives=False)
        kept = {sent.message.id for sent in self.log}
        self.sent = [sent for sent in self.sent if sent.message.id in kept]  # it sent no others
        self.read()

    @rule()
    def lose_everything(self) -> None:
        self.found()

    @invariant()
    def is_live(self) -> None:
        assert self.replica.live

    @invariant()
    def everybody_is_told_what_is_no_more(self) -> None:
        held = timeline(self.replica)
        ids = [m.id for m in held.page(PageRequest(after=0)).messages]
        terms = {known.term for known in self.seen if known.epoch == held.epoch}
        for position, seen in self.seen.items():
            told = held.recover(position).recovery
            if position.epoch != held.epoch:
                assert told.outcome is Outcome.RESET
            elif len(terms) < REMEMBERED:
                same = sum(1 for _ in takewhile(_equal, zip(seen, ids, strict=False)))
                assert told == (
                    Recovery(Outcome.OK)
                    if same == len(seen)
                    else Recovery(Outcome.REWOUND, valid_to=same)
                )


def _equal(pair: tuple[str, str]) -> bool:
    return pair[0] == pair[1]


TestReigns = Reigns.TestCase
TestReigns.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
