"""The part of the contract of transports that event streams have: all that goes to the peer.

The tests are those of test_transport, over harnesses whose peer says nothing and is sent no close
frame. What is carried is opaque to these transports, so frames serve as well as events.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.frames import Opcode

from adapters.transport import asgi, lane
from adapters.transport.asgi_stream import AsgiStream
from adapters.transport.streams import StampedTransport, StreamOpener
from adapters.transport.uvicorn_http import GuardedHttpProtocol
from application.disconnects import FORBIDDEN, SLOW
from tests.contract.conftest import TransportHarness, some_turns
from tests.contract.test_transport import (
    FAREWELL,
    fill,
    test_a_peer_that_is_gone_while_it_is_written_to,
    test_a_peer_that_reads_on_gets_everything_in_order,
    test_a_peer_that_takes_no_farewell_is_cut_off,
    test_a_push_may_hold_many_frames,
    test_a_transport_that_is_not_idle_tells_when_it_is,
    test_a_transport_that_is_not_ready_tells_when_it_is,
    test_after_the_end_no_ping_is_sent,
    test_frames_for_a_peer_that_is_gone_are_swallowed,
    test_it_can_be_cancelled,
    test_it_is_told_once,
    test_messages_arrive_as_they_were_pushed,
    test_messages_of_one_turn_keep_their_order,
    test_nobody_is_told_who_did_not_ask,
    test_the_backlog_is_counted_in_bytes,
    test_what_is_pushed_before_it_runs_is_not_lost,
    test_what_is_pushed_in_one_turn_is_bounded,
    test_what_the_peer_took_is_no_backlog,
    test_within_the_limit_nothing_overflows,
)
from tests.peer import DEADLINE, until
from tests.wire import server_frames

SHARED = [
    test_a_peer_that_is_gone_while_it_is_written_to,
    test_a_peer_that_reads_on_gets_everything_in_order,
    test_a_peer_that_takes_no_farewell_is_cut_off,
    test_a_push_may_hold_many_frames,
    test_a_transport_that_is_not_idle_tells_when_it_is,
    test_a_transport_that_is_not_ready_tells_when_it_is,
    test_after_the_end_no_ping_is_sent,
    test_frames_for_a_peer_that_is_gone_are_swallowed,
    test_it_can_be_cancelled,
    test_it_is_told_once,
    test_messages_arrive_as_they_were_pushed,
    test_messages_of_one_turn_keep_their_order,
    test_nobody_is_told_who_did_not_ask,
    test_the_backlog_is_counted_in_bytes,
    test_what_is_pushed_before_it_runs_is_not_lost,
    test_what_is_pushed_in_one_turn_is_bounded,
    test_what_the_peer_took_is_no_backlog,
    test_within_the_limit_nothing_overflows,
]


class StreamHarness(TransportHarness):
    """`over` is set when the peer saw the end of the stream, as opposed to that of the
    connection."""

    def __init__(self, limit: int = 256 * 1024) -> None:
        super().__init__(limit)
        self.over = asyncio.Event()
        self._body = bytearray()

    def take(self, part: bytes) -> None:
        """The peer reads."""
        self._body += part
        whole = list(server_frames(self._body))
        for opcode, data, _ in whole:
            self.got.append(data.decode() if opcode == Opcode.TEXT else data)
        if whole:
            del self._body[: whole[-1][2]]
        self._notebook.note()

    async def peer_saw_the_end(self) -> None:
        async with asyncio.timeout(DEADLINE):
            await self.over.wait()

    async def say(self, message: str | bytes) -> None:
        raise AssertionError("the peer of a stream says nothing")

    async def hang_up(self, code: int | None) -> None:
        raise AssertionError("the peer of a stream says nothing")


class AsgiStreamHarness(StreamHarness):
    """A server reduced to the two functions of ASGI."""

    async def open(self) -> None:
        self._events: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._events.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        self._reading = asyncio.Event()
        self._reading.set()
        self._gone = False
        self.transport = AsgiStream(self._events.get, self._send, self.limit)

    async def shut(self) -> None:
        if hasattr(self, "running"):
            self.running.cancel()
            await asyncio.wait({self.running})

    async def _send(self, event: MutableMapping[str, Any]) -> None:
        await self._reading.wait()
        if self._gone:
            raise ConnectionResetError
        assert event["type"] == "http.response.body"
        assert not self.over.is_set(), "sent after the end"
        self.take(event["body"])
        if not event["more_body"]:
            self.over.set()

    def block(self) -> None:
        self._reading.clear()

    def unblock(self) -> None:
        self._reading.set()

    def vanish(self) -> None:
        self._gone = True
        self._events.put_nowait({"type": "http.disconnect"})
        self._reading.set()

    def hurry(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        monkeypatch.setattr(asgi, "CLOSE_DEADLINE", seconds)


class LaneStreamHarness(StreamHarness):
    """The real protocol class on a real socket, with small kernel buffers."""

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = await self._listen()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.setblocking(False)
        await self._loop.sock_connect(self._socket, self._server.sockets[0].getsockname())
        await self._loop.sock_sendall(self._socket, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await self._loop.sock_recv(self._socket, 1)
        self.unblock()
        await until(lambda: hasattr(self, "transport"))

    async def _listen(self) -> asyncio.Server:
        config = Config(
            self._app, interface="asgi3", http=GuardedHttpProtocol, lifespan="off", log_config=None
        )
        config.load()
        self._state = ServerState()
        self._done = asyncio.Event()
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        return await self._loop.create_server(
            lambda: GuardedHttpProtocol(config=config, server_state=self._state, app_state={}),
            sock=listening,
        )

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.transport = await self._opened(scope, receive, send)
        await self._done.wait()

    async def _opened(self, scope: Any, receive: Any, send: Any) -> Any:
        return await StreamOpener(self.limit, 35.0)(scope, receive, send, [], None)

    async def shut(self) -> None:
        self.vanish()
        if hasattr(self, "running"):
            await asyncio.wait({self.running}, timeout=DEADLINE)
            assert self.running.done()
        await until(lambda: not self._state.connections)
        self._done.set()
        await until(lambda: not self._state.tasks)
        self._server.close()
        await self._server.wait_closed()

    def block(self) -> None:
        self._loop.remove_reader(self._socket)

    def unblock(self) -> None:
        self._loop.add_reader(self._socket, self._read)

    def _read(self) -> None:
        try:
            part = self._socket.recv(65_536)
        except ConnectionError:
            self.block()
            return
        if part:
            self.take(part)
        else:
            self.over.set()
            self.vanish()

    def vanish(self) -> None:
        if self._socket.fileno() < 0:
            return
        self.block()
        reset_at_once = struct.pack("ii", 1, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset_at_once)
        self._socket.close()

    def hurry(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        monkeypatch.setattr(lane, "CLOSE_DEADLINE", seconds)


class StampedHarness(LaneStreamHarness):
    """The same behind a stamp that changes nothing."""

    async def _opened(self, scope: Any, receive: Any, send: Any) -> Any:
        opened = await StreamOpener(self.limit, 35.0)(scope, receive, send, [], bytes)
        assert isinstance(opened, StampedTransport)
        return opened


STREAMS: dict[str, type[StreamHarness]] = {
    "asgi": AsgiStreamHarness,
    "lane": LaneStreamHarness,
    "stamped": StampedHarness,
}


@pytest.fixture(params=STREAMS)
async def line(request: pytest.FixtureRequest) -> AsyncIterator[StreamHarness]:
    harness = STREAMS[request.param]()
    async with harness:
        yield harness


async def test_a_peer_that_does_not_read_overflows_once(line: StreamHarness) -> None:
    line.run()
    line.block()
    for _ in range(4):
        fill(line)
        await asyncio.sleep(0)
    await line.told.until(lambda: line.told.overflows > 0)
    fill(line)
    await some_turns()
    assert line.told.overflows == 1


async def test_a_peer_that_is_gone_is_a_1006(line: StreamHarness) -> None:
    line.run()
    line.vanish()
    assert await line.ended() == 1006


async def test_a_close_writes_what_is_queued_and_a_farewell(line: StreamHarness) -> None:
    line.run()
    line.push("one", "two")
    line.transport.close(FORBIDDEN, FAREWELL, discard=False)
    line.push("late")
    await line.peer_saw_the_end()
    assert line.got == ["one", "two", '{"type":"disconnect"}']
    assert await line.ended() == 1006


async def test_a_close_may_discard_what_is_queued(line: StreamHarness) -> None:
    line.run()
    line.push("sent")
    await line.peer_got(1)
    line.push("one", "two")
    line.transport.close(SLOW, FAREWELL, discard=True)
    line.transport.close(FORBIDDEN, FAREWELL, discard=False)
    await line.peer_saw_the_end()
    assert line.got == ["sent", '{"type":"disconnect"}']
    assert await line.ended() == 1006


async def test_a_close_waits_for_a_peer_that_takes_its_time(line: StreamHarness) -> None:
    line.run()
    await line.clog()
    line.push("waiting")
    line.transport.close(FORBIDDEN, FAREWELL, discard=False)
    await some_turns()
    assert not line.over.is_set()
    line.unblock()
    await line.peer_saw_the_end()
    assert line.got[-2:] == ["waiting", '{"type":"disconnect"}']
    await line.ended()


async def test_a_close_before_it_runs(line: StreamHarness) -> None:
    line.push("early")
    line.transport.close(FORBIDDEN, FAREWELL, discard=False)
    line.run()
    await line.peer_saw_the_end()
    assert line.got == ["early", '{"type":"disconnect"}']
    await line.ended()


async def test_nobody_is_held(line: StreamHarness) -> None:
    line.run()
    line.transport.hold(10.0)
    line.push("x")
    assert await line.peer_got(1) == ["x"]
    line.vanish()
    assert await line.ended() == 1006


def test_the_shared_part_is_run_here() -> None:
    """Imported tests are collected under the names they were imported by."""
    assert all(globals()[test.__name__] is test for test in SHARED)
