"""uvicorn's WebSocket protocol class, opened up for the fast lane.

Handed to uvicorn as `ws=`. Once a transport has diverted the connection, frames go to it directly,
without a queue or a task switch. Short whole text frames, which is nearly all of them, are taken
apart here, everything else by the sans-I/O protocol, within bounds that it lacks: fragments,
control frames, how much of one read it takes apart at once, and reading from a peer that does not
read. uvicorn is pinned exactly, and a test fails when a method overridden here changes.
"""

import asyncio
import logging
from collections.abc import Callable, Generator
from typing import Any
from urllib.parse import unquote

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, State
from websockets.server import ServerProtocol
from websockets.speedups import apply_mask

from adapters.transport.compression import negotiate
from adapters.transport.fragments import Assembly, Unacceptable
from adapters.transport.handshake import Headers, offered_subprotocols, switching
from adapters.transport.lane import Lane
from application.disconnects import POLICY, RATE_LIMITED
from application.ports.transport import Receive
from domain.throttle import TokenBucket

EXTENSION = "hubbub.lane"
"""Where the lane is found in `scope["extensions"]`, as `{"lane": Lane}`."""

# The library has a line for every opening and every closing; so have we.
_quiet = logging.getLogger("websockets.server")

_TEXT = 0x81  # FIN and opcode 1
_MASKED = 0x80
_NOT_RECEIVED = 1006  # in place of a close code

FRAGMENTS_DEADLINE = 10.0  # seconds from the first fragment of a message to the last
CLOSE_DEADLINE = 5.0  # seconds from the beginning of the end to the end of the connection
CONTROLS_PER_SECOND = 10.0  # pings and pongs from one peer
CONTROLS_BURST = 20.0
READ_PAUSE = 64 * 1024  # bytes of unsent output over which nothing is read from a peer
PARSED_AT_ONCE = 4096  # bytes; a frame of 6 bytes costs 100 times as much once it is parsed


class _Frames(ServerProtocol):
    """The sans-I/O protocol from the first frame on; the handshake is ours."""

    def parse(self) -> Generator[None]:
        return Protocol.parse(self)

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            # Answered inside a fragmented message like anywhere else (RFC 6455, 5.5.1).
            self.current_size = None
        super().recv_frame(frame)


