"""The way of a member from where it stood to the live end, page by page."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.catchup import CatchUp, clip
from domain.identifiers import RoomId, UserId
from domain.lineage import Lineage
from domain.message import Draft
from domain.options import Retention
from domain.position import Position
from domain.timeline import Outcome, Recovery, Replay, Timeline

KEEP = Retention(size=1000, ttl=600.0)
PAGE = 100


def say(log: Timeline, count: int, keep: Retention = KEEP) -> None:
    for _ in range(count):
        draft = Draft(RoomId("chat"), UserId("ann"), b"1")
        log.append(log.number(draft, f"m{log.top + 1}", 0.0), keep, 0.0)


def timeline(count: int, keep: Retention = KEEP) -> Timeline:
    log = Timeline("e1", "t1")
    say(log, count, keep)
    return log


def at(seq: int, term: str = "t1", epoch: str = "e1") -> Position:
    return Position(epoch, seq, term)


def seqs(replay: Replay) -> list[int]:
    return [message.seq for message in replay.messages]


def span(first: int, last: int) -> list[int]:
    return list(range(first, last + 1))


# To the live end


def test_somebody_who_has_seen_everything_is_done() -> None:
    assert CatchUp(at(3)).done(timeline(3))
    assert CatchUp(at(0)).done(timeline(0))


def test_pages_follow_one_another_to_the_end() -> None:
    log = timeline(2 * PAGE + 50)
    member = CatchUp(at(0))
    pages = []
    while not member.done(log):
        pages.append(seqs(member.step(log)))
    assert pages == [span(1, 100), span(101, 200), span(201, 250)]


@settings(deadline=None)
@given(start=st.integers(0, 120), arrivals=st.lists(st.integers(0, 130), max_size=6))
def test_what_is_published_meanwhile_comes_once_and_in_order(
    start: int, arrivals: list[int]
) -> None:
    log = timeline(120)
    member = CatchUp(at(start))
    read: list[int] = []
    for count in arrivals:
        say(log, count)
        read += seqs(member.step(log))
    while not member.done(log):
        read += seqs(member.step(log))
    assert read == span(start + 1, log.top)


def test_a_new_message_makes_it_undone() -> None:
    log = timeline(3)
    member = CatchUp(at(3))
    say(log, 1)
    assert not member.done(log)


def test_a_log_that_moved_past_the_cursor_is_a_gap() -> None:
    small = Retention(size=10, ttl=600.0)
    log = timeline(10, small)
    member = CatchUp(at(0))
    say(log, 10, small)
    replay = member.step(log)
    assert replay.recovery == Recovery(Outcome.GAP, first=11)
    assert seqs(replay) == span(11, 20)
    assert member.done(log)


def test_a_new_life_of_the_log_is_a_reset() -> None:
    member = CatchUp(at(5))
    log = Timeline("e2", "t1")
    say(log, 9)
    assert not member.done(log)
    assert member.step(log).recovery == Recovery(Outcome.RESET)
    assert member.done(log)


def test_another_reign_that_goes_on_from_here_is_followed_without_a_word() -> None:
    log = timeline(5)
    member = CatchUp(at(3))
    log.begin_term("t2")
    say(log, 2)
    replay = member.step(log)
    assert (replay.recovery.outcome, seqs(replay)) == (Outcome.OK, [4, 5, 6, 7])
    assert member.done(log)


def test_another_reign_that_fell_back_behind_the_cursor_is_a_rewind() -> None:
    member = CatchUp(at(5))
    log = timeline(3)
    log.begin_term("t2")
    say(log, 4)
    replay = member.step(log)
    assert replay.recovery == Recovery(Outcome.REWOUND, valid_to=3)
    assert seqs(replay) == [4, 5, 6, 7]
    assert member.done(log)


# Bounded: a member that is live already, and wants what was before it came


def test_nothing_above_the_bound_is_read() -> None:
    log = timeline(250)
    member = CatchUp(at(50), until=170)
    pages = []
    while not member.done(log):
        pages.append(seqs(member.step(log)))
    assert pages == [span(51, 150), span(151, 170)]


def test_at_the_bound_it_is_done() -> None:
    log = timeline(9)
    assert CatchUp(at(5), until=5).done(log)
    assert CatchUp(at(7), until=5).done(log)
    assert not CatchUp(at(4), until=5).done(log)


def test_a_bounded_reader_follows_another_reign() -> None:
    log = timeline(250)
    member = CatchUp(at(0), until=200)
    member.step(log)
    log.begin_term("t2")
    assert not member.done(log)
    assert seqs(member.step(log)) == span(101, 200)
    assert member.done(log)


def test_a_bounded_reader_gives_up_with_its_log() -> None:
    # The live member that it is has been told of the reset already.
    assert CatchUp(at(3), until=9).done(Timeline("e2", "t1"))


def test_a_bounded_reader_is_done_at_the_end_of_a_log_that_became_shorter() -> None:
    member = CatchUp(at(100), until=1000)
    log = timeline(250)
    pages = []
    while not member.done(log):
        pages.append(seqs(member.step(log)))
        assert pages[-1], "a step that moves nothing, and nothing is done"
    assert pages == [span(101, 200), span(201, 250)]


def test_what_follows_the_bound_follows_the_end_of_a_shorter_log() -> None:
    member = CatchUp(at(200), until=1000)
    member.then(at(1200, "t2"))
    log = timeline(250)
    log.begin_term("t3")
    assert seqs(member.step(log)) == span(201, 250)
    assert not member.done(log)
    assert member.step(log).recovery == Recovery(Outcome.RESET)
    assert member.done(log)


def test_the_bound_can_be_lowered_and_not_raised() -> None:
    log = timeline(50)
    member = CatchUp(at(0), until=40)
    member.lower(30)
    member.lower(35)
    assert seqs(member.step(log)) == span(1, 30)
    assert member.done(log)


def test_lowering_is_nothing_to_a_reader_without_a_bound() -> None:
    member = CatchUp(at(0))
    member.lower(30)
    assert seqs(member.step(timeline(50))) == span(1, 50)


def test_after_the_bound_a_reader_may_go_on_elsewhere() -> None:
    log = timeline(350)
    member = CatchUp(at(0), until=120)
    member.then(at(300))
    pages = []
    while not member.done(log):
        pages.append(seqs(member.step(log)))
    assert pages == [span(1, 100), span(101, 120), span(301, 350)]
    say(log, 1)
    assert not member.done(log)


def test_what_was_to_follow_is_told_of_a_lost_log() -> None:
    member = CatchUp(at(0), until=120)
    member.then(at(300))
    log = Timeline("e2", "t1")
    say(log, 1)
    assert not member.done(log)
    assert member.step(log).recovery == Recovery(Outcome.RESET)
    assert member.done(log)


def test_a_lost_log_is_told_once_whatever_was_to_follow() -> None:
    member = CatchUp(at(5, "gone"), until=120)
    member.then(at(300, "gone"))
    log = timeline(100)
    assert member.step(log).recovery == Recovery(Outcome.RESET)
    assert member.done(log)
    say(log, 1)
    assert seqs(member.step(log)) == [101]


def newest(log: Timeline, count: int) -> Timeline:
    """A copy of a log that holds only its end."""
    copy = Timeline.restore(log.epoch, Lineage(list(log.lineage)), log.top, log.floor)
    copy.prepend(log.latest(count).messages)
    return copy


def test_a_reader_lacks_what_its_next_page_needs_and_is_not_held() -> None:
    held = newest(timeline(50), 10)
    assert CatchUp(at(40)).lacks(held) is None
    assert CatchUp(at(39)).lacks(held) == 39
    assert CatchUp(at(39), until=45).lacks(held) == 39


def test_past_its_bound_a_reader_lacks_what_follows_there() -> None:
    held = newest(timeline(50), 10)
    reader = CatchUp(at(45), until=45)
    reader.then(at(30))
    assert reader.lacks(held) == 30
    early = CatchUp(at(20), until=45)
    early.then(at(45))
    assert early.lacks(held) == 20


def test_a_gap_below_the_bound_is_told() -> None:
    small = Retention(size=10, ttl=600.0)
    log = timeline(30, small)
    member = CatchUp(at(5), until=25)
    replay = member.step(log)
    assert replay.recovery == Recovery(Outcome.GAP, first=21)
    assert seqs(replay) == span(21, 25)
    assert member.done(log)


def test_a_gap_beyond_the_bound_ends_it() -> None:
    small = Retention(size=10, ttl=600.0)
    log = timeline(60, small)
    member = CatchUp(at(5), until=25)
    replay = member.step(log)
    assert (replay.recovery, seqs(replay)) == (Recovery(Outcome.GAP, first=51), [])
    assert member.done(log)


# Clipping


def replay(first: int, last: int, *, more: bool = False) -> Replay:
    return timeline(last).recover(at(first - 1))._replace(more=more)


@pytest.mark.parametrize("until", [None, 10, 50])
def test_nothing_to_clip(until: int | None) -> None:
    whole = replay(3, 9, more=True)
    assert clip(whole, until) == whole


def test_clipping_is_as_if_the_log_ended_there() -> None:
    clipped = clip(replay(3, 9, more=True), 6)
    assert seqs(clipped) == [3, 4, 5, 6]
    assert (clipped.position, clipped.more) == (at(6), False)


def test_a_page_that_ends_at_the_bound_is_the_last() -> None:
    clipped = clip(replay(3, 9, more=True), 9)
    assert (seqs(clipped), clipped.position, clipped.more) == (span(3, 9), at(9), False)


def test_clipping_everything_leaves_the_reader_where_it_was() -> None:
    clipped = clip(replay(8, 9), 6)
    assert (seqs(clipped), clipped.position, clipped.more) == ([], at(7), False)
