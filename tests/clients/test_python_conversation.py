"""What the Python client says and when, frame by frame, without a socket."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hubbub_client import requests
from hubbub_client.backoff import Backoff
from hubbub_client.clock import Moment
from hubbub_client.command import Kind, Lost, Outcome
from hubbub_client.conversation import Conversation
from hubbub_client.errors import Disconnected, HubbubError, OutcomeUnknown, Refused, RemovedFromRoom
from hubbub_client.messages import Event, Frame, Message, Position, Removed
from hubbub_client.outbox import Outbox
from hubbub_client.seat import Ended, Seat
from hubbub_client.stream import Discontinuity

PAGE = (Path(__file__).parents[2] / "PROTOCOL.md").read_text()
BLOCKS = dict(re.findall(r"^```json name=(\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
LOG = "log.0"


class Talk:
    """A conversation, and the server's side of it. Seconds go by with `sleep` only."""

    def __init__(self, **limits: float) -> None:
        self.now = Moment(1000.0, 1e9)
        self.it = Conversation(Outbox(Backoff()), max_queue=100, wake=lambda: None)
        self.limits = limits
        self.outcomes: list[Outcome] = []

    def sleep(self, seconds: float) -> None:
        self.now = Moment(self.now.steady + seconds, self.now.wall + seconds)

    def begin(self) -> "Talk":
        self.it.begin({"type": "connected", "user_id": "ann", "limits": self.limits})
        return self

    def said(self) -> list[Frame]:
        """What is to be sent now."""
        frames = []
        while (command := self.it.next(self.now)[0]) is not None:
            frames.append(json.loads(command.text))
        return frames

    def hear(self, kind: str, **fields: object) -> None:
        self.it.received({"type": kind, **fields}, self.now)

    def answer(self, frame: Frame, kind: str = "ack", **fields: object) -> None:
        self.hear(kind, id=frame["id"], **fields)

    def joined(self, frame: Frame, seq: int = 0, log: str = LOG, outcome: str = "none") -> None:
        self.answer(
            frame,
            "joined",
            room=frame["room"],
            position={"log": log, "seq": seq},
            messages=[],
            recovery={"outcome": outcome},
            more=False,
            members=[],
            count=0,
            version=1,
        )

    def member(self, room: str = "r") -> Seat:
        """A seat in a room that has been entered."""
        seat = self.it.sit(room, 0, None)
        (join,) = self.said()
        self.joined(join)
        return seat

    def publish(self, data: object = 1, room: str = "r", **fields: object) -> None:
        self.it.publish(room, self.outcomes.append, data=data, key="k", **fields)

    def acknowledged(self, frame: Frame, seq: int) -> None:
        self.answer(frame, room="r", seq=seq, log=LOG, message_id=f"m{seq}", duplicate=False)


def message(seq: int) -> dict[str, Any]:
    return {"room": "r", "seq": seq, "id": f"m{seq}", "from": None, "data": seq, "ts": 1.0}


async def events(seat: Seat) -> list[Event]:
    found = []
    while seat.stream:
        found.append(await seat.take())
    return found


# The protocol as it is written


@pytest.mark.parametrize("name", [n for n in BLOCKS if re.match(r"reply|push|error", n)])
def test_every_frame_of_the_protocol_is_understood(name: str) -> None:
    talk = Talk().begin()
    talk.member("chat:general")
    try:
        talk.it.received(json.loads(BLOCKS[name]), talk.now)
    except Discontinuity as fault:  # these do not follow upon each other
        assert "missing" in str(fault)  # noqa: PT017
        assert name.startswith("push.message")


def test_frames_of_types_to_come_are_ignored() -> None:
    talk = Talk().begin()
    talk.member()
    talk.hear("weather", room="r", id=1, rain=True)
    talk.hear("message", **message(1), colour="red")
    assert talk.said() == []


# Joining


def test_rooms_are_joined_anew_from_their_positions() -> None:
    talk = Talk()
    seat = talk.it.sit("r", 50, None)
    assert talk.said() == []
    talk.begin()
    (join,) = talk.said()
    assert join == {"type": "join", "id": join["id"], "room": "r", "history": 50}
    talk.joined(join, seq=7)
    talk.hear("message", **message(8))
    talk.it.lost()
    talk.begin()
    (again,) = talk.said()
    assert again["position"] == {"log": LOG, "seq": 8}
    assert again["history"] == 50
    assert seat.stream.position == Position(LOG, 8)