class LaneProtocol(WebSocketsSansIOProtocol, Lane):
    """A Lane to itself. Pings are the session's business: uvicorn's must be off."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _Frames(max_size=self.config.ws_max_size, logger=_quiet)
        self._accept = b""
        self._agreed: bytes | None = None  # extensions
        self._controls = TokenBucket(CONTROLS_PER_SECOND, CONTROLS_BURST)
        self._assembly = Assembly()
        self._fragment_timer: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._held = b""  # read before anybody was there to take it
        self._receive: Receive | None = None
        self._clogged: Callable[[bool], None] | None = None
        self._over: asyncio.Future[int] | None = None
        self._leaving = False
        self._heard = False
        self._waited = 0  # bytes that were buffered when somebody last asked for life
        self._written = 0  # bytes handed to the transport since then

    # Lane

    @property
    def compressed(self) -> bool:
        return self._agreed is not None

    @property
    def buffered(self) -> int:
        return self.transport.get_write_buffer_size()

    def write(self, frames: bytes) -> None:
        if self.transport.is_closing():
            return  # uvloop raises for a transport that is closed
        self.transport.write(frames)
        self._written += len(frames)
        if self.buffered > READ_PAUSE:
            self._pause_reading()

    def socket_fd(self) -> int | None:
        if self.transport.get_extra_info("ssl_object") is not None:
            return None
        socket = self.transport.get_extra_info("socket")
        return None if socket is None else int(socket.fileno())

    def is_closing(self) -> bool:
        return self.transport.is_closing()

    def send_ping(self) -> bool:
        if self.conn.state is not State.OPEN or self.transport.is_closing():
            return False
        self.conn.send_ping(b"")
        self.write(b"".join(self.conn.data_to_send()))
        return True

    def heard(self) -> bool:
        # Reading is paused while output waits, so then taking some of it is the sign of life.
        # Where nothing waited, the kernel takes bytes for a peer that is long gone.
        waited, self._waited = self._waited, self.buffered
        written, self._written = self._written, 0
        taken = bool(waited) and waited + written > self._waited
        heard, self._heard = self._heard or taken, False
        return heard

    def close_frame(self, code: int, reason: str) -> bytes:
        self._expect_the_end()
        try:
            self.conn.send_close(code, reason)
        except InvalidState:
            return b""
        self.close_sent = True
        return b"".join(self.conn.data_to_send())

    def watch(self, clogged: Callable[[bool], None]) -> None:
        self._clogged = clogged
        if self.transport.is_closing():
            return
        # Told at the first byte the kernel does not take: until then nothing is in a buffer. TLS
        # counts a buffer as full that reaches the limit, not one that is above it.
        tls = self.transport.get_extra_info("ssl_object") is not None
        self.transport.set_write_buffer_limits(high=int(tls), low=0)
        if self.buffered:
            clogged(True)

    def divert(self, receive: Receive) -> "asyncio.Future[int]":
        self._over = self.loop.create_future()
        while not self.queue.empty():
            event: Any = self.queue.get_nowait()
            if event["type"] == "websocket.receive":
                receive(event["text"] if event.get("text") is not None else event["bytes"])
            elif event["type"] == "websocket.disconnect":
                self._end(event.get("code") or 1005)
        self._receive = receive
        self._take_held()
        if self.buffered <= READ_PAUSE:
            self._resume_reading()
        return self._over

    # The handshake

    def upgrade(self, target: bytes, headers: Headers, accept: bytes) -> None:
        """Begin with an upgrade request that is parsed and found good. `accept` is the proof of
        it for the client."""
        self._accept = accept
        if self.config.ws_per_message_deflate and (agreement := negotiate(headers)):
            self._agreed, extension = agreement
            self.conn.extensions = [extension]
        self.handshake_initiated = True
        self.scope = self._scope(target, headers)
        self.queue.put_nowait({"type": "websocket.connect"})
        task = self.loop.create_task(self.run_asgi())
        task.add_done_callback(self.on_task_complete)
        self.tasks.add(task)

    def _scope(self, target: bytes, headers: Headers) -> Any:
        path, _, query = target.partition(b"?")
        return {
            "type": "websocket",
            "asgi": {"version": self.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": self.scheme,
            "server": self.server,
            "client": self.client,
            "root_path": self.root_path,
            "path": self.root_path + unquote(path.decode("ascii")),
            "raw_path": self.root_path.encode("ascii") + path,
            "query_string": query,
            "headers": headers,
            "subprotocols": offered_subprotocols(headers),
            "state": self.app_state.copy(),
            "extensions": {"websocket.http.response": {}, EXTENSION: {"lane": self}},
        }

    async def send(self, message: Any) -> None:
        if message["type"] != "websocket.accept" or self.handshake_complete:
            await super().send(message)
            if message["type"] == "websocket.http.response.body" and self.close_sent:
                self.handshake_complete = True  # or uvicorn logs the refusal as an error of ours
        elif not self.transport.is_closing():
            self.handshake_complete = True
            self.conn.state = State.OPEN
            self.transport.write(
                switching(self._accept, message.get("subprotocol"), self._agreed)
            )
            self._take_held()

    async def receive(self) -> Any:
        event = await super().receive()
        self._take_held()
        return event

    # What the peer sends

    def data_received(self, data: bytes) -> None:
        self._heard = True
        if self._receive is not None and not self.conn.reader.buffer:
            taken = self._take_whole_texts(data, self._receive)
            if taken == len(data):
                return
            data = data[taken:]
        self._take(data)

    def _take_whole_texts(self, data: bytes, receive: Receive) -> int:
        """Hand over the unfragmented text frames that `data` begins with, in as far as they are
        complete. Returns the bytes used; what follows is for the sans-I/O protocol."""
        conn, start, end = self.conn, 0, len(data)
        while end - start >= 6 and data[start] == _TEXT and conn.current_size is None:
            length, size = data[start + 1] - _MASKED, 6
            if length == 126:
                length, size = int.from_bytes(data[start + 2 : start + 4], "big"), 8
            stop = start + size + length
            if length < 0 or length == 127 or stop > end or conn.state is not State.OPEN:
                break
            if conn.max_message_size is not None and length > conn.max_message_size:
                break
            payload = apply_mask(data[start + size : stop], data[start + size - 4 : start + size])
            try:
                text = payload.decode()
            except UnicodeDecodeError:
                break
            receive(text)
            start = stop
        return start

    def _take(self, data: bytes) -> None:
        for start in range(0, len(data), PARSED_AT_ONCE):
            if self._leaving:
                return
            if self._receive is None and (self.read_paused or not self.handshake_complete):
                self._held += data[start:]
                self._pause_reading()
                return
            self.conn.receive_data(data[start : start + PARSED_AT_ONCE])
            self.handle_events()

    def _take_held(self) -> None:
        held, self._held = self._held, b""
        self._take(held)

    def handle_events(self) -> None:
        for event in self.conn.events_received():
            self._handle_frame(event)
            if self._leaving:
                return
        if self.conn.parser_exc is not None:
            self._leave(_NOT_RECEIVED)  # what came before the error has been handed over
        elif self.conn.writes:
            self.write(b"".join(self.conn.data_to_send()))  # pongs

    def _handle_frame(self, frame: Any) -> None:
        if frame.opcode is Opcode.CLOSE:
            self._leave(self._received_code())
        elif frame.opcode in (Opcode.PING, Opcode.PONG):
            if self._controls.take(self.loop.time()):
                self._fail(RATE_LIMITED.code, "too many pings or pongs")
        elif not self.close_sent:
            try:
                message = self._assembly.add(frame)
            except Unacceptable as refused:
                self._fail(refused.code, refused.reason)
            else:
                self._expect_more(message is None)
                if message is not None:
                    self._hand_over(message)

    def _hand_over(self, message: str | bytes) -> None:
        if self._receive is not None:
            self._receive(message)
            return
        kind = "text" if isinstance(message, str) else "bytes"
        self.queue.put_nowait({"type": "websocket.receive", kind: message})  # type: ignore[misc]
        self._pause_reading()

    def _expect_more(self, more: bool) -> None:
        """Set the deadline of a message of which a part has arrived, or take it back."""
        if more and self._fragment_timer is None:
            self._fragment_timer = self.loop.call_later(FRAGMENTS_DEADLINE, self._message_is_late)
        elif not more and self._fragment_timer is not None:
            self._fragment_timer.cancel()
            self._fragment_timer = None

    def _message_is_late(self) -> None:
        self._fragment_timer = None
        if self.read_paused:
            self._expect_more(True)  # it is we who do not read the rest
        else:
            self._fail(POLICY.code, "a fragmented message took too long")

    # The end

    def _fail(self, code: int, reason: str) -> None:
        """Close without waiting for the peer's consent."""
        self.conn.data_to_send()  # pongs that are ready: it gets no answers any more
        self.conn.fail(code, reason)
        self._leave(_NOT_RECEIVED)

    def _leave(self, code: int) -> None:
        """Read no more, and close: after what this turn still writes, the last replies."""
        if self._leaving:
            return
        self._leaving = True
        self.close_sent = True
        self._assembly.forget()
        self._expect_more(False)
        self.loop.call_soon(self._hang_up, code)

    def _hang_up(self, code: int) -> None:
        self.write(b"".join(self.conn.data_to_send()))
        self.transport.close()
        self._expect_the_end()
        self._end(code)

    def _expect_the_end(self) -> None:
        # A transport that is closing waits for its buffer, however long the peer takes for it.
        if self._deadline is None and not self.disconnected:
            self._deadline = self.loop.call_later(CLOSE_DEADLINE, self.transport.abort)

    def _end(self, code: int) -> None:
        """Tell whoever reads, once."""
        if self._over is None:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": code})
        elif not self._over.done():
            self._over.set_result(code)

    def _received_code(self) -> int:
        received = self.conn.close_rcvd
        return _NOT_RECEIVED if received is None else received.code

    def shutdown(self) -> None:
        super().shutdown()
        self._expect_the_end()

    def eof_received(self) -> None:
        self._end(self._received_code())
        self._expect_the_end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_more(False)
        if self._deadline is not None:
            self._deadline.cancel()
        # uvicorn reports 1005, which stands for a close frame without a code: a goodbye.
        self._end(self._received_code())
        super().connection_lost(exc)

    # Flow control

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._clogged is not None:
            self._clogged(True)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._receive is not None:
            self._resume_reading()
        if self._clogged is not None:
            self._clogged(False)

    def _pause_reading(self) -> None:
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
