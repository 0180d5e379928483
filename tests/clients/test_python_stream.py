"""The Python client's view of one room: its place in the log, a bounded queue, who is there."""

import random
from typing import Any

import pytest
from hubbub_client.messages import Event, Frame, Gap, Joined, Left, Message, Position, Recovered
from hubbub_client.roster import Roster
from hubbub_client.stream import Discontinuity, Stream

LOG = "log.0"


def message(seq: int, **fields: object) -> Frame:
    return {
        "type": "message",
        "seq": seq,
        "id": f"m{seq}",
        "from": "bob",
        "data": seq,
        "ts": 0.5,
    } | (fields)


def joined(
    seqs: list[int], outcome: str = "none", end: int | None = None, log: str = LOG, **more: object
) -> Frame:
    """An answer to a join with these messages."""
    seq = end if end is not None else seqs[-1]
    recovery = {"outcome": outcome, **more}
    messages = [message(seq) for seq in seqs]
    position = {"log": log, "seq": seq}
    return {"position": position, "recovery": recovery, "messages": messages, "more": False}


def history(seqs: list[int], more: bool = False, log: str = LOG) -> Frame:
    return {"log": log, "messages": [message(seq) for seq in seqs], "more": more, "room": "r"}


def member(limit: int = 1000, seq: int = 0) -> Stream:
    """A stream that has been entered at `seq`."""
    stream = Stream("r", limit)
    stream.replay(joined([], end=seq))
    return stream


def read(stream: Stream) -> list[Event]:
    events = []
    while (event := stream.take()) is not None:
        events.append(event)
    return events


def shown(stream: Stream) -> list[Any]:
    """What is read, messages as their data."""
    return [event.data if isinstance(event, Message) else event for event in read(stream)]


def test_a_room_is_entered_with_its_newest_messages() -> None:
    stream = Stream("r", 100)
    stream.replay(joined([41, 42]))
    assert shown(stream) == [41, 42]
    assert stream.position == stream.taken == Position(LOG, 42)


def test_the_position_taken_is_that_of_what_was_read() -> None:
    stream = member(seq=5)
    stream.message(message(6))
    stream.message(message(7))
    assert stream.taken == Position(LOG, 5)
    stream.take()
    assert stream.taken == Position(LOG, 6)
    assert stream.position == Position(LOG, 7)


def test_a_message_that_names_a_new_log_names_it_for_all_that_follow() -> None:
    stream = member(seq=5)
    stream.message(message(6, log="log.1"))
    stream.message(message(7))
    events = read(stream)
    positions = [event.position for event in events if isinstance(event, Message)]
    assert positions == [Position("log.1", 6), Position("log.1", 7)]


def test_a_message_again_is_no_message() -> None:
    stream = member(seq=5)
    stream.message(message(5))
    assert shown(stream) == []


def test_a_hole_is_a_reason_to_come_back_from_the_position() -> None:
    stream = member(seq=5)
    with pytest.raises(Discontinuity, match="2 messages"):
        stream.message(message(8))
    assert stream.position == Position(LOG, 5)


def test_a_seq_that_begins_again_in_another_log_is_one_too() -> None:
    with pytest.raises(Discontinuity, match="another log"):
        member(seq=5).message(message(3, log="log.1"))


def test_what_is_skipped_is_no_hole() -> None:
    stream = member(seq=44)
    stream.message(message(52, skipped=7))
    (only,) = read(stream)
    assert isinstance(only, Message)
    assert (only.seq, only.skipped) == (52, 7)
    with pytest.raises(Discontinuity):
        stream.message(message(60, skipped=6))


def test_ephemeral_messages_have_no_place() -> None:
    stream = member(seq=5)
    stream.message({"ephemeral": True, "from": "bob", "data": "typing", "ts": 1.0})
    (only,) = read(stream)
    assert isinstance(only, Message)
    assert (only.ephemeral, only.seq, only.position) == (True, None, None)
    assert stream.taken == Position(LOG, 5)


def test_recovery_is_told_before_what_it_brings() -> None:
    stream = member(seq=5)
    stream.broken()
    stream.replay(joined([6, 7], "ok"))
    assert shown(stream) == [Recovered(2), 6, 7]


def test_a_recovery_that_leaves_something_out_is_no_recovery() -> None:
    stream = member(seq=5)
    stream.replay(joined([8, 9], "ok"))
    assert shown(stream) == [Recovered(2), Gap("gap", first=8), 8, 9]


@pytest.mark.parametrize(
    ("outcome", "told", "gap"),
    [
        ("gap", {"first": 16}, Gap("gap", first=16)),
        ("rewound", {"valid_to": 15}, Gap("rewound", valid_to=15)),
        ("reset", {}, Gap("reset")),
    ],
)
def test_a_gap_is_told_before_what_comes_after_it(
    outcome: str, told: dict[str, int], gap: Gap
) -> None:
    stream = member(seq=5)
    stream.replay(joined([16, 17], outcome, log="log.1", **told))
    assert shown(stream) == [gap, 16, 17]
    assert stream.taken == Position("log.1", 17)


