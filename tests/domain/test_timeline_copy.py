"""A copy with only the newest messages answers as the whole log, or says what it lacks."""

import itertools
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.identifiers import RoomId, UserId
from domain.lineage import Lineage
from domain.message import Draft, Message
from domain.options import Retention
from domain.position import Position
from domain.timeline import Outcome, PageRequest, Recovery, Replay, Timeline


def log_of(count: int, size: int = 1000, terms: Collection[int] = ()) -> Timeline:
    """A whole log. `terms` are seqs with which the terms t1, t2 and so on begin."""
    log, names = Timeline("e", "t0"), map("t{}".format, itertools.count(1))
    for seq in range(1, count + 1):
        if seq in terms:
            log.begin_term(next(names))
        draft = Draft(RoomId("chat"), UserId("ann"), b"%02d" % seq)
        log.append(log.number(draft, f"m{seq}", 0.0), Retention(size, 600.0), 0.0)
    return log


def copy_of(log: Timeline, newest: int) -> Timeline:
    copy = Timeline.restore(log.epoch, Lineage(list(log.lineage)), log.top, log.floor)
    copy.prepend(kept(log)[max(0, log.top - log.floor - newest) :])
    return copy


def kept(log: Timeline) -> list[Message]:
    messages: list[Message] = []
    while page := log.page(PageRequest(after=messages[-1].seq if messages else 0)).messages:
        messages += page
    return messages


def seqs(messages: list[Message]) -> list[int]:
    return [message.seq for message in messages]


def answer(timeline: Timeline, position: Position | None, history: int) -> list[Replay]:
    """All that a newcomer is told of."""
    if position is None:
        return [timeline.latest(history)]
    replay = timeline.recover(position)
    reset = replay.recovery.outcome is Outcome.RESET
    return [replay, timeline.latest(history)] if reset else [replay]


TERMS = st.sets(st.integers(1, 30), max_size=3)
LOGS = st.builds(log_of, st.integers(0, 30), st.sampled_from([0, 3, 10, 1000]), TERMS)
NAMES = st.sampled_from(["t0", "t1", "t2", "x"])
POSITIONS = st.builds(Position, st.sampled_from(["e", "e", "other"]), st.integers(-1, 35), NAMES)


@given(LOGS, st.integers(0, 30), st.none() | POSITIONS, st.integers(0, 30))
def test_what_a_copy_does_not_lack_it_answers_as_the_log(
    log: Timeline, newest: int, position: Position | None, history: int
) -> None:
    copy = copy_of(log, newest)
    seq = copy.lacks(position, history)
    if seq is not None:
        assert log.floor <= seq < copy.first - 1
        copy.prepend([m for m in kept(log) if seq < m.seq < copy.first])
    assert copy.lacks(position, history) is None
    assert answer(copy, position, history) == answer(log, position, history)


@given(LOGS, st.integers(0, 30), st.none() | POSITIONS, st.integers(1, 30))
def test_no_more_is_asked_for_than_is_needed(
    log: Timeline, newest: int, position: Position | None, history: int
) -> None:
    copy = copy_of(log, newest)
    seq = copy.lacks(position, history)
    if seq is not None:
        copy.prepend([m for m in kept(log) if seq + 1 < m.seq < copy.first])
        assert answer(copy, position, history) != answer(log, position, history)


@given(
    LOGS,
    st.integers(0, 30),
    st.sampled_from(["before", "after", "newest"]),
    st.integers(0, 35),
    st.integers(1, 30),
    st.sampled_from([None, "e.t0", "other"]),
)
def test_a_page_that_a_copy_covers_is_the_log_s(
    log: Timeline, newest: int, way: str, seq: int, limit: int, name: str | None
) -> None:
    copy = copy_of(log, newest)
    before, after = (seq if way == bound else None for bound in ("before", "after"))
    request = PageRequest(before, after, name, limit)
    if copy.covers(request):
        assert copy.page(request) == log.page(request)
    elif newest >= log.top - log.floor:
        pytest.fail("a copy that holds everything covers everything")


@pytest.mark.parametrize(
    ("request_", "covered"),
    [
        (PageRequest(after=5), True),
        (PageRequest(after=4), False),
        (PageRequest(limit=4), True),
        (PageRequest(limit=5), False),
        (PageRequest(before=8, limit=1), True),
        (PageRequest(before=8, limit=2), False),
        (PageRequest(before=3, limit=1), False),
        (PageRequest(before=1), True),
        (PageRequest(after=0, log="other"), True),
    ],
)
def test_which_pages_a_copy_covers(request_: PageRequest, covered: bool) -> None:
    assert copy_of(log_of(10), newest=5).covers(request_) is covered


