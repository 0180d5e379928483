"""The lane of event streams: the rest of a connection, after the head of a response."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from adapters.transport import lane, uvicorn_http
from adapters.transport.streams import StreamOpener
from adapters.transport.uvicorn_stream import STREAM, StreamLane
from application.disconnects import SLOW
from application.ports.transport import Transport, TransportListener
from tests.lane_server import LaneServer, tls_for
from tests.peer import until
from tests.wire import Wire

LIMIT = 256 * 1024
FAREWELL = b"event: disconnect\n\n"
HEAD = b"HTTP/1.1 200 OK\r\n"


class Stream(TransportListener):
    """The server's end of one stream."""

    def __init__(self, transport: Transport, lane_of_it: StreamLane) -> None:
        self.transport = transport
        self.lane = lane_of_it
        self.told: list[str] = []
        self.code: int | None = None  # what `run` returned
        transport.attach(self)

    def overflowed(self) -> None:
        self.told.append("overflowed")

    def drained(self) -> None:
        self.told.append("drained")


class StreamServer(LaneServer):
    """Everything at `/stream` is one, once `let_run` lets it; the rest is as in LaneServer."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.streams: list[Stream] = []
        self.asked = 0
        self._open = StreamOpener(LIMIT, 35.0)

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/stream":
            await super()._application(scope, receive, send)
            return
        self.asked += 1
        await self.let_run.wait()
        headers = [(b"content-type", b"text/event-stream")]
        transport = await self._open(scope, receive, send, headers, None)
        stream = Stream(transport, scope["extensions"][STREAM]["stream"])
        self.streams.append(stream)
        stream.code = await transport.run(lambda frame: None)

    async def stream(
        self, *more: bytes, version: str = "1.1", **options: Any
    ) -> tuple[Wire, Stream]:
        """A stream past its head, and the server's end of it."""
        wire = await self.wire(**options)
        wire.send(f"GET /stream HTTP/{version}\r\nHost: h\r\n\r\n".encode(), *more)
        assert (await wire.head()).startswith(HEAD)
        await until(lambda: bool(self.streams))
        return wire, self.streams[-1]


Streams = Callable[..., Awaitable[StreamServer]]


@pytest.fixture
async def streams() -> AsyncIterator[Streams]:
    """Starts a server of streams. Arguments are those of LaneServer."""
    async with AsyncExitStack() as started:

        async def start(**options: Any) -> StreamServer:
            server = StreamServer(**options)
            started.push_async_callback(server.stop)
            await server.start()
            return server

        yield start


async def over(stream: Stream) -> int:
    await until(lambda: stream.code is not None)
    assert stream.code is not None
    return stream.code


# What is written


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_what_is_pushed_is_the_body(streams: Streams, version: str) -> None:
    server = await streams()
    wire, stream = await server.stream(version=version)
    stream.transport.push(b"one")
    assert await wire.exactly(3) == b"one"
    stream.transport.push(b"two")
    stream.transport.push(b"three")
    stream.transport.close(SLOW, FAREWELL, discard=False)
    assert await wire.rest() == b"twothree" + FAREWELL
    assert not wire.was_reset
    assert await over(stream) == 1006