def test_what_comes_before_the_answer_to_a_join_is_of_another_membership() -> None:
    talk = Talk().begin()
    talk.it.sit("r", 0, Position(LOG, 3))
    (join,) = talk.said()
    talk.hear("message", **message(9))
    talk.joined(join, seq=3, outcome="ok")
    talk.hear("message", **message(4))
    assert talk.it.seats["r"].stream.position == Position(LOG, 4)


def test_the_own_room_is_left_first_because_the_server_has_joined_it() -> None:
    talk = Talk().begin()
    talk.hear("joined", room="@ann", position={"log": LOG, "seq": 2})
    talk.it.sit("@ann", 0, None)
    leave, join = talk.said()
    assert (leave["type"], join["type"]) == ("leave", "join")
    talk.answer(leave, room="@ann")
    talk.joined(join, seq=2)
    talk.it.lost()
    talk.begin()
    assert [frame["type"] for frame in talk.said()] == ["leave", "join"]


async def test_a_join_that_may_succeed_later_is_tried_again() -> None:
    talk = Talk().begin()
    seat = talk.it.sit("r", 0, None)
    (join,) = talk.said()
    talk.answer(join, "error", code="unavailable", message="", retry=True, retry_after=2.0)
    assert talk.said() == []
    talk.sleep(2.0)
    (again,) = talk.said()
    assert again == join
    talk.joined(again)
    await seat.entry()


async def test_a_refused_join_is_over() -> None:
    talk = Talk().begin()
    seat = talk.it.sit("r", 0, None)
    (join,) = talk.said()
    talk.answer(join, "error", code="not_granted", message="no", retry=False)
    with pytest.raises(Refused, match="not_granted: no"):
        await seat.entry()
    assert talk.it.seats == {}


async def test_a_room_that_does_not_take_us_back_is_a_removal() -> None:
    talk = Talk().begin()
    seat = talk.member()
    talk.it.lost()
    talk.begin()
    (join,) = talk.said()
    talk.answer(join, "error", code="room_full", message="full", retry=False)
    assert await seat.take() == Removed("room_full", "room_full: full")
    with pytest.raises(RemovedFromRoom, match="full"):
        await seat.take()


async def test_a_seat_that_is_given_up_is_not_taken_again() -> None:
    talk = Talk().begin()
    seat = talk.member()
    assert talk.it.rise(seat)
    (leave,) = talk.said()
    assert (leave["type"], leave["room"]) == ("leave", "r")
    talk.hear("message", **message(1))
    talk.it.lost()
    talk.begin()
    assert talk.said() == []
    with pytest.raises(Ended):
        await seat.take()


def test_who_is_let_in_after_a_removal_leaves() -> None:
    talk = Talk().begin()
    talk.it.sit("r", 0, None)
    (join,) = talk.said()
    talk.hear("removed", room="r", code="kicked", reason="")
    talk.joined(join)
    (leave,) = talk.said()
    assert (leave["type"], leave["room"]) == ("leave", "r")


def test_who_is_put_into_a_room_while_joining_it_comes_back() -> None:
    """Which messages are of which membership could not be told apart."""
    talk = Talk().begin()
    talk.it.sit("r", 0, None)
    talk.said()
    with pytest.raises(Discontinuity, match="put into r"):
        talk.hear("joined", room="r", position={"log": LOG, "seq": 2})


def test_members_are_asked_for_after_a_missed_change() -> None:
    talk = Talk().begin()
    seat = talk.member()
    talk.hear("join", room="r", user="bob", info=None, count=9, version=5)
    (ask,) = talk.said()
    assert ask["type"] == "members"
    talk.hear("join", room="r", user="cleo", info=None, count=9, version=6)
    assert talk.said() == []
    bob = {"user": "bob", "info": None, "sessions": 1}
    talk.answer(ask, "members", room="r", members=[bob], count=9, version=5, more=True)
    (further,) = talk.said()
    assert further["after"] == "bob"
    talk.answer(further, "members", room="r", members=[], count=9, version=6, more=False)
    assert [member.user for member in seat.roster.members or []] == ["bob", "cleo"]