def test_a_whole_log_lacks_nothing() -> None:
    log = log_of(10, size=4)
    assert (log.floor, log.lacks(Position("e", 0, "t0")), log.lacks(None, 100)) == (6, None, None)


def test_a_copy_goes_on_as_the_log_does() -> None:
    log = log_of(10)
    copy = copy_of(log, newest=2)
    message = log.number(Draft(RoomId("chat"), None, b"1"), "m11", 0.0)
    for timeline in (log, copy):
        timeline.append(message, Retention(4, 600.0), 0.0)
    assert (copy.position, copy.floor, log.floor) == (log.position, 7, 7)
    assert seqs(kept(copy)) == [9, 10, 11]
    copy.prepend([m for m in kept(log_of(10)) if m.seq < 9])
    assert seqs(kept(copy)) == seqs(kept(log)) == [8, 9, 10, 11]


def test_a_copy_of_a_log_of_several_terms_judges_as_the_log() -> None:
    copy = copy_of(log_of(10, terms=[6]), newest=4)
    assert copy.recover(Position("e", 9, "t0")).recovery == Recovery(Outcome.RESET)
    assert copy.lacks(Position("e", 9, "t0")) == 5
    copy.prepend([m for m in kept(log_of(10, terms=[6])) if m.seq == 6])
    assert copy.recover(Position("e", 9, "t0")).recovery == Recovery(Outcome.REWOUND, valid_to=5)


def test_who_stands_in_a_term_that_was_lost_as_a_whole_goes_on_from_where_it_left() -> None:
    former, whole = copy_of(log_of(12, terms=[6]), newest=7), log_of(20)
    copy = copy_of(whole, newest=4)
    copy.recall(former)
    assert copy.lacks(Position("e", 12, "t1")) == 5
    copy.prepend([m for m in kept(whole) if 5 < m.seq < 17])
    assert copy.recover(Position("e", 12, "t1")).recovery == Recovery(Outcome.REWOUND, valid_to=5)
    assert seqs(copy.recover(Position("e", 12, "t1")).messages) == list(range(6, 21))
    assert copy.recover(Position("e", 5, "t1")).recovery == Recovery(Outcome.OK)
    copy.adopt(Lineage([("t0", 0), ("t2", 20)]))  # it goes on; what is remembered stays
    assert copy.recover(Position("e", 12, "t1")).recovery == Recovery(Outcome.REWOUND, valid_to=5)


def test_of_another_life_nothing_is_remembered() -> None:
    former, copy = Timeline("other", "t0"), copy_of(log_of(10), newest=4)
    former.begin_term("t1")
    copy.recall(former)
    assert copy.recover(Position("e", 0, "t1")).recovery == Recovery(Outcome.RESET)


@pytest.mark.parametrize("seq", [3, 5, 6])
def test_a_hole_is_not_filled_with_something_else(seq: int) -> None:
    copy = copy_of(log_of(10), newest=5)
    wrong = kept(log_of(10))[2]._replace(seq=seq)
    if seq == 5:
        copy.prepend([wrong])
        assert copy.first == 5
    else:
        with pytest.raises(ValueError, match=f"seq {seq} is not 5"):
            copy.prepend([wrong])
        assert copy.first == 6


def test_bytes_are_those_of_what_a_copy_holds() -> None:
    log = log_of(10)
    copy = copy_of(log, newest=5)
    assert copy.bytes == log.bytes // 2
    copy.prepend([m for m in kept(log) if m.seq < 6])
    assert copy.bytes == log.bytes
    copy.shed()
    assert (copy.bytes, copy.first, copy.floor) == (0, 11, 0)
    assert copy.lacks(Position("e", 9, "t0")) == 9


def test_what_is_lost_elsewhere_is_not_asked_for() -> None:
    copy = copy_of(log_of(10), newest=5)
    copy.lost(3)
    assert copy.lacks(Position("e", 0, "t0")) == 3
    copy.lost(9)
    assert (copy.floor, copy.lacks(Position("e", 0, "t0"))) == (5, None)
    assert copy.recover(Position("e", 0, "t0")).recovery == Recovery(Outcome.GAP, first=6)
    copy.lost(2)
    assert copy.floor == 5


def test_an_expired_copy_lacks_nothing() -> None:
    copy = copy_of(log_of(10), newest=5)
    copy.expires_at = 5.0
    assert copy.expire(5.0)
    assert (copy.floor, copy.lacks(Position("e", 0, "t0"))) == (10, None)
