"""What the ASGI application hears and says on our protocol class, until a transport takes over."""

import asyncio
from typing import Any

import pytest
from uvicorn.protocols.utils import ClientDisconnected

from adapters.transport import lane
from adapters.transport.uvicorn_ws import EXTENSION
from tests.adapters.conftest import LaneServers
from tests.lane_server import answer
from tests.peer import until
from tests.wire import close, request, text


class Application:
    """Does what it is told to: an event is sent, None waits for one, an exception is raised."""

    def __init__(self, *script: dict[str, Any] | Exception | None) -> None:
        self._script = script
        self.heard: list[dict[str, Any]] = []
        self.ended = asyncio.Event()
        self.failure: BaseException | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await answer(scope, receive, send)
            return
        try:
            for step in self._script:
                if step is None:
                    self.heard.append(await receive())
                elif isinstance(step, Exception):
                    raise step
                else:
                    await send(step)
        except BaseException as failure:
            self.failure = failure
            raise
        finally:
            self.ended.set()


ACCEPT = {"type": "websocket.accept"}
REFUSAL = {"type": "websocket.http.response.start", "status": 503, "headers": [(b"x-why", b"full")]}
TERSE = {"type": "websocket.http.response.start", "status": 499}


async def test_it_hears_what_comes_in_and_then_how_it_ended(lanes: LaneServers) -> None:
    application = Application(None, ACCEPT, None, None, None)
    wire = await (await lanes(application=application)).wire()
    await wire.sent(request("/"), text("one"), text("two"), close(4321))
    await until(application.ended.is_set)
    assert application.heard == [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "one"},
        {"type": "websocket.receive", "text": "two"},
        {"type": "websocket.disconnect", "code": 4321},
    ]


async def test_its_refusal_is_the_answer_to_the_upgrade(lanes: LaneServers) -> None:
    part = {"type": "websocket.http.response.body", "body": b"come back ", "more_body": True}
    last = {"type": "websocket.http.response.body", "body": b"later"}
    application = Application(None, REFUSAL, part, last, None)
    wire = await (await lanes(application=application)).wire()
    await wire.sent(request("/"))
    answered = await wire.rest()
    await until(application.ended.is_set)
    head, _, rest = answered.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 503 Service Unavailable"
    assert {b"x-why: full", b"Connection: close", b"Content-Length: 15"} <= set(lines)
    assert rest == b"come back later"
    assert application.heard[1:] == [{"type": "websocket.disconnect", "code": 1006}]


async def test_its_refusal_may_be_terse(lanes: LaneServers) -> None:
    application = Application(None, TERSE, {"type": "websocket.http.response.body"})
    wire = await (await lanes(application=application)).wire()
    await wire.sent(request("/"))
    assert (await wire.rest()).startswith(b"HTTP/1.1 499 \r\n")


async def test_its_refusal_has_one_length(lanes: LaneServers) -> None:
    headers = [(b"content-length", b"4"), (b"connection", b"keep-alive")]
    body = {"type": "websocket.http.response.body", "body": b"full"}
    application = Application(None, {**REFUSAL, "headers": headers}, body)
    wire = await (await lanes(application=application)).wire()
    await wire.sent(request("/"))
    lines = (await wire.rest()).lower().split(b"\r\n")
    assert lines.count(b"content-length: 4") == 1
    assert [line for line in lines if line.startswith(b"connection")] == [b"connection: close"]


async def test_a_refusal_does_not_wait_for_ever_to_be_taken(
    lanes: LaneServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "CLOSE_DEADLINE", 0.1)
    application = Application(None, {"type": "websocket.close"})
    server = await lanes(application=application)
    wire = await server.wire(receive_buffer=4096)
    await wire.sent(b"GET /8000000 HTTP/1.1\r\nHost: here\r\n\r\n")
    await wire.head()  # and leave the rest
    await wire.sent(request("/"))
    await until(application.ended.is_set)
    await until(lambda: not server.connections())


async def test_a_close_before_the_handshake_refuses_it(lanes: LaneServers) -> None:
    wire = await (await lanes(application=Application(None, {"type": "websocket.close"}))).wire()
    await wire.sent(request("/"))
    assert (await wire.rest()).startswith(b"HTTP/1.1 403 Forbidden\r\n")


