"""The log of one room: numbers, what is kept, and the verdict on a position."""

import pytest

from domain.identifiers import RoomId, SessionId, UserId
from domain.message import Draft, Message
from domain.options import Retention
from domain.position import Position
from domain.timeline import (
    MAX_PAGE_BYTES,
    MAX_PAGE_MESSAGES,
    Outcome,
    Page,
    PageRequest,
    Recovery,
    Timeline,
)

KEEP = Retention(size=1000, ttl=600.0)


def draft(data: bytes = b"1") -> Draft:
    return Draft(RoomId("chat"), UserId("ann"), data)


def say(
    timeline: Timeline, count: int = 1, keep: Retention = KEEP, now: float = 0.0, data: bytes = b"1"
) -> None:
    for _ in range(count):
        timeline.append(timeline.number(draft(data), f"m{timeline.top + 1}", now), keep, now)


def timeline(count: int = 0, keep: Retention = KEEP) -> Timeline:
    """A log of that many messages, all in term t1."""
    fresh = Timeline("e1", "t1")
    say(fresh, count, keep)
    return fresh


def at(seq: int, term: str = "t1", epoch: str = "e1") -> Position:
    return Position(epoch, seq, term)


def seqs(messages: list[Message]) -> list[int]:
    return [message.seq for message in messages]


def span(first: int, last: int) -> list[int]:
    return list(range(first, last + 1))


# numbering


def test_a_message_carries_what_was_drafted_and_its_place() -> None:
    log = timeline(2)
    full = Draft(RoomId("chat"), UserId("ann"), b"1", key="k", principal="ann", skip=SessionId("s"))
    message = log.number(full, "m3", 12.5)
    assert message == Message(
        RoomId("chat"), 3, "m3", UserId("ann"), b"1", 12.5, "e1.t1", False, SessionId("s")
    )


def test_numbers_are_consecutive_from_one() -> None:
    log = timeline(5)
    assert seqs(log.recover(at(0)).messages) == [1, 2, 3, 4, 5]
    assert log.position == at(5)


def test_numbering_does_not_take_the_number() -> None:
    log = timeline(2)
    assert log.number(draft(), "a", 0.0).seq == log.number(draft(), "b", 0.0).seq == 3
    assert log.top == 2


def test_numbering_can_continue_from_a_known_top() -> None:
    log = Timeline("e1", "t1", top=41)
    assert log.number(draft(), "m", 0.0).seq == 42
    assert (log.first, log.position) == (42, at(41))


@pytest.mark.parametrize("seq", [0, 1, 2, 4, -1])
def test_a_message_out_of_turn_is_not_stored(seq: int) -> None:
    log = timeline(2)
    message = log.number(draft(), "m3", 0.0)._replace(seq=seq)
    with pytest.raises(ValueError, match=f"seq {seq} does not follow 2"):
        log.append(message, KEEP, 0.0)
    assert (log.top, seqs(log.recover(at(0)).messages)) == (2, [1, 2])


def test_only_the_first_message_of_a_log_opens_it() -> None:
    log = timeline()
    opens = []
    for term in (None, None, "t2", None):
        if term:
            log.begin_term(term)
        message = log.number(draft(), "m", 0.0)
        opens.append((message.opens_log, message.log))
        log.append(message, KEEP, 0.0)
    assert opens == [(True, "e1.t1"), (False, "e1.t1"), (True, "e1.t2"), (False, "e1.t2")]


# keeping


def test_the_newest_messages_are_kept() -> None:
    log = timeline(10, Retention(size=3, ttl=600.0))
    assert (log.first, log.top) == (8, 10)
    assert seqs(log.latest(100).messages) == [8, 9, 10]


def test_a_room_may_keep_nothing_and_still_counts() -> None:
    log = timeline(3, Retention(size=0, ttl=600.0))
    assert (log.first, log.top) == (4, 3)
    assert log.latest(100).messages == []
    assert log.recover(at(3)).recovery == Recovery(Outcome.OK)
    assert log.recover(at(2)).recovery == Recovery(Outcome.GAP, first=4)


def test_a_smaller_size_takes_effect_with_the_next_message() -> None:
    log = timeline(10)
    say(log, 1, Retention(size=2, ttl=600.0))
    assert log.first == 10


def test_messages_are_forgotten_together_once_the_last_is_old() -> None:
    log = Timeline("e1", "t1")
    say(log, now=100.0)
    say(log, now=500.0)
    assert log.expires_at == 1100.0
    assert not log.expire(1099.9)
    assert log.first == 1
    assert log.expire(1100.0)
    assert (log.first, log.top, log.latest(100).messages) == (3, 2, [])
    assert not log.expire(1101.0)


def test_the_count_goes_on_after_everything_was_forgotten() -> None:
    log = timeline(2)
    log.expire(600.0)
    say(log, now=700.0)
    assert seqs(log.latest(100).messages) == [3]
    assert not log.expire(1299.9)