# Publishing


def test_what_is_published_offline_is_sent_later_and_in_order() -> None:
    talk = Talk()
    for number in range(5):
        talk.publish(number)
    talk.begin()
    assert [frame["data"] for frame in talk.said()] == list(range(5))


def test_after_a_lost_connection_the_same_frames_are_sent_again() -> None:
    talk = Talk().begin()
    for number in range(4):
        talk.publish(number)
    first = talk.said()
    talk.acknowledged(first[0], 1)
    talk.it.lost()
    talk.publish(4)
    talk.begin()
    again = talk.said()
    assert again[:3] == first[1:]
    assert [frame["data"] for frame in again] == [1, 2, 3, 4]


def test_publishing_to_a_room_waits_until_we_are_in() -> None:
    talk = Talk().begin()
    talk.it.sit("r", 0, None)
    talk.publish("inside")
    talk.publish("elsewhere", room="s")
    sent = talk.said()
    assert [(frame["type"], frame["room"]) for frame in sent] == [("join", "r"), ("publish", "s")]
    talk.joined(sent[0])
    assert [frame["data"] for frame in talk.said()] == ["inside"]


def test_an_error_that_allows_it_is_answered_by_another_try() -> None:
    talk = Talk().begin()
    talk.publish()
    (frame,) = talk.said()
    talk.answer(frame, "error", code="unknown", message="", retry=True)
    assert talk.said() == []
    talk.sleep(2.0)
    assert talk.said() == [frame]
    talk.answer(frame, "error", code="not_granted", message="", retry=False)
    (outcome,) = talk.outcomes
    assert isinstance(outcome, Refused)


def test_who_is_too_fast_sends_nothing_until_it_may() -> None:
    talk = Talk().begin()
    for number in range(3):
        talk.publish(number)
    first, second, third = talk.said()
    talk.answer(second, "error", code="rate_limited", message="", retry=True, retry_after=0.5)
    talk.answer(third, "error", code="rate_limited", message="", retry=True, retry_after=0.25)
    talk.publish(3)
    assert talk.said() == []
    assert talk.it.next(talk.now)[1] == pytest.approx(0.5)
    talk.sleep(0.5)
    assert [frame["data"] for frame in talk.said()] == [1, 2, 3]
    talk.acknowledged(first, 1)


def test_the_rate_of_the_server_is_kept() -> None:
    talk = Talk(messages_per_second=10, messages_burst=10).begin()
    for number in range(100):
        talk.publish(number)
    assert len(talk.said()) == 8
    talk.sleep(0.5)
    assert len(talk.said()) == 5


def test_so_many_wait_for_their_answers_at_a_time() -> None:
    talk = Talk().begin()
    for number in range(200):
        talk.publish(number)
    sent = talk.said()
    assert len(sent) == 128  # the server lets 256 wait behind a join
    talk.acknowledged(sent[0], 1)
    assert [frame["data"] for frame in talk.said()] == [128]


def test_a_key_too_old_is_not_used_again() -> None:
    talk = Talk().begin()
    talk.publish()
    talk.said()
    talk.it.lost()
    talk.sleep(291)
    talk.begin()
    assert talk.said() == []
    (outcome,) = talk.outcomes
    assert isinstance(outcome, OutcomeUnknown)


def test_time_asleep_makes_a_key_old_too() -> None:
    talk = Talk().begin()
    talk.publish()
    talk.said()
    talk.it.lost()
    talk.now = Moment(talk.now.steady + 1, talk.now.wall + 3600)
    talk.begin()
    assert talk.said() == []
    assert isinstance(talk.outcomes[0], OutcomeUnknown)


def test_what_was_refused_for_certain_may_wait_as_long_as_it_takes() -> None:
    talk = Talk().begin()
    talk.publish()
    for _ in range(10):
        (frame,) = talk.said()
        error = {"code": "unavailable", "message": "", "retry": True, "retry_after": 60}
        talk.answer(frame, "error", **error)
        talk.sleep(60)
    assert talk.outcomes == []