def test_a_reset_that_brings_nothing_moves_the_position() -> None:
    stream = member(seq=500)
    stream.resync(joined([], "reset", end=3, log="other"))
    assert shown(stream) == [Gap("reset")]
    assert stream.position == stream.taken == Position("other", 3)
    stream.message(message(4))
    assert shown(stream) == [4]


# Own messages that do not come back


def test_an_ack_stands_in_the_place_of_a_silent_message() -> None:
    stream = member(seq=5)
    stream.sent_silently()
    stream.acknowledged(Position(LOG, 6))
    assert stream.position == stream.taken == Position(LOG, 6)
    stream.message(message(7))
    assert shown(stream) == [7]


def test_a_message_may_come_before_the_ack_of_a_silent_one_before_it() -> None:
    stream = member(seq=5)
    stream.sent_silently()
    stream.message(message(7))
    stream.acknowledged(Position(LOG, 6))
    stream.message(message(8))
    assert shown(stream) == [7, 8]
    with pytest.raises(Discontinuity):
        stream.message(message(10))


def test_acks_may_come_before_the_messages_before_them() -> None:
    stream = member(seq=5)
    for _ in range(3):
        stream.sent_silently()
    for seq in (7, 8, 10):
        stream.acknowledged(Position(LOG, seq))
    assert stream.position == Position(LOG, 5)
    stream.message(message(6))
    assert stream.position == Position(LOG, 8)
    stream.message(message(9))
    assert stream.position == Position(LOG, 10)
    assert shown(stream) == [6, 9]
    assert stream.taken == Position(LOG, 10)


def test_a_refused_silent_message_leaves_no_hole() -> None:
    stream = member(seq=5)
    stream.sent_silently()
    stream.acknowledged(None)
    with pytest.raises(Discontinuity):
        stream.message(message(7))


# A reader that does not keep up


def test_what_does_not_fit_in_is_fetched_as_the_reader_goes_on() -> None:
    stream = member(limit=4)
    for seq in range(1, 11):
        stream.message(message(seq))
    assert not stream.wants_page
    assert [stream.take(), stream.take()] != [None, None]
    assert stream.wants_page
    assert stream.page_request() == {"after": 4, "log": LOG, "limit": 2}
    stream.page(history([5, 6], more=True))
    assert shown(stream) == [3, 4, 5, 6]
    stream.page(history([7, 8, 9, 10]))
    assert not stream.wants_page
    assert shown(stream) == [7, 8, 9, 10]
    stream.message(message(11))
    assert shown(stream) == [11]


def test_what_comes_while_a_page_is_on_its_way_is_asked_for_too() -> None:
    stream = member(limit=2)
    for seq in (1, 2, 3):
        stream.message(message(seq))
    assert shown(stream) == [1, 2]
    stream.page_request()
    stream.message(message(4))
    stream.page(history([3]))
    assert stream.wants_page or len(shown(stream)) == 1
    stream.page(history([4]))
    assert shown(stream)[-1] == 4


def test_what_is_not_kept_for_a_slow_reader_is_told_as_a_gap() -> None:
    stream = member(limit=3)
    for seq in range(1, 11):
        stream.message(message(seq))
    assert shown(stream) == [1, 2, 3]
    stream.page(history([9, 10]))
    assert shown(stream) == [Gap("gap", first=9), 9, 10]


def test_pages_that_do_not_help_are_a_reason_to_come_back() -> None:
    for page in (history([]), history([3], log="other")):
        stream = member(limit=2)
        for seq in (1, 2, 3):
            stream.message(message(seq))
        read(stream)
        with pytest.raises(Discontinuity, match="not to be had"):
            stream.page(page)
        assert stream.position == Position(LOG, 2)


def test_a_resync_for_a_slow_reader_is_one_too() -> None:
    stream = member(limit=1)
    stream.message(message(1))
    stream.message(message(2))
    with pytest.raises(Discontinuity):
        stream.resync(joined([2], "rewound", valid_to=1))


def test_a_return_begins_where_the_queue_ends() -> None:
    stream = member(limit=2)
    for seq in (1, 2, 3, 4):
        stream.message(message(seq))
    stream.broken()
    assert stream.position == Position(LOG, 2)
    assert shown(stream) == [1, 2]
    stream.replay(joined([3, 4], "ok"))
    assert shown(stream) == [Recovered(2), 3]  # and 4 is fetched: the queue takes two
    stream.page(history([4]))
    assert shown(stream) == [4]


def test_a_room_that_nobody_reads_stays_small() -> None:
    stream = member(limit=3)
    for seq in range(1, 1000):
        stream.message(message(seq))
        stream.happened(Joined("bob", None))
        stream.replay(joined([seq + 5], "gap", first=seq + 5))
        stream.replay(joined([seq], "reset"))
    assert len(shown(stream)) <= 5


