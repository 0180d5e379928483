"""Messages as bytes: what goes in comes out, and nothing else is taken for a message."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.redis.records import (
    MESSAGE_HEAD,
    Decoder,
    Record,
    UnreadableRecord,
    decode_ephemeral,
    encode_ephemeral,
    kept,
    tail,
)
from domain.identifiers import RoomId, SessionId, UserId
from domain.message import Draft, Message
from domain.options import Retention

CHAT = RoomId("chat")
KEEP = Retention(100, 600.0)
NAMES = st.from_regex(r"[A-Za-z0-9_.:@~-]{1,128}\Z", fullmatch=True)
TOKENS = st.from_regex(r"[A-Za-z0-9_-]{1,40}\Z", fullmatch=True)
DATA = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), min_size=1)


def record(draft: Draft, seq: int = 7, start: int = 3, previous: str = "t0") -> bytes:
    """As publish.lua makes it."""
    head = b"%b e1 t1 %d %b %d " % (MESSAGE_HEAD, start, previous.encode(), seq)
    return head + tail(draft, "m7", 1700000000.25, kept(KEEP))


def draft(data: str = '"x"', sender: str | None = "ann", skip: str | None = None) -> Draft:
    user = None if sender is None else UserId(sender)
    return Draft(CHAT, user, data.encode(), skip=None if skip is None else SessionId(skip))


def decode(payload: bytes) -> Record:
    return Decoder(CHAT).decode(payload)


GOOD = record(draft())


def test_a_record_is_its_message_and_its_place() -> None:
    message = Message(CHAT, 7, "m7", UserId("ann"), b'"x"', 1700000000.25, "e1.t1", False, None)
    assert decode(GOOD) == Record("e1", "t1", 3, "t0", KEEP, message)


def test_the_first_message_of_a_term_opens_its_log() -> None:
    first = decode(record(draft(), seq=3))
    assert (first.message.opens_log, first.start) == (True, 3)
    assert decode(record(draft(), seq=1, start=1, previous="")).previous == ""


@given(DATA, st.none() | NAMES, st.none() | TOKENS)
def test_whatever_is_said_comes_out_as_it_went_in(
    data: str, sender: str | None, skip: str | None
) -> None:
    said = draft(data, sender, skip)
    heard = decode(record(said)).message
    assert (heard.data, heard.sender, heard.skip) == (said.data, said.sender, said.skip)
    whispered = decode_ephemeral(encode_ephemeral(said, 12.5), CHAT, "e1.t1")
    assert whispered == Message(
        CHAT, 0, "", said.sender, said.data, 12.5, "e1.t1", False, said.skip
    )


@given(st.integers(0, 10_000), st.floats(0.001, 1e6) | st.just(9e15))
def test_a_retention_comes_out_to_the_millisecond(size: int, ttl: float) -> None:
    said = tail(draft(), "m", 1.0, kept(Retention(size, ttl)))
    keep = decode(b"%b e t 1  1 %b" % (MESSAGE_HEAD, said)).keep
    assert kept(keep) == kept(Retention(size, ttl))


@pytest.mark.parametrize(("ttl", "ms"), [(600.0, b"600000"), (0.0001, b"1"), (0.25, b"250")])
def test_a_lifetime_is_whole_milliseconds_and_at_least_one(ttl: float, ms: bytes) -> None:
    assert kept(Retention(1, ttl)).ttl == ms


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"\n",
        b"M",
        b"M1",
        b"M1\nx",
        b"M1 \nx",
        b"P1 x\nx",
        b"{}",
        b"M1 e t 1  1 m ann 1.0  100:1000",
        b"M1 e t 1  1 m ann 1.0  100:1000\n",
        b"M1 e t 1  1 m ann 1.0  100:1000\na\nb",
        b"M1 e t 1  1 m ann 1.0  100:1000\n\xff",
        b"M1 e t 1  1 m ann 1.0  100:1000\n\xed\xa0\x80",
        b"M1 e t 1  1 m ann 1.0  100:1000 x\nx",
        b"M1 e t 1  1 m ann 1.0  100\nx",
        b"M1 e t 1  1 m ann 1.0  100:1:1\nx",
        b"M1 e t 1  1 m ann 1.0  -1:1000\nx",
        b"M1 e t 1  1 m ann nan  100:1000\nx",
        b"M1 e t 1  1 m ann 12  100:1000\nx",
        b"M1 e t 1  1 m ann 1e5  100:1000\nx",
        b"M1 e t 1  1 m ann -1.0  100:1000\nx",
        b"M1 e t 1  1 m ann 1e400  100:1000\nx",
        b"M1 e t 1  0 m ann 1.0  100:1000\nx",
        b"M1 e t 2  1 m ann 1.0  100:1000\nx",
        b"M1 e t 0  1 m ann 1.0  100:1000\nx",
        b"M1 e t 1  one m ann 1.0  100:1000\nx",
        b"M1 e t 1  1_0 m ann 1.0  100:1000\nx",
        b"M1 e t 1  " + b"9" * 5000 + b" m ann 1.0  100:1000\nx",
        b"M1  t 1  1 m ann 1.0  100:1000\nx",
        b"M1 e t.1 1  1 m ann 1.0  100:1000\nx",
        b"M1 e t 1 p.1 1 m ann 1.0  100:1000\nx",
        b"M1 e  1  1 m ann 1.0  100:1000\nx",
        b"M1 e t 1  1  ann 1.0  100:1000\nx",
        b'M1 e t 1  1 m a"n 1.0  100:1000\nx',
        b"M1 e t 1  1 m a\\n 1.0  100:1000\nx",
        b"M1 e t 1  1 m a\x00n 1.0  100:1000\nx",
        "M1 e t 1  1 m ann\u0661 1.0  100:1000\nx".encode(),
    ],
)
def test_junk_is_no_message(junk: bytes) -> None:
    with pytest.raises(UnreadableRecord) as caught:
        decode(junk)
    assert not caught.value.newer


@pytest.mark.parametrize(
    "junk", [b"", b"E1", b"E1 ann 1.0 \n", b"E1 ann x \nx", b"E1 ann 1.0\nx", b"E1 a b 1.0 \nx"]
)
def test_junk_is_no_ephemeral_message(junk: bytes) -> None:
    with pytest.raises(UnreadableRecord):
        decode_ephemeral(junk, CHAT, "log")


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda end: GOOD[:60] + end))
def test_any_bytes_are_a_message_or_unreadable(data: bytes) -> None:
    try:
        found = decode(data)
    except UnreadableRecord:
        return
    assert math.isfinite(found.message.ts)
    assert found.message.data.decode()


RECORDS = st.builds(
    record,
    st.just(draft()),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from(["", "t0", "t1"]),
)
ALIKE = RECORDS | RECORDS.map(lambda r: r.replace(b" t1 ", b" t2 ")) | st.just(b"M1 e1 t1 junk")


@given(st.lists(ALIKE | RECORDS.map(lambda r: r.replace(b"e1", b"e2"))))
def test_a_record_is_read_the_same_whatever_was_read_before(payloads: list[bytes]) -> None:
    def read(decoder: Decoder, payload: bytes) -> Record | str:
        try:
            return decoder.decode(payload)
        except UnreadableRecord as error:
            return str(error)

    decoder = Decoder(CHAT)
    for payload in payloads:
        assert read(decoder, payload) == read(Decoder(CHAT), payload)


@pytest.mark.parametrize(
    ("head", "newer"),
    [(b"M2", True), (b"M10", True), (b"M0", False), (b"Mx", False), (b"M", False), (b"E2", False)],
)
def test_a_later_version_is_told_from_junk(head: bytes, newer: bool) -> None:
    with pytest.raises(UnreadableRecord) as caught:
        decode(head + GOOD[2:])
    assert caught.value.newer is newer
