"""Records as each version wrote them. Nodes are replaced one by one, so what a version writes the
next one reads: a new format adds its records here, and those of the one before stay."""

from importlib.resources import files

import pytest

from adapters.redis import control
from adapters.redis.control import decode, encode
from adapters.redis.presence_records import Record as PresenceRecord
from adapters.redis.presence_records import decode as decode_presence
from adapters.redis.records import (
    EPHEMERAL_HEAD,
    MESSAGE_HEAD,
    Decoder,
    Record,
    decode_ephemeral,
    encode_ephemeral,
    kept,
    tail,
)
from domain.identifiers import RoomId, SessionId, UserId
from domain.message import Draft, Message
from domain.options import Retention
from domain.orders import Kick

PUBLISH, SHARED = (
    (files("adapters.redis") / "scripts" / f"{name}.lua").read_text(encoding="utf-8")
    for name in ("publish", "presence_room")
)
CHAT, ANN, TAB = RoomId("chat"), UserId("ann"), SessionId("s1")

MESSAGES = {1: b'M1 e1 t1 3 t0 7 m7 ann 1700000000.250 s1 100:600000\n{"text":"hi"}'}
WHISPERS = {1: b'E1 ann 1700000000.250 s1\n{"typing":true}'}
PRESENCE = {1: b'P1 n1-1700000000.5 12 5 J 3 1 ann {"name":"Ann B"}'}
ORDERS = {
    0: b'{"format":0,"kind":"kick","room":"chat","user":"ann","reason":"be nice"}',
    1: b'{"format":1,"kind":"kick","room":"chat","user":"ann","reason":"be nice"}',
}
CURRENT = {
    "M": int(MESSAGE_HEAD[1:]),
    "E": int(EPHEMERAL_HEAD[1:]),
    "P": 1,
    "orders": control.FORMAT,
}


@pytest.mark.parametrize(
    ("kind", "records"),
    [("M", MESSAGES), ("E", WHISPERS), ("P", PRESENCE), ("orders", ORDERS)],
)
def test_the_format_in_use_and_the_one_before_are_here(
    kind: str, records: dict[int, bytes]
) -> None:
    current = CURRENT[kind]
    assert max(records) == current
    assert current == 1 or current - 1 in records  # there was none before the first


@pytest.mark.parametrize("record", MESSAGES.values())
def test_messages_are_read(record: bytes) -> None:
    message = Message(CHAT, 7, "m7", ANN, b'{"text":"hi"}', 1700000000.25, "e1.t1", False, TAB)
    assert Decoder(CHAT).decode(record) == Record(
        "e1", "t1", 3, "t0", Retention(100, 600.0), message
    )


@pytest.mark.parametrize("record", WHISPERS.values())
def test_ephemeral_messages_are_read(record: bytes) -> None:
    said = Message(CHAT, 0, "", ANN, b'{"typing":true}', 1700000000.25, "e1.t1", False, TAB)
    assert decode_ephemeral(record, CHAT, "e1.t1") == said


@pytest.mark.parametrize("record", PRESENCE.values())
def test_presence_is_read(record: bytes) -> None:
    came = PresenceRecord(b"n1-1700000000.5", 12, 5, b"J", 3, 1, ANN, b'{"name":"Ann B"}')
    assert decode_presence(record) == came


@pytest.mark.parametrize("record", ORDERS.values())
def test_orders_are_read(record: bytes) -> None:
    assert decode(record) == Kick(CHAT, ANN, "be nice")


def test_what_is_written_is_of_the_format_in_use() -> None:
    draft = Draft(CHAT, ANN, b'{"text":"hi"}', skip=TAB)
    end = tail(draft, "m7", 1700000000.25, kept(Retention(100, 600.0)))
    assert MESSAGES[CURRENT["M"]].endswith(b" 7 " + end)
    assert f"local HEAD = 'M{CURRENT['M']}'" in PUBLISH
    typing = Draft(CHAT, ANN, b'{"typing":true}', ephemeral=True, skip=TAB)
    assert encode_ephemeral(typing, 1700000000.25) == WHISPERS[CURRENT["E"]]
    assert f"{{ 'P{CURRENT['P']}', life, revision, version, kind, count," in SHARED
    assert decode(encode(Kick(CHAT, ANN, "be nice"))) == Kick(CHAT, ANN, "be nice")
    assert encode(Kick(CHAT, ANN, "x")).startswith(b'{"format":%d,' % CURRENT["orders"])
