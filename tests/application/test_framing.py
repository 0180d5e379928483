"""Frames against RFC 6455 and against the independent implementation of `websockets`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from application.framing import binary_frame, messages, payloads, text_frame

# Where the length field changes its size, and its neighbours.
BOUNDARIES = [0, 1, 125, 126, 127, 0xFFFF, 0x10000, 0x10001]


def test_the_example_of_the_rfc() -> None:
    assert text_frame(b"Hello") == bytes.fromhex("810548656c6c6f")


@pytest.mark.parametrize("length", BOUNDARIES)
def test_lengths_are_written_in_their_shortest_form(length: int) -> None:
    payload = b"x" * length
    assert text_frame(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)
    assert binary_frame(payload) == Frame(Opcode.BINARY, payload).serialize(mask=False)


@pytest.mark.parametrize("length", BOUNDARIES)
def test_a_frame_comes_apart(length: int) -> None:
    payload = b"x" * length
    assert list(payloads(text_frame(payload))) == [payload]
    assert list(messages(text_frame(payload))) == [payload.decode()]
    assert list(messages(binary_frame(payload))) == [payload]


@given(st.lists(st.one_of(st.text(max_size=200), st.binary(max_size=200))))
def test_a_concatenation_comes_apart(parts: list[str | bytes]) -> None:
    frames = b"".join(
        text_frame(part.encode()) if isinstance(part, str) else binary_frame(part) for part in parts
    )
    assert list(messages(frames)) == parts
    encoded = [part.encode() if isinstance(part, str) else part for part in parts]
    assert list(payloads(frames)) == encoded


@pytest.mark.parametrize("length", [0, 200, 0x10000])
def test_a_frame_that_is_cut_off_is_refused(length: int) -> None:
    frame = text_frame(b"x" * length)
    for cut in {1, 3, 5, len(frame) - 1}:
        if cut < len(frame):
            with pytest.raises(ValueError, match=r"cut off|no unmasked message frame"):
                list(payloads(frame[:cut]))


@pytest.mark.parametrize(
    "frame",
    [
        Frame(Opcode.TEXT, b"x").serialize(mask=True),
        Frame(Opcode.TEXT, b"x", fin=False).serialize(mask=False),
        b"\xc1\x01x",
        Frame(Opcode.PING, b"").serialize(mask=False),
    ],
    ids=["masked", "fragment", "compressed", "ping"],
)
def test_anything_but_our_own_frames_is_refused(frame: bytes) -> None:
    with pytest.raises(ValueError, match="no unmasked message frame at byte 3"):
        list(messages(text_frame(b"a") + frame))
