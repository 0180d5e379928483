"""Client frames of protocol v1: what is read, what is refused, and which id the refusal names."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import BadFrame
from entrypoints.wire.inbound import (
    Auth,
    ClientFrame,
    History,
    Join,
    Leave,
    Members,
    Ping,
    Pong,
    PositionFields,
    Publish,
    decode,
    decode_any,
    decode_text_object,
    request_id,
)

POSITION = {"log": "e.t", "seq": 3}


def frame(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, **fields})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (frame("auth", token="t"), Auth(token="t")),
        (frame("join", room="r"), Join(room="r")),
        (frame("join", room="r", history=0, id=""), Join(room="r", history=0, id="")),
        (
            frame("join", room="r", position=POSITION, history=5, id="x"),
            Join(room="r", position=PositionFields("e.t", 3), history=5, id="x"),
        ),
        (frame("join", room="r", position=None, history=None, id=None), Join(room="r")),
        (frame("leave", room="r", id=-1), Leave(room="r", id=-1)),
        (frame("publish", room="r", data=None), Publish(room="r", data=b"null")),
        (
            frame("publish", room="r", data={"a": [1, "é"]}, key="k 1", echo=False, id=2**53),
            Publish(room="r", data='{"a":[1,"é"]}'.encode(), key="k 1", echo=False, id=2**53),
        ),
        (
            frame("publish", room="r", data=0, ephemeral=True, key=None),
            Publish(room="r", data=b"0", ephemeral=True),
        ),
        (frame("history", room="r"), History(room="r", limit=100)),
        (frame("history", room="r", before=0, limit=1), History(room="r", before=0, limit=1)),
        (
            frame("history", room="r", after=9, log="e.t", limit=101),
            History(room="r", after=9, log="e.t", limit=100),
        ),
        (frame("members", room="r"), Members(room="r", limit=100)),
        (frame("members", room="r", after="ann", limit=10**30), Members(room="r", after="ann")),
        (frame("ping"), Ping()),
        (frame("pong", id="x" * 64), Pong(id="x" * 64)),
        (frame("ping", unknown={"type": "join"}), Ping()),
        ('{"id": 1, "room": "r", "type": "leave"}', Leave(room="r", id=1)),
        (
            '{"type": "publish", "room": "r", "data": 1, "data": {"b": 2}}',
            Publish(room="r", data=b'{"b":2}'),
        ),
    ],
)
def test_what_is_read(text: str, expected: ClientFrame) -> None:
    assert decode(text) == expected
    assert decode(text.encode()) == expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "JSON|truncated"),
        ("[]", "object"),
        ("null", "object"),
        ("{}", "`type`"),
        (frame("subscribe", room="r"), "`type`"),
        ('{"type": 1}', r"\$\.type"),
        (frame("auth"), "`token`"),
        (frame("auth", token=1), r"\$\.token"),
        (frame("join"), "`room`"),
        (frame("join", room=1), r"\$\.room"),
        (frame("join", room="r", position={"log": "e.t"}), "`seq`"),
        (frame("join", room="r", position={"log": "e.t", "seq": -1}), r"\$\.position\.seq"),
        (frame("join", room="r", position={"log": "e.t", "seq": 1.5}), r"\$\.position\.seq"),
        (frame("join", room="r", position={"log": "e.t", "seq": 2**53 + 1}), r"position\.seq"),
        (frame("join", room="r", position={"log": 1, "seq": 1}), r"\$\.position\.log"),
        (frame("join", room="r", position=7), r"\$\.position"),
        (frame("join", room="r", history=-1), r"\$\.history"),
        (frame("join", room="r", history=True), r"\$\.history"),
        (frame("leave"), "`room`"),
        (frame("publish", room="r"), "`data`"),
        (frame("publish", data=1), "`room`"),
        (frame("publish", room="r", data=1, key=""), r"\$\.key"),
        (frame("publish", room="r", data=1, key="k" * 129), r"\$\.key"),
        (frame("publish", room="r", data=1, key="é"), "`key`"),
        (frame("publish", room="r", data=1, key="a\n"), "`key`"),
        (frame("publish", room="r", data=1, key="a\x7f"), "`key`"),
        (frame("publish", room="r", data=1, key=5), r"\$\.key"),
        (frame("publish", room="r", data=1, key="k", ephemeral=True), "`key` and `ephemeral`"),
        (frame("publish", room="r", data=1, ephemeral=1), r"\$\.ephemeral"),
        (frame("publish", room="r", data=1, echo="no"), r"\$\.echo"),
        (frame("publish", room="r", data=float("nan")), "JSON"),
        (frame("publish", room="r", data=10**400), "number"),
        ('{"type": "publish", "room": "r", "data": {"a": 1e400}}', r"\$\.data"),
        (frame("history", room="r", before=1, after=1), "`before` and `after`"),
        (frame("history", room="r", before=-1), r"\$\.before"),
        (frame("history", room="r", after="1"), r"\$\.after"),
        (frame("history", room="r", limit=0), r"\$\.limit"),
        (frame("history", room="r", log=1), r"\$\.log"),
        (frame("members", room="r", limit=-5), r"\$\.limit"),
        (frame("members", room="r", after=1), r"\$\.after"),
        (frame("ping", id=True), r"\$\.id"),
        (frame("ping", id=1.5), r"\$\.id"),
        (frame("ping", id=2**53 + 1), r"\$\.id"),
        (frame("ping", id=-(2**53) - 1), r"\$\.id"),
        (frame("ping", id="x" * 65), r"\$\.id"),
        (frame("ping", id=[]), r"\$\.id"),
    ],
)
def test_what_is_refused_and_which_field_is_named(text: str, named: str) -> None:
    with pytest.raises(BadFrame, match=named):
        decode(text)


def test_data_nests_as_deep_as_anywhere_else() -> None:
    data = "[" * 64 + "]" * 64
    text = '{"type":"publish","room":"r","data":%s}'
    assert decode(text % data) == Publish(room="r", data=data.encode())
    with pytest.raises(BadFrame, match="nested deeper"):
        decode(text % f"[{data}]")


def test_key_takes_every_printable_ascii_character() -> None:
    printable = "".join(map(chr, range(0x20, 0x7F)))
    published = decode(frame("publish", room="r", data=1, key=printable))
    assert isinstance(published, Publish)
    assert published.key == printable


def test_secrets_are_not_repeated() -> None:
    for text in (
        frame("auth", token=["s3cret"]),
        frame("s3cret"),
        '{"type": "auth", "token": "s3cret\\ud800"}',
    ):
        with pytest.raises(BadFrame) as refusal:
            decode(text)
        assert "s3cret" not in str(refusal.value)
    assert "s3cret" not in repr(decode(frame("auth", token="s3cret")))


requests = st.one_of(
    st.integers(-(2**53), 2**53), st.text(max_size=64, alphabet=st.characters(codec="utf-8"))
)
STARTS = ['{"type":', '"publish"', '"join"', ',"room":"r"', ',"data":', ',"id":1', ',"key":"k"']
PUNCTUATION = ["{", "}", "[" * 70, "]", '"', ",", ":"]
SCALARS = [r'"\ud800"', "1e400", "9" * 400, "NaN", "null", "-1"]
pieces = st.sampled_from([*STARTS, *PUNCTUATION, *SCALARS])


@given(st.one_of(st.text(), st.lists(pieces).map("".join), st.binary()))
def test_no_input_does_more_than_be_refused(text: str | bytes) -> None:
    request_id(text)
    for door in (decode, decode_any, decode_text_object):
        with suppress(BadFrame):
            assert door(text) is not None


@given(requests)
def test_a_refused_frame_is_answered_under_its_id(request: str | int) -> None:
    assert request_id(frame("nonsense", id=request)) == request


@pytest.mark.parametrize(
    "rest",
    [
        '"type": "publish", "room": "r", "data": "\\ud800"',
        '"type": "publish", "room": "r", "data": NaN',
        '"type": "publish", "room": "r", "data": 1e400',
        '"type": "publish", "room": "r", "data": ' + "9" * 5000,
        '"type": "publish", "room": "r", "data": ' + "[" * 70 + "]" * 70,
        '"type": "publish", "room": "r", "data": "a\nb"',
        '"type": 5',
    ],
)
def test_the_id_is_found_beside_what_is_wrong(rest: str) -> None:
    text = "{" + rest + ', "id": 5}'
    with pytest.raises(BadFrame):
        decode(text)
    assert request_id(text) == 5
    assert request_id(text.encode()) == 5


NO_OBJECTS = ["", "{", "[]", '"id"', '{"id": 1', "[" * 100_000]
NO_IDS = ["null", "true", "1.5", "[1]", '"\\ud800"', f'"{"x" * 65}"', str(2**53 + 1), "1" * 5000]


@pytest.mark.parametrize("text", ["{}", *NO_OBJECTS, *(f'{{"id": {value}}}' for value in NO_IDS)])
def test_where_no_id_can_be_told(text: str) -> None:
    assert request_id(text) is None


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('{"text": "hi"}', b'{"text":"hi"}'),
        ('{"text": "hi", "more": 1}', b'{"text":"hi"}'),
        ('{"text": {"a": [1]}}', b'{"text":{"a":[1]}}'),
        ('{"text": null}', b'{"text":null}'),
        ("{}", b'{"text":null}'),
        ('{"type": "auth"}', b'{"text":null}'),
    ],
)
def test_text_objects(text: str, data: bytes) -> None:
    assert decode_text_object(text) == data


@pytest.mark.parametrize("text", ["[]", '"hi"', "null", "1", "{", '{"text": NaN}', '{"a": 1e400}'])
def test_no_text_object(text: str) -> None:
    with pytest.raises(BadFrame):
        decode_text_object(text)


def test_any_value_is_taken_where_any_is() -> None:
    assert decode_any(' [1, {"a" : null}] ') == b'[1,{"a":null}]'