def test_any_reader_of_any_queue_gets_everything_in_order() -> None:
    """With a server that keeps all: messages, pages and lost connections in any mixture."""
    for seed in range(300):
        chance = random.Random(seed)
        stream, top = member(limit=chance.randint(1, 6)), 0
        got: list[Event | None] = []
        for _ in range(200):
            match chance.randrange(6):
                case 0 | 1 | 2:
                    top += 1
                    stream.message(message(top))
                case 3 if stream.wants_page:
                    request = stream.page_request()
                    first, most = request["after"] + 1, request["limit"]
                    seqs = list(range(first, min(top, first + most - 1) + 1))
                    stream.page(history(seqs, more=first + most - 1 < top))
                case 4 if chance.random() < 0.1:
                    stream.broken()
                    assert stream.position is not None
                    missed = list(range(stream.position.seq + 1, top + 1))
                    stream.replay(joined(missed, "ok", end=top))
                case _:
                    got.append(stream.take())
        read = [event.seq for event in got if isinstance(event, Message)]
        assert read == list(range(1, len(read) + 1)), seed
        assert not [event for event in got if isinstance(event, Gap)], seed


# Who is there


def present(*users: str, version: int = 1, **fields: object) -> Frame:
    members = [{"user": user, "info": None, "sessions": 1} for user in users]
    return {"members": members, "count": len(users), "version": version} | fields


def change(kind: str, user: str, version: int, count: int = 1) -> Frame:
    return {"type": kind, "user": user, "info": None, "count": count, "version": version}


def listed(*users: str, version: int = 1) -> Roster:
    roster = Roster()
    assert roster.listed(present(*users, version=version)) == []
    return roster


def names(roster: Roster) -> list[str] | None:
    return None if roster.members is None else [member.user for member in roster.members]


def test_joins_and_leaves_are_applied_in_order() -> None:
    roster = listed("bob", "ann", version=9)
    assert roster.changed(change("join", "cleo", 10, 3)) == [Joined("cleo", None)]
    assert roster.changed(change("leave", "bob", 11, 2)) == [Left("bob")]
    assert (names(roster), roster.count, roster.asks) == (["ann", "cleo"], 2, None)


def test_what_is_known_already_is_ignored() -> None:
    roster = listed("ann", version=9)
    assert roster.changed(change("leave", "ann", 9)) == []
    assert roster.counted({"count": 7, "version": 8}) == []
    assert (names(roster), roster.count) == (["ann"], 1)


def test_after_a_missed_change_the_list_is_asked_for() -> None:
    roster = listed("ann", "bob", version=9)
    assert roster.changed(change("join", "cleo", 11)) == []
    assert roster.asks == {}
    assert roster.changed(change("join", "dan", 12)) == []
    told = roster.page(present("ann", "cleo", version=11, more=False))
    assert told == [Left("bob"), Joined("cleo", None), Joined("dan", None)]
    assert names(roster) == ["ann", "cleo", "dan"]


def test_a_list_of_several_pages_is_complete_before_it_counts() -> None:
    roster = listed("ann", version=9)
    roster.changed(change("join", "x", 20))
    assert roster.page(present("ann", "bob", version=20, count=4, more=True)) == []
    assert roster.asks == {"after": "bob"}
    roster.changed(change("leave", "bob", 21, 3))
    roster.changed(change("leave", "nobody", 22, 3))
    roster.page(present("cleo", "x", version=22, more=False))
    assert (names(roster), roster.count) == (["ann", "cleo", "x"], 3)


def test_a_crowded_room_tells_its_count_only() -> None:
    roster = listed("ann", version=9)
    assert roster.counted({"count": 250, "version": 10}) == []
    assert (names(roster), roster.count) == (None, 250)
    assert roster.counted(present("ann", "bob", version=400)) == []
    assert (names(roster), roster.count) == (["ann", "bob"], 2)


def test_a_room_that_becomes_crowded_while_it_is_asked_for() -> None:
    roster = listed("ann", version=9)
    roster.changed(change("join", "x", 20))
    assert roster.page({"members": None, "count": 300, "version": 30, "more": False}) == []
    assert (names(roster), roster.count, roster.asks) == (None, 300, None)


def test_a_list_that_is_refused_is_done_without() -> None:
    roster = listed("ann", version=9)
    roster.changed(change("join", "bob", 11, 2))
    assert roster.unavailable() == [Joined("bob", None)]
    assert (names(roster), roster.asks) == (["ann", "bob"], None)


def test_a_room_without_presence() -> None:
    roster = Roster()
    roster.listed({"members": None, "count": None, "version": None})
    assert (names(roster), roster.count) == (None, None)


def test_who_came_and_went_while_we_were_away_is_told() -> None:
    roster = listed("ann", "bob", version=9)
    told = roster.listed(present("ann", "cleo", version=3))
    assert told == [Left("bob"), Joined("cleo", None)]
