"""What the ASGI application hears and says on our protocol class, until a transport takes over."""

import asyncio
from typing import Any

import pytest

from adapters.transport.uvicorn_asgi import PeerGone
from tests.adapters.conftest import LaneServers
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


async def test_it_hears_what_comes_in_and_then_how_it_ended(lanes: LaneServers) -> None:
    application = Application(None, ACCEPT, None, None, None)
    wire = await (await lanes(application=application)).wire()
    await wire.sent(request("/"), text("one"), text("two"), close(4321))
    await application.ended.wait()
    assert (
        application.heard
        == [
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "text": "one"},
            {"type": "websocket.receive", "text": "two"},
            {"type": "websocket.disconnect", "code": 4321},
        ][: len(application.heard)]
    )
    assert len(application.heard) == 4


async def test_its_refusal_is_the_answer_to_the_upgrade(lanes: LaneServers) -> None:
    body = {"type": "websocket.http.response.body", "body": b"come back later"}
    application = Application(None, REFUSAL, body, None)
    wire = await (await lanes(application=application)).wire()
    await wire.sent(request("/"))
    answer = await wire.rest()
    await application.ended.wait()
    head, _, rest = answer.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 503 Service Unavailable"
    assert {b"x-why: full", b"Connection: close", b"Content-Length: 15"} <= set(lines)
    assert rest == b"come back later"
    assert application.heard[1:] == [{"type": "websocket.disconnect", "code": 1006}]


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
    await application.ended.wait()
    assert application.heard[1:] == [{"type": "websocket.disconnect", "code": 4000}]


@pytest.mark.parametrize("wrong", [ValueError("a bug"), {"type": "websocket.send", "text": "x"}])
async def test_a_bug_in_it_before_the_handshake_is_answered_with_500(
    lanes: LaneServers, wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    wire = await (await lanes(application=Application(None, wrong))).wire()
    await wire.sent(request("/"))
    assert (await wire.rest()).startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert "Exception in ASGI application" in caplog.text


async def test_a_bug_in_it_afterwards_ends_the_connection(
    lanes: LaneServers, caplog: pytest.LogCaptureFixture
) -> None:
    wire = await (await lanes(application=Application(None, ACCEPT, ValueError("a bug")))).wire()
    await wire.sent(request("/"))
    assert (await wire.head()).startswith(b"HTTP/1.1 101 ")
    assert await wire.frames() == [(8, (1011).to_bytes(2, "big"))]
    await wire.sent(close(1011))
    assert await wire.rest() == b""
    assert "Exception in ASGI application" in caplog.text


async def test_who_speaks_to_nobody_any_more_is_told_so_and_that_is_no_bug(
    lanes: LaneServers, caplog: pytest.LogCaptureFixture
) -> None:
    application = Application(None, ACCEPT, None, ACCEPT)
    wire = await (await lanes(application=application)).wire()
    await wire.sent(request("/"))
    await wire.head()
    wire.reset()
    await application.ended.wait()
    assert isinstance(application.failure, PeerGone)
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
    await application.ended.wait()
    assert application.heard[1:] == [{"type": "websocket.disconnect", "code": 1006}]