def test_an_empty_log_has_nothing_to_forget() -> None:
    assert not timeline().expire(1e9)


# the verdict on a position


def test_who_has_seen_everything_misses_nothing() -> None:
    replay = timeline(5).recover(at(5))
    assert replay == (Recovery(Outcome.OK), [], at(5), False)


def test_what_was_missed_is_replayed() -> None:
    replay = timeline(5).recover(at(3))
    assert replay.recovery == Recovery(Outcome.OK)
    assert (seqs(replay.messages), replay.position, replay.more) == ([4, 5], at(5), False)


def test_the_beginning_of_an_empty_log_is_a_position() -> None:
    assert timeline().recover(at(0)).recovery == Recovery(Outcome.OK)


def test_what_is_no_longer_kept_is_a_gap() -> None:
    log = timeline(10, Retention(size=3, ttl=600.0))
    assert log.recover(at(7)).recovery == Recovery(Outcome.OK)
    replay = log.recover(at(6))
    assert replay.recovery == Recovery(Outcome.GAP, first=8)
    assert (seqs(replay.messages), replay.position) == ([8, 9, 10], at(10))


def test_after_everything_was_forgotten_a_gap_has_no_messages() -> None:
    log = timeline(5)
    log.expire(600.0)
    replay = log.recover(at(3))
    assert replay == (Recovery(Outcome.GAP, first=6), [], at(5), False)


def test_a_seq_above_the_top_is_taken_back_to_it() -> None:
    replay = timeline(5).recover(at(9))
    assert replay == (Recovery(Outcome.REWOUND, valid_to=5), [], at(5), False)


@pytest.mark.parametrize(
    "position",
    [
        at(3, epoch="e2"),
        at(3, term="t9"),
        at(3, term=""),
        at(-1),
        Position.parse("", 3),
        Position.parse("garbage", 3),
        Position.parse("e1.t1.x", 3),
    ],
)
def test_an_unknown_position_is_a_reset_without_messages(position: Position) -> None:
    replay = timeline(5).recover(position)
    assert replay == (Recovery(Outcome.RESET), [], at(5), False)


def test_a_new_term_that_lost_nothing_goes_unnoticed() -> None:
    log = timeline(5)
    log.begin_term("t2")
    say(log, 2)
    for seen in (3, 5):
        replay = log.recover(at(seen))
        assert replay.recovery == Recovery(Outcome.OK)
        assert (seqs(replay.messages), replay.position) == (span(seen + 1, 7), at(7, "t2"))


def test_what_an_earlier_term_numbered_above_the_start_of_the_next_is_withdrawn() -> None:
    log = timeline(5)
    log.begin_term("t2")
    say(log, 2)
    replay = log.recover(at(6, "t1"))
    assert replay.recovery == Recovery(Outcome.REWOUND, valid_to=5)
    assert (seqs(replay.messages), replay.position) == ([6, 7], at(7, "t2"))


def test_a_loss_is_told_before_the_new_term_has_a_message() -> None:
    log = timeline(5)
    log.begin_term("t2")
    assert log.recover(at(6, "t1")).recovery == Recovery(Outcome.REWOUND, valid_to=5)
    assert log.recover(at(5, "t1")).recovery == Recovery(Outcome.OK)


def test_the_verdict_goes_by_the_term_right_after_the_readers() -> None:
    log = timeline(3)
    for term in ("t2", "t3"):
        log.begin_term(term)
        say(log, 2)
    assert log.recover(at(9, "t1")).recovery == Recovery(Outcome.REWOUND, valid_to=3)
    assert log.recover(at(9, "t2")).recovery == Recovery(Outcome.REWOUND, valid_to=5)
    assert log.recover(at(9, "t3")).recovery == Recovery(Outcome.REWOUND, valid_to=7)


def test_a_withdrawal_whose_replacement_is_gone_is_a_reset() -> None:
    log = timeline(5)
    log.begin_term("t2")
    say(log, 2, Retention(size=2, ttl=600.0))
    assert log.recover(at(6, "t1")).recovery == Recovery(Outcome.REWOUND, valid_to=5)
    say(log, 1, Retention(size=2, ttl=600.0))
    assert log.recover(at(6, "t1")).recovery == Recovery(Outcome.RESET)
    assert log.recover(at(4, "t1")).recovery == Recovery(Outcome.GAP, first=7)


def test_sixteen_terms_are_remembered() -> None:
    log = timeline(1)
    for number in range(2, 18):
        log.begin_term(f"t{number}")
        say(log)
    assert log.recover(at(1, "t1")).recovery == Recovery(Outcome.RESET)
    assert log.recover(at(2, "t2")).recovery == Recovery(Outcome.OK)


# pages


def test_a_long_replay_comes_in_pages_without_a_hole() -> None:
    log = timeline(MAX_PAGE_MESSAGES * 2 + 1)
    first = log.recover(at(0))
    assert (seqs(first.messages), first.position, first.more) == (span(1, 100), at(100), True)
    second = log.recover(first.position)
    assert (seqs(second.messages), second.more) == (span(101, 200), True)
    third = log.recover(second.position)
    assert (seqs(third.messages), third.position, third.more) == ([201], at(201), False)


