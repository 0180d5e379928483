"""Protocol v1 beyond the golden examples: what texts and numbers do to a frame."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from application.disconnects import RESTARTING
from application.framing import payloads
from domain.errors import BadFrame, Internal, RateLimited
from domain.identifiers import RoomId, UserId
from domain.member import Member, Snapshot
from domain.message import Message
from domain.position import Position
from domain.timeline import Outcome, Recovery
from entrypoints.wire import replies
from entrypoints.wire.canonical import recode
from entrypoints.wire.v1 import V1

ROOM, ANN = RoomId("r"), UserId("ann")
v1 = V1()

plain_text = st.text(st.characters(codec="utf-8"))
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), plain_text),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(plain_text, inner)),
    max_leaves=10,
).filter(lambda value: "inf" not in repr(value))


def read(frame: bytes) -> Any:
    [payload] = payloads(frame)
    return json.loads(payload)


def message(**changes: Any) -> Message:
    return Message(ROOM, 7, "m7", ANN, b"1", 1767225600.25, "e.t")._replace(**changes)


@given(json_values)
def test_data_arrives_as_it_was_sent(value: Any) -> None:
    data = recode(json.dumps(value))
    assert read(v1.message(message(data=data)))["data"] == value


@given(st.floats(1, 4e9))
def test_ts_is_right_to_the_microsecond_and_has_six_decimals_at_most(ts: float) -> None:
    [payload] = payloads(v1.message(message(ts=ts)))
    shown = payload.decode().rpartition(":")[2].rstrip("}")
    assert re.fullmatch(r"[0-9]+\.[0-9]{1,6}", shown)
    assert abs(float(shown) - ts) < 1e-6


@given(st.integers(0, 4 * 10**15))
def test_ts_of_whole_microseconds_is_exact(microseconds: int) -> None:
    ts = microseconds / 1e6
    assert read(v1.message(message(ts=ts)))["ts"] == ts


@pytest.mark.parametrize("opens_log", [False, True])
@pytest.mark.parametrize("seq", [0, 7])
@pytest.mark.parametrize("sender", [None, ANN])
def test_every_combination_of_fields(opens_log: bool, seq: int, sender: UserId | None) -> None:
    expected: dict[str, Any] = {"type": "message", "room": "r", "data": 1, "ts": 1767225600.25}
    expected["from"] = sender
    if seq:
        expected |= {"seq": 7, "id": "m7"} | ({"log": "e.t"} if opens_log else {})
    else:
        expected["ephemeral"] = True
    assert read(v1.message(message(opens_log=opens_log, seq=seq, sender=sender))) == expected


@given(plain_text, plain_text)
def test_texts_are_escaped(first: str, second: str) -> None:
    assert read(v1.error(BadFrame(first), second)) == {
        "type": "error",
        "id": second,
        "code": "bad_frame",
        "message": first,
        "retry": False,
    }
    removed = read(v1.removed(ROOM, first, second))
    assert (removed["code"], removed["reason"]) == (first, second)
    assert read(v1.disconnect(RESTARTING._replace(reason=first)))["reason"] == first


def test_no_id_and_id_zero_are_told_apart() -> None:
    assert "id" not in read(v1.error(Internal()))
    assert read(v1.error(Internal(), 0))["id"] == 0
    assert read(v1.error(Internal(), ""))["id"] == ""
    assert read(replies.pong(None)) == {"type": "pong"}
    assert read(replies.pong(-(2**53))) == {"type": "pong", "id": -(2**53)}


@given(st.floats(0, 1e6))
def test_a_client_is_never_called_back_early(wait: float) -> None:
    told = read(v1.error(RateLimited("slow down", retry_after=wait)))["retry_after"]
    assert wait <= told < wait + 0.0011


def test_nothing_is_told_of_a_room_without_presence() -> None:
    joined = read(
        replies.joined(
            1, ROOM, Position.parse("e.t", 7), Recovery(Outcome.NONE), [], False, snapshot=None
        )
    )
    assert [joined[field] for field in ("members", "count", "version")] == [None, None, None]


def test_an_empty_list_is_a_list() -> None:
    assert read(v1.presence_summary(ROOM, Snapshot((), 0, 4)))["members"] == []
    assert read(replies.members(1, ROOM, [], 0, 4, more=False))["members"] == []


@given(json_values)
def test_info_is_shown_as_it_is(info: Any) -> None:
    member = Member(ANN, recode(json.dumps(info)), 2)
    shown = read(v1.presence_summary(ROOM, Snapshot((member,), 1, 4)))["members"]
    assert shown == [{"user": "ann", "info": info, "sessions": 2}]


def test_dialects_of_one_kind_of_door_may_be_shared() -> None:
    assert v1.message(message()) == V1().message(message())
    assert not hasattr(v1, "__dict__")
