"""Requests nobody means well with: every one has an answer of the one shape, and harms nobody."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.json import Decoder

from application.ports.broadcasting import Receipt
from domain.errors import BadFrame, Unavailable
from domain.message import Draft
from domain.options import Retention
from entrypoints.http.api.asks import BATCH, BROADCAST, PUBLISH, Publish, once, operation
from entrypoints.http.api.operations import Operations
from entrypoints.wire.canonical import canonical, decode
from tests.api import Api, refused
from tests.running_server import RunningServer, Serve
from tests.wire import Wire

TEA = "/v1/rooms/tea/messages"


# Addresses


@pytest.mark.parametrize(
    "name", ["a b", "a%00b", "%e2%80%ae", "a%2e%2e%5c", "%C3%A4", "x" * 129, "@"]
)
async def test_a_bad_name_is_refused_on_every_path(serve: Serve, name: str) -> None:
    api = Api(await serve(), None)
    for method, path, body in (
        ("POST", "/v1/rooms/{}/messages", {"data": 1}),
        ("GET", "/v1/rooms/{}/messages", ...),
        ("GET", "/v1/rooms/{}/members", ...),
        ("GET", "/v1/rooms/{}", ...),
        ("PUT", "/v1/rooms/{}/members/ann", ...),
        ("PUT", "/v1/rooms/tea/members/{}", ...),
        ("DELETE", "/v1/rooms/{}/members/ann", ...),
        ("POST", "/v1/users/{}/disconnect", ...),
        ("PUT", "/v1/users/{}/block", {"until": 1}),
        ("DELETE", "/v1/users/{}/block", ...),
        ("POST", "/v1/users/{}/revoke-tokens", ...),
    ):
        if name == "@" and ("users" in path or path.endswith("members/{}")):
            continue  # a user may be called that
        outcome = await api.refusal(method, path.format(name), body)
        assert outcome == (400, "bad_name"), (method, path)


async def test_what_is_not_there(serve: Serve) -> None:
    api = Api(await serve(), None)
    for path in (
        "/v1",
        "/v1/",
        "/v1/nothing",
        "/v1/rooms/",
        "/v1/rooms/a/b",
        "/v1/rooms/a%2fb",
        "/v1/rooms/tea/messages/1",
        "/v1/rooms/tea/messages/",
        "//v1/rooms",
        "/v2/rooms",
    ):
        assert await api.refusal("GET", path) == (404, "not_found"), path


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", TEA, {"GET", "POST"}),
        ("DELETE", TEA, {"GET", "POST"}),
        ("POST", "/v1/rooms", {"GET"}),
        ("GET", "/v1/batch", {"POST"}),
        ("POST", "/v1/rooms/tea/members/ann", {"PUT", "DELETE"}),
        ("TRACE", "/v1/rooms/tea", {"GET"}),
        ("QUERY", "/v1/rooms/tea", {"GET"}),
        ("OPTIONS", TEA, {"GET", "POST"}),
    ],
)
async def test_another_method(serve: Serve, method: str, path: str, allowed: set[str]) -> None:
    answer = await Api(await serve(), None).answer(method, path)
    assert (answer.status_code, refused(answer)["code"]) == (405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=-1",
        "limit=x",
        "limit=1.5",
        "limit=99999999999999999999",
        "before=-1",
        "after=x",
        "before=",
        f"after={2**53 + 1}",
        "limit=%00",
    ],
)
async def test_a_query_that_makes_no_sense(serve: Serve, query: str) -> None:
    api = Api(await serve(), None)
    assert await api.refusal("GET", f"{TEA}?{query}") == (422, "bad_frame")


async def test_an_error_repeats_nothing_that_was_sent(serve: Serve) -> None:
    api = Api(await serve(), None)
    for answer in (
        await api.answer("GET", f"{TEA}?limit=canary"),
        await api.answer("GET", "/v1/rooms/canary canary"),
        await api.answer("POST", TEA, {"canary": "canary", "data": 1, "key": "canary\n"}),
        await api.answer("POST", TEA, b'{"data": canary}'),
        await api.answer("POST", "/v1/batch", {"operations": [{"op": "canary"}]}),
    ):
        assert "canary" not in answer.text.replace("unknown field `canary`", "")


# Bodies


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b'{"data":1',
        b'{"data":1} x',
        b'{"data":NaN}',
        b'{"data":-Infinity}',
        b'{"data":1e999}',
        b'{"data":"\\ud800"}',
        b'{"data":"\xff"}',
        b'\xef\xbb\xbf{"data":1}',
        b'{"data":"\n"}',
        b'{"data":1,"data2":1}',
        b'{"data":1,"ephemeral":1}',
        b'{"data":1,"from":1}',
        b'{"data":1,"room":"a"}',
        b'{"data":1,"op":"publish"}',
        b'{"data":' + b"[" * 65 + b"]" * 65 + b"}",
        b'{"data":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b"[" * 60_000,
        b'{"data":' + b"9" * 400 + b"}",
        b'{"data":' + b"9" * 60_000 + b"}",
        json.dumps({"data": 1}).encode("utf-16"),
    ],
)
async def test_a_body_that_is_no_message(serve: Serve, body: bytes) -> None:
    api = Api(await serve(), None)
    assert await api.refusal("POST", TEA, body) == (400, "bad_frame")
    assert (await api("GET", TEA))["messages"] == []


async def test_a_body_as_large_as_it_may_be_and_one_byte_more(serve: Serve) -> None:
    server = await serve(limits={"frame_bytes": 1000})
    api = Api(server, None)
    message = b'{"data":"' + b"x" * (1000 - 11) + b'"}'
    for method, path in (
        ("POST", TEA),
        ("POST", "/v1/broadcast"),
        ("POST", "/v1/users/ann/disconnect"),
        ("PUT", "/v1/users/ann/block"),
        ("POST", "/v1/users/ann/revoke-tokens"),
        ("POST", "/v1/tokens/revoke"),
    ):
        assert (await api.answer(method, path, message)).status_code in (200, 400)
        for body in (message + b" ", b" " * 100_000):
            assert await api.refusal(method, path, body) == (413, "message_too_large"), path
            piecemeal = await api.refusal(method, path, content=pieces(body))
            assert piecemeal == (413, "message_too_large"), path
    assert await api.refusal("POST", "/v1/batch", b" " * 4001) == (413, "message_too_large")
    assert len((await api("GET", TEA))["messages"]) == 1


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    """In chunks, so that nobody knows the length beforehand."""
    for start in range(0, len(body), 400):
        yield body[start : start + 400]


async def ask_raw(server: RunningServer, head: str, body: bytes = b"") -> tuple[int, Any]:
    """Status and JSON of the answer to a request written by hand."""
    wire = await Wire.connect(server.port)
    wire.send(f"{head}\r\nHost: 127.0.0.1\r\nConnection: close\r\n".encode(), body)
    answer = await wire.rest()
    head_received, _, received = answer.partition(b"\r\n\r\n")
    return int(head_received.split()[1]), json.loads(received)


async def test_a_body_that_is_announced_too_large_is_not_waited_for(serve: Serve) -> None:
    server = await serve()
    for length in (65_537, 10**14, 10**17):
        status, answer = await ask_raw(
            server, f"POST {TEA} HTTP/1.1", f"Content-Length: {length}\r\n\r\n".encode()
        )
        assert (status, answer["error"]["code"]) == (413, "message_too_large")


async def test_who_hangs_up_harms_nobody(serve: Serve) -> None:
    server = await serve()
    for _ in range(5):
        wire = await Wire.connect(server.port)
        head = f"POST {TEA} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n"
        await wire.sent(head.encode(), b"{")
        wire.reset()
    assert (await Api(server, None)("POST", TEA, {"data": 1}))["seq"] == 1


async def test_answers_are_kept_by_nobody_and_taken_for_nothing_else(serve: Serve) -> None:
    api = Api(await serve(), None)
    await api("POST", TEA, {"data": "<script>alert(1)</script>"})
    answer = await api.answer("GET", TEA)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
fields = st.fixed_dictionaries(
    {},
    optional={
        name: json_values | st.sampled_from(["publish", "kick", "history", "a"])
        for name in ("op", "room", "data", "key", "user", "rooms", "operations", "limit", "until")
    },
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary() | fields.map(lambda found: json.dumps(found).encode()))
def test_whatever_is_sent_is_read_or_refused_and_nothing_else(body: bytes) -> None:
    decoders: list[Decoder[Any]] = [PUBLISH, BROADCAST, BATCH]
    for decoder in decoders:
        try:
            found = decode(decoder, body)
        except BadFrame:
            continue
        for raw in getattr(found, "operations", ()):
            try:
                ask = operation(raw)
                if isinstance(ask, Publish):
                    once(ask)
                    canonical(ask.data)
            except BadFrame:
                continue


# What takes too long, and what goes wrong with us


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests have next to no time."""
    monkeypatch.setattr(Operations, "deadline", lambda _: asyncio.get_running_loop().time() + 0.05)


