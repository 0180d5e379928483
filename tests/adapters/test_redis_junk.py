"""Whatever stands in Redis, written by whomever: it is one of our records, or it is left out."""

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.redis import control
from adapters.redis.presence_records import BadRecord, Entry, Record, decode, decode_page
from adapters.redis.records import UnreadableRecord, decode_ephemeral
from domain.identifiers import RoomId
from domain.orders import Kick
from entrypoints.wire.v1 import V1

NAME = re.compile(r"[A-Za-z0-9_.:@~-]{1,128}")
GOOD = b'P1 life 3 2 J 5 1 ann {"name":"Ann"}'


def fits_a_frame(found: Record | Entry) -> bool:
    """Whether what is spliced into frames is no more than what it seems."""
    assert NAME.fullmatch(found.user), found
    json.loads(found.info)
    return b"\n" not in found.info and b"\r" not in found.info


def test_a_record_of_ours_is_read() -> None:
    assert decode(GOOD) == (b"life", 3, 2, b"J", 5, 1, "ann", b'{"name":"Ann"}')


JUNK = [
    GOOD.replace(b"ann", b'a"n'),
    GOOD.replace(b"ann", b""),
    GOOD.replace(b"ann", b"a" * 129),
    GOOD.replace(b"ann", b"an\nn"),
    GOOD.replace(b"Ann", b"A\rn"),
    GOOD.replace(b"Ann", b"A\nn"),
    GOOD.replace(b"Ann", b"A\xffn"),
    GOOD[:-1],
    GOOD + b',"type":"disconnect"}',
    GOOD.replace(b'{"name":"Ann"}', b"null}\n\nevent: x"),
    GOOD.replace(b'{"name":"Ann"}', b""),
    GOOD.replace(b'{"name":"Ann"}', b"[" * 100_000),
    GOOD.replace(b" 3 ", b" -3 "),
    GOOD.replace(b" 3 ", b" 3_0 "),
    GOOD.replace(b" 3 ", b" " + b"9" * 5000 + b" "),
    GOOD.replace(b" 5 ", b" five "),
]


@pytest.mark.parametrize("payload", JUNK, ids=lambda payload: ascii(payload[:60]))
def test_junk_is_no_presence_record(payload: bytes) -> None:
    with pytest.raises(BadRecord):
        decode(payload)


@given(
    st.binary(max_size=80)
    | st.tuples(st.integers(0, len(GOOD)), st.binary(max_size=6)).map(
        lambda cut: GOOD[: cut[0]] + cut[1] + GOOD[cut[0] :]
    )
)
def test_any_bytes_are_a_presence_record_or_none(payload: bytes) -> None:
    try:
        found = decode(payload)
    except BadRecord:
        return
    assert fits_a_frame(found)


VALUES = st.recursive(
    st.none() | st.integers() | st.binary(max_size=12) | st.sampled_from([b"ann", b"n:1|null"]),
    lambda inner: st.lists(inner, max_size=7),
    max_leaves=20,
)


@given(VALUES | st.tuples(*6 * [VALUES]).map(list))
@example([b"life", 1, 1, 1, b"0", [b"ann", b"node:1|null"]])
@example([b"life", 1, 1, 1, b"0", [b'a"n', b"node:1|null"]])
@example([b"life", 1, 1, 1, b"0", [b"ann", b"node:1|null,{}"]])
def test_any_answer_is_a_page_of_users_or_none(reply: list[object]) -> None:
    try:
        page = decode_page(reply)
    except BadRecord:
        return
    assert all(fits_a_frame(entry) for entry in page.entries)


ORDER = b'{"format":1,"kind":"kick","room":"tea","user":"ann","reason":"x"}'


@given(
    st.binary(max_size=60)
    | st.tuples(st.integers(0, len(ORDER)), st.integers(0, 12), st.binary(max_size=6)).map(
        lambda cut: ORDER[: cut[0]] + cut[2] + ORDER[cut[0] + cut[1] :]
    )
)
@example(b'{"format":1,"kind":[]}')
@example(b'{"format":1,"kind":{}}')
@example(b'{"format":[],"kind":"kick"}')
@example(b'{"format":1,"kind":"block","user":"a","until":1' + b"0" * 400 + b"}")
@example(b'{"format":1,"kind":"kick","x":' + b"[" * 100_000)
@example(b"[" * 100_000)
def test_any_bytes_are_an_order_or_none(data: bytes) -> None:
    try:
        order = control.decode(data)
    except ValueError as error:
        told = str(error)
    else:
        told = ""
        assert control.decode(control.encode(order)) == order
    assert len(told) < 300  # a log has a line of it


def test_an_order_of_ours_is_read() -> None:
    assert control.decode(ORDER) == Kick(RoomId("tea"), "ann", "x")  # type: ignore[arg-type]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_no_data_on_the_bus_can_end_its_line(end: bytes) -> None:
    with pytest.raises(UnreadableRecord):
        decode_ephemeral(b'E1 ann 1.0 \n"a' + end + b'b"', RoomId("tea"), "log")


def test_a_message_of_the_bus_is_one_frame() -> None:
    message = decode_ephemeral(b'E1 ann 1.0 \n"a"', RoomId("tea"), "log")
    frame = V1().message(message)
    assert json.loads(frame[frame.index(b"{") :])["data"] == "a"
