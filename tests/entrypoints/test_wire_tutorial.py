"""The fixed frames of the `/ws…` doors."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from application.disconnects import RESTARTING
from application.framing import payloads
from domain.errors import BadFrame
from domain.identifiers import RoomId, UserId
from domain.member import ChangeKind, PresenceChange, Snapshot
from domain.message import Message
from domain.position import Position
from domain.timeline import Outcome, Recovery, Replay
from entrypoints.wire.canonical import recode
from entrypoints.wire.tutorial import Heartbeat, Lobby, Scalable, Silent, TextRoom

ROOM, ANN = RoomId("r"), UserId("ann")
JOIN = PresenceChange(ChangeKind.JOIN, ROOM, ANN, b'{"secret":1}', 3, 9)
LEAVE = PresenceChange(ChangeKind.LEAVE, ROOM, ANN, b"null", 2, 10)
DIALECTS = [Silent(), Heartbeat(), Lobby(), TextRoom(), Scalable()]
WITH_ROOMS = [Lobby(), TextRoom(), Scalable()]
WITHOUT_ROOMS = [Silent(), Heartbeat()]

plain_text = st.text(st.characters(codec="utf-8"))
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), plain_text),
    lambda inner: st.one_of(
        st.lists(inner),
        st.dictionaries(plain_text, inner),
        st.fixed_dictionaries({"text": inner}, optional={"more": inner}),
    ),
    max_leaves=10,
)


def read(frame: bytes | None) -> Any:
    assert frame is not None
    [payload] = payloads(frame)
    return json.loads(payload)


def message(data: bytes, seq: int = 7, sender: UserId | None = ANN) -> Message:
    return Message(ROOM, seq, "m7", sender, data, 1767225600.25, "e.t", opens_log=True)


@given(json_values)
def test_the_lobby_shows_data_as_it_is(value: Any) -> None:
    assert read(Lobby().message(message(recode(json.dumps(value))))) == {
        "type": "message",
        "from": "ann",
        "data": value,
        "seq": 7,
        "ts": 1767225600.25,
    }


@pytest.mark.parametrize("dialect", [TextRoom(), Scalable()])
@given(value=json_values)
def test_rooms_show_text_and_whatever_is_more_than_text(dialect: Scalable, value: Any) -> None:
    expected = {"type": "message", "from": "ann", "seq": 7, "ts": 1767225600.25, "text": None}
    if isinstance(value, dict):
        expected["text"] = value.get("text")
    if not isinstance(value, dict) or set(value) != {"text"}:
        expected["data"] = value
    assert read(dialect.message(message(recode(json.dumps(value))))) == expected


@pytest.mark.parametrize(
    ("data", "text", "whole"),
    [
        (b'{"text":"hi"}', "hi", False),
        (b'{"text":""}', "", False),
        (rb'{"text":"a\"b"}', 'a"b', False),
        (rb'{"text":"a\\"}', "a\\", False),
        (b'{"text":null}', None, False),
        (b'{"text":{"text":"x"}}', {"text": "x"}, False),
        (b'{"text":"hi","x":"y"}', "hi", True),
        (b'{"x":"y","text":"hi"}', "hi", True),
        (b'{"text":"hi","text2":""}', "hi", True),
        (b"{}", None, True),
        (b'"text"', None, True),
        (b"[]", None, True),
        (b"null", None, True),
    ],
)
def test_which_data_is_all_text(data: bytes, text: Any, whole: bool) -> None:
    shown = read(TextRoom().message(message(data)))
    assert shown["text"] == text
    assert ("data" in shown) == whole
    if whole:
        assert shown["data"] == json.loads(data)


@pytest.mark.parametrize("dialect", WITH_ROOMS)
def test_an_ephemeral_message_has_no_place(dialect: Lobby | Scalable) -> None:
    shown = read(dialect.message(message(b"1", seq=0)))
    assert shown["ephemeral"] is True
    assert "seq" not in shown


@pytest.mark.parametrize("dialect", WITH_ROOMS)
def test_a_backend_speaks_in_nobodys_name(dialect: Lobby | Scalable) -> None:
    assert read(dialect.message(message(b"1", sender=None)))["from"] is None


def test_joins_and_leaves_are_exactly_the_tutorials() -> None:
    assert read(Lobby().presence_change(JOIN)) == {"type": "join", "user": "ann", "count": 3}
    assert read(Lobby().presence_change(LEAVE)) == {"type": "leave", "user": "ann", "count": 2}
    assert read(TextRoom().presence_change(JOIN)) == {"type": "join", "user": "ann"}
    assert read(TextRoom().presence_change(LEAVE)) == {"type": "leave", "user": "ann"}
    assert Scalable().presence_change(JOIN) is None


@pytest.mark.parametrize("dialect", WITH_ROOMS)
def test_a_resync_shows_messages_as_the_door_does(dialect: Lobby | Scalable) -> None:
    messages = [message(b'{"text":"a"}', 6), message(b"[1]", 7)]
    recovery = Recovery(Outcome.GAP, first=6)
    replay = Replay(recovery, messages, Position.parse("e.t", 7), more=True)
    assert read(dialect.resync(ROOM, replay)) == {
        "type": "resync",
        "room": "r",
        "position": {"log": "e.t", "seq": 7},
        "recovery": {"outcome": "gap", "first": 6},
        "messages": [read(dialect.message(each)) for each in messages],
        "more": True,
    }


@pytest.mark.parametrize("dialect", DIALECTS)
def test_other_kinds_of_frames_are_not_shown(dialect: Silent) -> None:
    assert dialect.presence_summary(ROOM, Snapshot(None, 3, 9)) is None
    assert dialect.removed(ROOM, "not_granted", "why") is None
    assert dialect.disconnect(RESTARTING) is None
    if not isinstance(dialect, Heartbeat):
        assert dialect.ping() is None


@pytest.mark.parametrize("dialect", WITHOUT_ROOMS)
def test_doors_without_rooms_show_nothing_of_rooms(dialect: Silent) -> None:
    replay = Replay(Recovery(Outcome.RESET), [], Position.parse("e.t", 7), more=False)
    assert dialect.message(message(b"1")) is None
    assert dialect.presence_change(JOIN) is None
    assert dialect.resync(ROOM, replay) is None


def test_a_page_sees_the_heartbeat() -> None:
    assert read(Heartbeat().ping()) == {"type": "ping"}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_errors_look_the_same_everywhere(dialect: Silent) -> None:
    assert read(dialect.error(BadFrame("not JSON"))) == {
        "type": "error",
        "code": "bad_frame",
        "message": "not JSON",
        "retry": False,
    }