def test_what_was_never_sent_may_wait_as_long_as_it_takes() -> None:
    talk = Talk()
    talk.publish()
    talk.sleep(3600)
    talk.begin()
    assert len(talk.said()) == 1


def test_another_log_knows_no_keys_of_before() -> None:
    talk = Talk().begin()
    talk.member()
    talk.publish("perhaps there")
    talk.said()
    talk.it.lost()
    talk.publish("never sent")
    talk.begin()
    (join,) = talk.said()
    talk.joined(join, log="other", outcome="reset")
    assert [frame["data"] for frame in talk.said()] == ["never sent"]
    (outcome,) = talk.outcomes
    assert isinstance(outcome, OutcomeUnknown)


def test_a_frame_over_the_limit_is_not_sent() -> None:
    talk = Talk(frame_bytes=200).begin()
    talk.publish("é" * 100)
    (outcome,) = talk.outcomes
    assert isinstance(outcome, Refused)
    assert outcome.code == "message_too_large"
    talk.publish("é" * 40)
    assert len(talk.said()) == 1


def test_a_frame_over_the_limit_of_the_next_server_is_not_sent_to_that_one() -> None:
    """It would not read it, and so not say which one it was."""
    talk = Talk()
    talk.publish("x" * 300)
    talk.limits = {"frame_bytes": 200}
    talk.begin()
    assert talk.said() == []
    assert getattr(talk.outcomes[0], "code", None) == "message_too_large"