def test_a_replay_that_just_fits_says_there_is_no_more() -> None:
    replay = timeline(MAX_PAGE_MESSAGES).recover(at(0))
    assert (len(replay.messages), replay.more) == (MAX_PAGE_MESSAGES, False)


def test_a_page_is_bounded_in_bytes() -> None:
    log = Timeline("e1", "t1")
    say(log, 10, data=b"1" * 60_000)
    replay = log.recover(at(0))
    assert (seqs(replay.messages), replay.position, replay.more) == ([1, 2, 3, 4], at(4), True)
    assert sum(len(message.data) for message in replay.messages) <= MAX_PAGE_BYTES


def test_a_page_holds_one_message_however_large() -> None:
    log = Timeline("e1", "t1")
    say(log, 2, data=b"1" * (MAX_PAGE_BYTES + 1))
    assert seqs(log.recover(at(0)).messages) == [1]
    assert seqs(log.page(PageRequest()).messages) == [2]


def test_a_reader_may_ask_for_less() -> None:
    replay = timeline(5).recover(at(0), max_messages=2)
    assert (seqs(replay.messages), replay.position, replay.more) == ([1, 2], at(2), True)
    replay = timeline(5).recover(at(0), max_bytes=1)
    assert (seqs(replay.messages), replay.position, replay.more) == ([1], at(1), True)


@pytest.mark.parametrize(("count", "expected"), [(0, []), (2, [4, 5]), (5, span(1, 5)), (9, [])])
def test_the_latest_messages_ascend_to_the_top(count: int, expected: list[int]) -> None:
    replay = timeline(5).latest(count)
    assert replay.recovery == Recovery(Outcome.NONE)
    assert seqs(replay.messages) == (expected or span(1, 5)[: min(count, 5)])
    assert (replay.position, replay.more) == (at(5), False)


def test_many_latest_messages_begin_with_the_oldest_of_them() -> None:
    replay = timeline(500).latest(150)
    assert (seqs(replay.messages), replay.position, replay.more) == (span(351, 450), at(450), True)
    assert seqs(timeline(500).recover(replay.position).messages) == span(451, 500)


@pytest.mark.parametrize(
    ("request_", "expected", "more"),
    [
        (PageRequest(), span(11, 30), False),
        (PageRequest(limit=3), [28, 29, 30], True),
        (PageRequest(before=15), [11, 12, 13, 14], False),
        (PageRequest(before=15, limit=2), [13, 14], True),
        (PageRequest(before=13, limit=2), [11, 12], False),
        (PageRequest(before=31, limit=1), [30], True),
        (PageRequest(before=1000, limit=1), [30], True),
        (PageRequest(before=11), [], False),
        (PageRequest(before=5), [], False),
        (PageRequest(before=0), [], False),
        (PageRequest(before=-5), [], False),
        (PageRequest(after=27), [28, 29, 30], False),
        (PageRequest(after=15, limit=2), [16, 17], True),
        (PageRequest(after=28, limit=2), [29, 30], False),
        (PageRequest(after=5, limit=2), [11, 12], True),
        (PageRequest(after=-5, limit=2), [11, 12], True),
        (PageRequest(after=30), [], False),
        (PageRequest(after=1000), [], False),
        (PageRequest(limit=0), [], True),
        (PageRequest(limit=-1), [], True),
        (PageRequest(after=30, limit=0), [], False),
        (PageRequest(log="e1.t1", limit=1), [30], True),
        (PageRequest(log="e1.t0", after=15), [], False),
        (PageRequest(log="", after=15), [], False),
    ],
)
def test_a_page_of_history(request_: PageRequest, expected: list[int], more: bool) -> None:
    log = timeline(30, Retention(size=20, ttl=600.0))
    page = log.page(request_)
    assert (page.log, seqs(page.messages), page.more) == ("e1.t1", expected, more)


def test_history_of_an_empty_room() -> None:
    for request in (PageRequest(), PageRequest(before=1), PageRequest(after=0)):
        assert timeline().page(request) == Page("e1.t1", [], False)


@pytest.mark.parametrize("limit", [1_000_000, MAX_PAGE_MESSAGES])
def test_nobody_gets_more_than_a_page(limit: int) -> None:
    log = timeline(500)
    assert seqs(log.page(PageRequest(limit=limit)).messages) == span(401, 500)
    assert seqs(log.page(PageRequest(after=0, limit=limit)).messages) == span(1, 100)


def test_what_was_handed_out_does_not_change_afterwards() -> None:
    log = timeline(3)
    replay, page = log.recover(at(0)), log.page(PageRequest())
    say(log, 1, Retention(size=1, ttl=600.0))
    assert seqs(replay.messages) == seqs(page.messages) == [1, 2, 3]
