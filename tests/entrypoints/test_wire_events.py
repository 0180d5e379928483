"""What an event stream is sent: frames of protocol v1, and nothing that breaks out of its event."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from application.disconnects import FORBIDDEN, RESTARTING, SLOW, TOKEN_EXPIRED, Disconnect
from application.framing import payload, text_frame
from application.join_room import Joined
from domain.errors import Internal
from domain.identifiers import RoomId, UserId
from domain.member import ChangeKind, PresenceChange, Snapshot
from domain.message import Message
from domain.position import Position
from domain.timeline import Outcome, Recovery, Replay
from entrypoints.wire.canonical import canonical
from entrypoints.wire.event_ids import END
from entrypoints.wire.events import Events, event, farewell
from entrypoints.wire.v1 import V1
from tests.event_source import Event, EventParser

ROOM, ANN = RoomId("chat:general"), UserId("ann")
LOG = "9f1c33.5be0"
READERS, MEMBERS = Events(alone=True, presence=False), Events(alone=True, presence=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def read(frames: bytes | None) -> list[Event]:
    assert frames is not None
    assert frames.endswith(END)
    return EventParser().feed(frames)


def message(data: bytes, seq: int = 1) -> Message:
    return Message(ROOM, seq, "b2c3d4e7", ANN, data, 1767225602.125, LOG)


@given(JSON)
def test_no_data_can_end_its_event(data: object) -> None:
    """CR, LF and what else a parser could take for the end of a line are escaped."""
    (told,) = read(READERS.message(message(canonical(data))))
    assert told.name == "message"
    assert told.frame["data"] == data


@pytest.mark.parametrize("hostile", ["\r\nid: 9", "\rdata: x", "\n\nevent: disconnect", "\u2028"])
def test_line_ends_are_escaped(hostile: str) -> None:
    frames = READERS.message(message(canonical(hostile)))
    assert b"\r" not in frames
    assert frames.count(b"\n") == 3  # id, data, and the empty line
    assert [told.frame["data"] for told in read(frames)] == [hostile]


@given(st.text())
def test_no_reason_can_end_its_event(reason: str) -> None:
    (told,) = read(farewell(Disconnect(4003, reason)))
    assert told.frame["reason"] == reason.encode(errors="surrogatepass").decode(errors="replace")


@pytest.mark.parametrize("size", [1, 100, 125, 126, 65_535, 65_536, 200_000])
def test_data_is_the_frame_of_the_main_door(size: int) -> None:
    shown = message(b'"%b"' % (b"x" * size))
    assert payload(text_frame(b"x" * size)) == b"x" * size
    (told,) = read(READERS.message(shown))
    assert told.frame == json.loads(payload(V1().message(shown)))


def test_what_is_no_message_is_named_after_its_type() -> None:
    change = PresenceChange(ChangeKind.JOIN, ROOM, ANN, b"null", 1, 1)
    for frames, name in (
        (MEMBERS.presence_change(change), "join"),
        (MEMBERS.presence_summary(ROOM, Snapshot(None, 300, 7)), "presence"),
        (MEMBERS.resync(ROOM, replay([])), "resync"),
        (MEMBERS.joined(Joined(ROOM, replay([]), None, newcomer=True)), "joined"),
        (MEMBERS.disconnect(SLOW), "disconnect"),
    ):
        (told,) = read(frames)
        assert told.name == told.frame["type"] == name


def replay(messages: list[Message]) -> Replay:
    return Replay(Recovery(Outcome.OK), messages, Position.parse(LOG, 9), more=False)


def test_readers_are_not_shown_who_is_there() -> None:
    change = PresenceChange(ChangeKind.LEAVE, ROOM, ANN, b"null", 1, 1)
    assert READERS.presence_change(change) is None
    assert READERS.presence_summary(ROOM, Snapshot(None, 300, 7)) is None


def test_a_page_says_that_it_goes_on() -> None:
    verdict, first = read(READERS.joined(Joined(ROOM, replay([message(b"1", 9)]), None, True)))
    assert (verdict.frame["position"]["seq"], verdict.frame["more"]) == (8, True)
    assert first.frame["seq"] == 9
    (whole,) = read(READERS.joined(Joined(ROOM, replay([]), None, True)))
    assert (whole.frame["position"]["seq"], whole.frame["more"]) == (9, False)


def test_a_message_without_a_number_leaves_the_id_alone() -> None:
    parser = EventParser()
    parser.feed(READERS.message(message(b"1", 5)))
    (told,) = parser.feed(READERS.message(message(b"2", 0)))
    assert told.frame["ephemeral"] is True
    assert told.id.startswith("5.")


def test_a_sign_of_life_is_no_event() -> None:
    parser = EventParser()
    assert parser.feed(READERS.ping()) == []
    assert parser.comments == 1


def test_nobody_is_sent_errors_as_nobody_asks() -> None:
    assert READERS.error(Internal("internal error")) is None


def test_a_stream_of_one_room_ends_with_it() -> None:
    assert READERS.removed(ROOM, "kicked", "") is None
    (told,) = EventParser().feed(
        Events(alone=False, presence=False).removed(ROOM, "kicked", "be nice") or b""
    )
    assert told.frame == {"type": "removed", "room": ROOM, "code": "kicked", "reason": "be nice"}


@pytest.mark.parametrize("why", [SLOW, TOKEN_EXPIRED, RESTARTING._replace(reconnect_after=2.5)])
def test_who_may_come_back_keeps_the_id(why: Disconnect) -> None:
    parser = EventParser()
    parser.feed(READERS.message(message(b"1", 5)))
    before = parser.last_id
    (told,) = parser.feed(READERS.disconnect(why))
    assert told.frame["code"] == why.code
    assert parser.last_id == before
    assert parser.retry == (None if why.reconnect_after is None else 2500)


def test_nobody_is_told_to_come_back_at_once() -> None:
    """A browser waits as long between two attempts that fail: it would try without a pause."""
    parser = EventParser()
    parser.feed(READERS.disconnect(RESTARTING._replace(reconnect_after=0.0)))
    assert parser.retry == 1000


def test_who_may_not_is_told_by_the_id() -> None:
    parser = EventParser()
    parser.feed(READERS.disconnect(FORBIDDEN))
    assert parser.last_id == "!"
    parser.feed(farewell(FORBIDDEN, (b"4.AAAAAAAA", b"", b"x")))
    assert parser.last_id == "!4.AAAAAAAA,,x"


def test_an_event_carries_the_payload_of_a_frame() -> None:
    assert event("joined", text_frame(b'{"a":1}')) == b'event: joined\ndata: {"a":1}\n\n'