async def test_after_its_close_it_hears_the_answer_to_it(lanes: LaneServers) -> None:
    goodbye = {"type": "websocket.close", "code": 4000, "reason": "no such door"}
    application = Application(None, ACCEPT, goodbye, None)
    wire = await (await lanes(application=application)).wire()
    await wire.sent(request("/"))
    await wire.head()
    assert await wire.frames() == [(8, (4000).to_bytes(2, "big") + b"no such door")]
    assert not application.ended.is_set()
    await wire.sent(close(4000))
    await until(application.ended.is_set)
    assert application.heard[1:] == [{"type": "websocket.disconnect", "code": 4000}]


@pytest.mark.parametrize("wrong", [ValueError("a bug"), {"type": "websocket.send", "text": "x"}])
async def test_a_bug_in_it_before_the_handshake_is_answered_with_500(
    lanes: LaneServers, wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    wire = await (await lanes(application=Application(None, wrong))).wire()
    await wire.sent(request("/"))
    assert (await wire.rest()).startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert "Exception in ASGI application" in caplog.text


@pytest.mark.parametrize("early", [0, 3], ids=["silent", "talking"])
async def test_a_bug_in_it_afterwards_ends_the_connection(
    lanes: LaneServers, caplog: pytest.LogCaptureFixture, early: int
) -> None:
    application = Application(None, ACCEPT, *[None][:early], ValueError("a bug"))
    wire = await (await lanes(application=application)).wire()
    await wire.sent(request("/"), *[text("early")] * early)
    assert (await wire.head()).startswith(b"HTTP/1.1 101 ")
    assert await wire.frames() == [(8, (1011).to_bytes(2, "big"))]
    await wire.sent(close(1011))
    assert await wire.rest() == b""
    assert not wire.was_reset
    assert "Exception in ASGI application" in caplog.text


async def test_who_does_not_answer_is_named(
    lanes: LaneServers, caplog: pytest.LogCaptureFixture
) -> None:
    wire = await (await lanes(application=Application(None))).wire()
    await wire.sent(request("/"))
    assert (await wire.rest()).startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert "has not answered a WebSocket" in caplog.text


@pytest.mark.parametrize("late", [ACCEPT, REFUSAL], ids=["accept", "refusal"])
async def test_an_answer_after_the_stop_is_no_bug(
    lanes: LaneServers, caplog: pytest.LogCaptureFixture, late: dict[str, Any]
) -> None:
    application = Application(None, late)
    server = await lanes(application=application)
    before = set(server.protocols())
    wire = await server.wire()
    await until(lambda: set(server.protocols()) > before)
    (protocol,) = server.protocols()
    protocol.data_received(request("/"))
    for upgraded in server.protocols():  # before its application has had a turn
        upgraded.shutdown()
    assert (await wire.rest()).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    await until(application.ended.is_set)
    assert isinstance(application.failure, ClientDisconnected)
    assert not caplog.text


async def test_who_speaks_to_nobody_any_more_is_told_so_and_that_is_no_bug(
    lanes: LaneServers, caplog: pytest.LogCaptureFixture
) -> None:
    application = Application(None, ACCEPT, None, ACCEPT)
    wire = await (await lanes(application=application)).wire()
    await wire.sent(request("/"))
    await wire.head()
    wire.reset()
    await until(application.ended.is_set)
    assert isinstance(application.failure, ClientDisconnected)
    assert not caplog.text


async def test_a_stop_in_the_handshake_says_that_nobody_is_served(lanes: LaneServers) -> None:
    application = Application(None, None)
    server = await lanes(application=application)
    wire = await server.wire()
    await wire.sent(request("/"))
    await until(lambda: bool(application.heard))
    for protocol in server.protocols():
        protocol.shutdown()
    assert (await wire.rest()).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    await until(application.ended.is_set)
    assert application.heard[1:] == [{"type": "websocket.disconnect", "code": 1006}]


async def test_it_hears_of_the_end_once_a_transport_has_taken_over(lanes: LaneServers) -> None:
    heard: list[str | bytes] = []
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        scope["extensions"][EXTENSION]["lane"].divert(heard.append)
        told.set_result(await receive())

    wire = await (await lanes(application=application)).wire()
    await wire.sent(request("/"), text("one"), close(4000))
    await until(told.done)
    assert told.result() == {"type": "websocket.disconnect", "code": 4000}
    assert heard == ["one"]
