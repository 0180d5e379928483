"""Frames compressed once for many, and the dialect around a dialect."""

import zlib

from hypothesis import example, given
from hypothesis import strategies as st

from application.compressed import WINDOW_BITS, Compressed, deflated
from application.disconnects import SLOW
from application.framing import payloads, text_frame
from domain.errors import RoomFull
from domain.identifiers import RoomId, UserId
from domain.member import ChangeKind, Member, PresenceChange, Snapshot
from domain.message import Message
from domain.position import Position
from domain.timeline import Outcome, Recovery, Replay
from entrypoints.wire.tutorial import Silent
from entrypoints.wire.v1 import V1

ROOM, ANN = RoomId("r"), UserId("ann")
plain, compressed = V1(), Compressed(V1())
LONG = Message(ROOM, 7, "m7", ANN, b'"%b"' % (b"x" * 1000), 1.5, "log")


def inflated(frame: bytes) -> bytes:
    """What a client reads."""
    if frame[0] == 0x81:
        (payload,) = payloads(frame)
        return payload
    assert frame[0] == 0xC1  # FIN, RSV1, text
    (payload,) = payloads(bytes((0x81,)) + frame[1:])
    inflate = zlib.decompressobj(wbits=-WINDOW_BITS)  # a new one: nothing is kept
    data = inflate.decompress(payload + b"\x00\x00\xff\xff")
    assert not inflate.unconsumed_tail
    return data


@given(st.binary(max_size=300) | st.binary(max_size=50).map(lambda part: part * 2000))
@example(b"")
def test_what_is_compressed_comes_back(payload: bytes) -> None:
    frame = deflated(text_frame(payload))
    assert frame[0] == 0xC1
    assert inflated(frame) == payload


def test_a_message_gets_shorter() -> None:
    frame, before = compressed.message(LONG), plain.message(LONG)
    assert frame is not None
    assert len(frame) < len(before) / 4
    assert inflated(frame) == inflated(before)
    assert inflated(compressed.message(LONG, 3) or b"") == inflated(plain.message(LONG, 3))


def test_what_would_not_gain_stays_as_it_is() -> None:
    short = LONG._replace(data=b"1")
    assert compressed.message(short) == plain.message(short)
    noise = LONG._replace(data=b'"%b"' % bytes(range(0x23, 0x5B)) * 2)
    frame = compressed.message(noise)
    assert frame is not None
    assert len(frame) <= len(plain.message(noise))


def test_everything_for_a_room_may_be_compressed() -> None:
    members = tuple(Member(UserId(f"user-{number}"), b"null", 1) for number in range(50))
    snapshot = Snapshot(members, 50, 7)
    change = PresenceChange(ChangeKind.JOIN, ROOM, ANN, b'"%b"' % (b"i" * 300), 1, 1)
    replay = Replay(Recovery(Outcome.OK), [LONG] * 3, Position("e", 7, "t"), False)
    for frame, before in (
        (compressed.presence_summary(ROOM, snapshot), plain.presence_summary(ROOM, snapshot)),
        (compressed.presence_change(change), plain.presence_change(change)),
        (compressed.resync(ROOM, replay), plain.resync(ROOM, replay)),
    ):
        assert frame is not None
        assert frame[0] == 0xC1
        assert inflated(frame) == inflated(before)


def test_what_is_for_one_member_stays_as_it_is() -> None:
    error = RoomFull("x" * 1000)
    assert compressed.error(error, 1) == plain.error(error, 1)
    assert compressed.removed(ROOM, "x" * 200, "why") == plain.removed(ROOM, "x" * 200, "why")
    assert compressed.disconnect(SLOW) == plain.disconnect(SLOW)
    assert compressed.ping() == plain.ping()


def test_what_a_door_does_not_show_it_does_not_show_compressed() -> None:
    assert Compressed(Silent()).message(LONG) is None
    assert Compressed(Silent()).ping() is None