async def test_the_end_of_the_body_is_that_of_the_connection(streams: Streams) -> None:
    server = await streams()
    wire = await server.wire()
    wire.send(b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n")
    head = (await wire.head()).lower()
    assert b"\r\nconnection: close\r\n" in head
    assert b"transfer-encoding" not in head
    assert b"content-length" not in head


async def test_over_tls(streams: Streams, cert: tuple[str, str]) -> None:
    server = await streams(cert=cert)
    wire, stream = await server.stream(tls=tls_for(cert))
    stream.transport.push(b"x" * 100_000)
    assert await wire.exactly(100_000) == b"x" * 100_000
    stream.transport.close(SLOW, FAREWELL, discard=False)
    assert await wire.rest() == FAREWELL
    assert await over(stream) == 1006


# What else comes on the connection


async def test_requests_in_front_are_answered_first(streams: Streams) -> None:
    server = await streams()
    wire = await server.wire()
    wire.send(b"GET /5 HTTP/1.1\r\nHost: h\r\n\r\n", b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (await wire.head()).startswith(HEAD)
    assert await wire.exactly(6) == b"xxxxx0"
    assert (await wire.head()).startswith(HEAD)
    await until(lambda: bool(server.streams))
    server.streams[0].transport.push(b"event")
    assert await wire.exactly(5) == b"event"


BEHIND = {
    "a request": b"GET /5 HTTP/1.1\r\nHost: h\r\n\r\n",
    "many requests": b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n" * 50,
    "a megabyte": b"x" * 1_000_000,
}


@pytest.mark.parametrize("kind", BEHIND)
async def test_what_comes_behind_is_for_nobody(streams: Streams, kind: str) -> None:
    server = await streams()
    wire, stream = await server.stream()
    await wire.sent(BEHIND[kind])
    stream.transport.push(b"event")
    assert await wire.exactly(5) == b"event"
    wire.reset()
    assert await over(stream) == 1006
    assert server.asked == 1


async def test_what_comes_with_it_is_for_nobody_either(streams: Streams) -> None:
    """Also when it is parsed before the stream begins, and reading rests because of it."""
    server = await streams()
    server.let_run.clear()
    wire = await server.wire()
    wire.send(b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n", BEHIND["a request"] * 30)
    await until(lambda: server.asked == 1)
    server.let_run.set()
    assert (await wire.head()).startswith(HEAD)
    await until(lambda: bool(server.streams))
    (stream,) = server.streams
    stream.transport.push(b"event")
    assert await wire.exactly(5) == b"event"
    wire.half_close()  # and is heard
    assert await over(stream) == 1006


async def test_no_deadline_of_a_request_holds_for_a_stream(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_http, "BODY_DEADLINE", 0.05)
    monkeypatch.setattr(uvicorn_http, "HEADER_DEADLINE", 0.05)
    server = await streams()
    wire = await server.wire()
    wire.send(b"GET /stream HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf")
    assert (await wire.head()).startswith(HEAD)
    await asyncio.sleep(0.15)  # the fault itself
    (stream,) = server.streams
    stream.transport.push(b"event")
    assert await wire.exactly(5) == b"event"
    assert stream.code is None


# The end


async def test_who_says_that_nothing_more_will_come_is_gone(streams: Streams) -> None:
    server = await streams()
    wire, stream = await server.stream()
    wire.half_close()
    assert await over(stream) == 1006
    assert server.connections() == 0


async def test_who_is_gone_before_it_begins(streams: Streams) -> None:
    server = await streams()
    server.let_run.clear()
    wire = await server.wire()
    wire.send(b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n")
    await until(lambda: server.asked == 1)
    wire.reset()
    await until(lambda: server.connections() == 0)
    server.let_run.set()
    await until(lambda: bool(server.streams))
    (stream,) = server.streams
    stream.transport.push(b"event")
    assert await over(stream) == 1006


async def test_who_takes_no_farewell_is_cut_off(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "CLOSE_DEADLINE", 0.1)
    server = await streams()
    server.narrow()
    _, stream = await server.stream(receive_buffer=4096)
    await clogged(stream)
    stream.transport.close(SLOW, FAREWELL, discard=False)
    assert await over(stream) == 1006
    assert server.connections() == 0


async def test_who_does_not_close_is_cut_off(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "CLOSE_DEADLINE", 0.1)
    server = await streams()
    wire, stream = await server.stream()
    stream.transport.close(SLOW, FAREWELL, discard=False)
    assert await wire.exactly(len(FAREWELL)) == FAREWELL
    assert await over(stream) == 1006
    assert server.connections() == 0


async def test_a_server_that_stops_ends_it(streams: Streams) -> None:
    server = await streams()
    wire, stream = await server.stream()
    for protocol in server.protocols():
        protocol.shutdown()
    assert await wire.rest() == b""
    assert not wire.was_reset
    assert await over(stream) == 1006


# Slow peers


async def clogged(stream: Stream) -> None:
    """Push until something is left over."""
    while not stream.transport.backlog:
        stream.transport.push(b"clog" * 4000)
        for _ in range(10):
            await asyncio.sleep(0)


async def test_who_takes_something_is_alive_and_who_takes_nothing_is_not(streams: Streams) -> None:
    server = await streams()
    server.narrow()
    wire, stream = await server.stream(receive_buffer=4096)
    assert stream.transport.heard()
    await clogged(stream)
    stream.transport.heard()  # notes what waits
    assert not stream.transport.heard()
    assert not stream.transport.heard()
    stream.transport.push(b"more")
    await asyncio.sleep(0)
    assert not stream.transport.heard()
    before = stream.transport.backlog
    while stream.transport.backlog == before:
        await wire.exactly(1000)
    assert stream.transport.heard()


async def test_who_is_slow_is_told_by_its_limit_and_not_by_time(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_http, "READ_DEADLINE", 0.05)
    server = await streams()
    server.narrow()
    wire, stream = await server.stream(receive_buffer=4096)
    await clogged(stream)
    await asyncio.sleep(0.15)  # the fault itself
    assert stream.code is None
    while not stream.told:
        stream.transport.push(b"x" * 20_000)
        await asyncio.sleep(0)
    assert stream.told == ["overflowed"]
    stream.transport.close(SLOW, FAREWELL, discard=True)
    assert (await wire.rest()).endswith(FAREWELL)
    assert await over(stream) == 1006


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="an option of Linux")
async def test_the_kernel_gives_up_who_acknowledges_nothing(streams: Streams) -> None:
    server = await streams()
    _, stream = await server.stream()
    (protocol,) = server.protocols()
    found = protocol.transport.get_extra_info("socket")
    assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 35_000
    assert stream.transport.ping()