@pytest.mark.parametrize("data", [float("nan"), {"a": float("inf")}, object(), "\ud800"])
def test_what_is_no_json_is_an_error_at_once(data: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        Talk().begin().publish(data)


def test_a_withdrawn_publish_is_not_sent() -> None:
    talk = Talk()
    command = talk.it.publish("r", talk.outcomes.append, data=1, key="k")
    talk.it.say.withdraw(command)
    assert talk.begin().said() == []
    assert talk.outcomes == []


def test_silent_messages_leave_no_hole() -> None:
    talk = Talk().begin()
    seat = talk.member()
    talk.publish("mine", echo=False)
    (frame,) = talk.said()
    talk.hear("message", **message(2))
    talk.acknowledged(frame, 1)
    assert seat.stream.position == Position(LOG, 2)
    with pytest.raises(Discontinuity):
        talk.hear("message", **message(4))


def test_what_does_not_last_is_lost_with_its_connection() -> None:
    talk = Talk().begin()
    talk.it.publish("r", talk.outcomes.append, data=1, ephemeral=True)
    talk.said()
    talk.it.lost()
    assert isinstance(talk.outcomes[0], Lost)
    assert talk.begin().said() == []


def test_the_end_is_told_to_everybody_who_waits() -> None:
    talk = Talk().begin()
    talk.publish("sent")
    talk.said()
    talk.publish("not sent yet")
    talk.it.end(Disconnected(4003, "enough"))
    talk.publish("too late")
    sent, *others = talk.outcomes
    assert isinstance(sent, OutcomeUnknown)
    assert [isinstance(outcome, Disconnected) for outcome in others] == [True, True]


# A reader that does not keep up


async def test_a_page_is_asked_for_when_there_is_room_for_it() -> None:
    talk = Talk().begin()
    seat = talk.member()
    for seq in range(1, 121):
        talk.hear("message", **message(seq))
    assert talk.said() == []
    read = [await seat.take() for _ in range(60)]
    talk.it.follow_up(seat)
    (ask,) = talk.said()
    assert (ask["type"], ask["after"], ask["log"]) == ("history", 100, LOG)
    talk.it.follow_up(seat)
    assert talk.said() == []
    page = [message(seq) for seq in range(101, 121)]
    talk.answer(ask, "history", room="r", log=LOG, messages=page, more=False)
    talk.hear("message", **message(121))
    read += await events(seat)
    seqs = [event.seq for event in read if isinstance(event, Message)]
    assert seqs == list(range(1, 122))


async def test_a_page_that_is_refused_is_a_reason_to_come_back() -> None:
    talk = Talk().begin()
    seat = talk.member()
    for seq in range(1, 121):
        talk.hear("message", **message(seq))
    await events(seat)
    talk.it.follow_up(seat)
    (ask,) = talk.said()
    with pytest.raises(Discontinuity, match="not to be had"):
        talk.answer(ask, "error", code="not_granted", message="", retry=False)
    talk.it.lost()
    talk.begin()
    (join,) = talk.said()
    assert join["position"] == {"log": LOG, "seq": 100}


async def test_a_reader_is_woken_once_there_is_something() -> None:
    talk = Talk().begin()
    seat = talk.member()
    reading = asyncio.create_task(seat.take())
    await asyncio.sleep(0)
    talk.hear("message", **message(1))
    event = await reading
    assert isinstance(event, Message)


async def test_a_reader_that_is_cancelled_takes_nothing_with_it() -> None:
    talk = Talk().begin()
    seat = talk.member()
    reading = asyncio.create_task(seat.take())
    await asyncio.sleep(0)
    talk.hear("message", **message(1))
    reading.cancel()
    await asyncio.wait({reading})
    event = await seat.take()
    assert isinstance(event, Message)
    assert event.seq == 1


def test_errors_have_a_code_each() -> None:
    errors: list[HubbubError] = [
        Refused("not_granted"), OutcomeUnknown(), Disconnected(4003, ""),
        RemovedFromRoom("r", "kicked", ""),
    ]  # fmt: skip
    assert [e.code for e in errors] == ["not_granted", "unknown", "closed", "kicked"]


# What goes at once, what is given up


def test_what_cannot_wait_is_not_taken_where_it_would_have_to() -> None:
    talk = Talk(messages_per_second=1, messages_burst=5).begin()
    taken = 0
    while talk.it.takes("r", talk.now):
        talk.it.publish("r", talk.outcomes.append, data=taken, ephemeral=True)
        taken += 1
    assert taken == 4, "four fifths of a burst, those counted that are not sent yet"
    talk.publish("lasting")
    assert [frame["data"] for frame in talk.said()] == [0, 1, 2, 3]
    talk.sleep(1)
    assert [frame["data"] for frame in talk.said()] == ["lasting"]
    assert not talk.it.takes("r", talk.now)
    talk.sleep(1)
    assert talk.it.takes("r", talk.now)


def test_nor_behind_a_full_window() -> None:
    talk = Talk().begin()
    for number in range(200):
        talk.it.publish("r", talk.outcomes.append, data=number, key=str(number))
    first, *_ = talk.said()
    assert not talk.it.takes("r", talk.now)
    talk.acknowledged(first, 1)
    assert talk.it.takes("r", talk.now)


async def test_a_signal_that_would_have_to_wait_is_dropped() -> None:
    talk = Talk(messages_per_second=0.001, messages_burst=1).begin()
    first = asyncio.create_task(requests.signal(talk.it, "r", 1))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        assert await requests.signal(talk.it, "r", 2) is False
    first.cancel()


def test_what_was_withdrawn_takes_no_room() -> None:
    outbox = Outbox(Backoff())
    talk = Conversation(outbox, max_queue=100, wake=lambda: None)
    kept = talk.publish("r", lambda _: None, data="kept", key="kept")
    for number in range(1000):
        command = talk.publish("r", lambda _: None, data="x" * 1000, key=str(number))
        talk.say.withdraw(command)
    queue = outbox._queues[Kind.PUBLISH]
    assert sum(len(command.text) for _, command in queue) == len(kept.text)
    assert len(queue) < 100
    talk.begin({"type": "connected", "user_id": "ann", "limits": {}})
    assert talk.next(Moment(1000.0, 1e9))[0] is kept


def test_a_join_that_is_given_up_does_not_come_through_later() -> None:
    talk = Talk().begin()
    seat = talk.it.sit("r", 0, None)
    (join,) = talk.said()
    talk.answer(join, "error", code="unavailable", retry=True, retry_after=1.0)
    assert talk.it.rise(seat)
    (leave,) = talk.said()
    assert leave["type"] == "leave"
    talk.answer(leave, "error", code="not_joined", retry=False)
    talk.sleep(10)
    assert talk.said() == []