def stall(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on its store and its control answer nothing."""

    async def for_ever(*_: object) -> None:
        await asyncio.Event().wait()

    broker, control = server.container.broker(), server.container.control()
    monkeypatch.setattr(broker, "submit", lambda *_: None)
    monkeypatch.setattr(broker, "page", for_ever)
    monkeypatch.setattr(control, "give", for_ever)


@pytest.mark.usefixtures("hasty")
async def test_what_is_not_known_in_time_is_told_as_that(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve()
    api = Api(server, None)
    stall(server, monkeypatch)
    for method, path, body, expected in (
        ("POST", TEA, {"data": 1, "key": "k"}, (504, "unknown")),
        ("GET", TEA, ..., (503, "unavailable")),
        ("POST", "/v1/users/ann/disconnect", ..., (504, "unknown")),
    ):
        answer = await api.answer(method, path, body)
        error = refused(answer)
        assert (answer.status_code, error["code"], error["retry"]) == (*expected, True)
    results = await api("POST", "/v1/broadcast", {"rooms": ["a", "b"], "data": 1})
    assert [result["error"]["code"] for result in results["results"]] == ["unknown"] * 2
    operations = [
        {"op": "publish", "room": "a", "data": 1},
        {"op": "history", "room": "a"},
        {"op": "room", "room": "a"},
    ]
    first, second, third = (await api("POST", "/v1/batch", {"operations": operations}))["results"]
    assert (first["error"]["code"], second["error"]["code"]) == ("unknown", "unavailable")
    assert third["options"]  # it waits for nobody


@pytest.mark.usefixtures("hasty")
async def test_a_body_that_does_not_come_is_not_waited_for(serve: Serve) -> None:
    server = await serve()
    status, answer = await ask_raw(server, f"POST {TEA} HTTP/1.1", b"Content-Length: 12\r\n\r\n{")
    assert (status, answer["error"]["code"]) == (503, "unavailable")


async def test_a_bug_of_ours_is_an_error_of_this_request_only(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve()
    api = Api(server, None)

    def break_down(*_: object) -> None:
        raise ZeroDivisionError("canary")

    with monkeypatch.context() as broken:
        broken.setattr(server.container.broker(), "submit", break_down)
        answer = await api.answer("POST", TEA, {"data": 1})
        assert (answer.status_code, refused(answer)["code"]) == (500, "internal")
        assert "canary" not in answer.text
        publish = {"op": "publish", "room": "a", "data": 1}
        batch = {"operations": [publish, {"op": "room", "room": "a"}]}
        results = (await api("POST", "/v1/batch", batch))["results"]
        assert results[0]["error"]["code"] == "internal"
        assert results[1]["options"]
    assert len(server.log.errors) == 2
    assert all("canary" in error for error in server.log.errors)
    server.log.errors.clear()
    assert (await api("POST", TEA, {"data": 1}))["seq"] == 1


async def test_what_the_store_cannot_do_now_may_be_done_later(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve()
    api = Api(server, None)

    def unavailable(draft: Draft, keep: Retention, receipt: Receipt) -> None:
        receipt(Unavailable("not now"))

    monkeypatch.setattr(server.container.broker(), "submit", unavailable)
    answer = await api.answer("POST", TEA, {"data": 1})
    error = refused(answer)
    assert (answer.status_code, error["code"], error["retry"]) == (503, "unavailable", True)
