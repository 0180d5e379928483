"""uvicorn's WebSocket protocol class, opened up for the fast lane.

Handed to uvicorn as `ws=`. Once a transport has diverted the connection, frames go to it directly,
without a queue or a task switch. Short whole text frames, which is nearly all of them, are taken
apart here, everything else by the sans-I/O protocol, within bounds that it lacks: fragments,
control frames, and reading from a peer that does not read. uvicorn is pinned exactly, and a test
fails when a method overridden here changes.
"""

import asyncio
import codecs
import logging
from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import sha1
from typing import Any
from urllib.parse import unquote

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, State
from websockets.server import ServerProtocol
from websockets.speedups import apply_mask

from adapters.transport.lane import Lane
from application.disconnects import POLICY, RATE_LIMITED
from application.ports.transport import Receive
from domain.throttle import TokenBucket

EXTENSION = "hubbub.lane"
"""Where the lane is found in `scope["extensions"]`, as `{"lane": Lane}`."""

# The library has a line for every opening and every closing; so have we.
_quiet = logging.getLogger("websockets.server")

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_SUBPROTOCOLS = b"sec-websocket-protocol"
_SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n%b\r\n"
)
_CHOSEN = b"Sec-WebSocket-Protocol: %b\r\n"
_NOT_A_HANDSHAKE = (
    b"HTTP/1.1 400 Bad Request\r\nSec-WebSocket-Version: 13\r\nConnection: close\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 60\r\n\r\n"
    b"a WebSocket needs Sec-WebSocket-Version 13 and one valid key"
)

_TEXT = 0x81  # FIN and opcode 1
_MASKED = 0x80


MAX_FRAGMENTS = 64  # of one message
FRAGMENTS_DEADLINE = 10.0  # seconds from the first fragment of a message to the last
CONTROLS_PER_SECOND = 10.0  # pings and pongs from one peer
CONTROLS_BURST = 20.0
READ_PAUSE = 64 * 1024  # bytes of unsent output over which nothing is read from a peer

_Utf8 = codecs.getincrementaldecoder("utf-8")


class _Frames(ServerProtocol):
    """Answers a close frame inside a fragmented message like any other (RFC 6455, 5.5.1)."""

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            self.current_size = None
        super().recv_frame(frame)


class LaneProtocol(WebSocketsSansIOProtocol, Lane):
    """A Lane to itself. Pings are the session's business: uvicorn's must be off."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn.logger = _quiet
        self.conn.__class__ = _Frames
        self._accept = b""
        self._controls = TokenBucket(CONTROLS_PER_SECOND, CONTROLS_BURST)
        self._check_utf8: Callable[[bytes, bool], str] | None = None
        self._fragment_timer: asyncio.TimerHandle | None = None
        self._receive: Receive | None = None
        self._clogged: Callable[[bool], None] | None = None
        self._over: asyncio.Future[int] | None = None
        self._heard = False
        self._blocked = 0  # bytes that were buffered when somebody last asked for life

    # Lane

    @property
    def buffered(self) -> int:
        return self.transport.get_write_buffer_size()

    def write(self, frames: bytes) -> None:
        self.transport.write(frames)
        if not self.read_paused and self.buffered > READ_PAUSE:
            self.read_paused = True
            self.transport.pause_reading()

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
        self.transport.write(b"".join(self.conn.data_to_send()))
        return True

    def heard(self) -> bool:
        # Reading is paused while output waits, so then taking some of it is the sign of life.
        blocked, self._blocked = self._blocked, self.buffered
        heard, self._heard = self._heard or self._blocked < blocked, False
        return heard

    def close_frame(self, code: int, reason: str) -> bytes:
        try:
            self.conn.send_close(code, reason)
        except InvalidState:
            return b""
        self.close_sent = True
        return b"".join(self.conn.data_to_send())

    def abort(self) -> None:
        self.transport.abort()

    def divert(self, receive: Receive, clogged: Callable[[bool], None]) -> "asyncio.Future[int]":
        self._over = self.loop.create_future()
        self._clogged = clogged
        # Told at the first byte the kernel does not take: until then nothing is in a buffer.
        self.transport.set_write_buffer_limits(high=0)
        if not self.writable.is_set():
            clogged(True)
        while not self.queue.empty():
            event: Any = self.queue.get_nowait()
            if event["type"] == "websocket.receive":
                receive(event["text"] if event.get("text") is not None else event["bytes"])
            elif event["type"] == "websocket.disconnect":
                self._end(event.get("code") or 1005)
        self._receive = receive
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        return self._over

    def _end(self, code: int) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(code)

    # asyncio.Protocol and uvicorn

    def upgrade(self, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """Begin with an upgrade request that is parsed already: target, and headers with names in
        lower case. RFC 6455 4.2.1; what asked for the upgrade was checked before."""
        accept = _accept_key(headers)
        if accept is None:
            self.transport.write(_NOT_A_HANDSHAKE)
            self.transport.close()
            return
        self._accept = accept
        # What is left of the sans-I/O parser is the part for frames.
        self.conn.parser = Protocol.parse(self.conn)
        next(self.conn.parser)
        self.handshake_initiated = True
        self.scope = self._scope(target, headers)
        self.queue.put_nowait({"type": "websocket.connect"})
        task = self.loop.create_task(self.run_asgi())
        task.add_done_callback(self.on_task_complete)
        self.tasks.add(task)

    def _scope(self, target: bytes, headers: list[tuple[bytes, bytes]]) -> Any:
        path, _, query = target.partition(b"?")
        offered = b",".join(value for name, value in headers if name == _SUBPROTOCOLS)
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
            "subprotocols": [part.strip() for part in offered.decode("latin-1").split(",") if part],
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
            subprotocol = message.get("subprotocol")
            chosen = b"" if subprotocol is None else _CHOSEN % subprotocol.encode("ascii")
            self.transport.write(_SWITCH % (self._accept, chosen))

    def data_received(self, data: bytes) -> None:
        self._heard = True
        if self._receive is not None and not self.conn.reader.buffer:
            taken = self._take_whole_texts(data, self._receive)
            if taken == len(data):
                return
            data = data[taken:]
        super().data_received(data)

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

    # Frames that the sans-I/O protocol took apart

    def handle_text(self, event: Frame) -> None:
        self.curr_msg_data_type = "text"
        self._begin_message(event)

    def handle_bytes(self, event: Frame) -> None:
        self.curr_msg_data_type = "bytes"
        self._begin_message(event)

    def handle_cont(self, event: Frame) -> None:
        self._add_fragment(event)

    def _begin_message(self, event: Frame) -> None:
        self.frames = []
        if not event.fin:
            self._check_utf8 = _Utf8().decode if event.opcode is Opcode.TEXT else None
            self._fragment_timer = self.loop.call_later(
                FRAGMENTS_DEADLINE, self._fail, POLICY.code, "a fragmented message took too long"
            )
        self._add_fragment(event)

    def _add_fragment(self, event: Frame) -> None:
        self.frames.append(bytes(event.data))
        if len(self.frames) > MAX_FRAGMENTS:
            self._fail(POLICY.code, f"a message may have {MAX_FRAGMENTS} fragments")
            return
        if self._fragment_timer is not None and self._check_utf8 is not None:
            try:
                self._check_utf8(bytes(event.data), event.fin)
            except UnicodeDecodeError:
                self._fail(1007, "text is not UTF-8")
                return
        if event.fin:
            self._end_fragments()
            self.send_receive_event_to_app()

    def _end_fragments(self) -> None:
        if self._fragment_timer is not None:
            self._fragment_timer.cancel()
            self._fragment_timer = None

    def send_receive_event_to_app(self) -> None:
        if self.close_sent:
            self.frames = []
        elif self._receive is None:
            super().send_receive_event_to_app()
        else:
            self._hand_over(self._receive)

    def _hand_over(self, receive: Receive) -> None:
        data = b"".join(self.frames)
        self.frames = []
        if self.curr_msg_data_type == "bytes":
            receive(data)
            return
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self._fail(1007, "text is not UTF-8")
        else:
            receive(text)

    def handle_ping(self) -> None:
        if self._admits_control():
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        self._admits_control()

    def handle_close(self, event: Frame) -> None:
        if self.close_sent:
            self.transport.close()  # the answer to ours: the closing handshake is complete
        else:
            super().handle_close(event)

    def _admits_control(self) -> bool:
        if not self._controls.take(self.loop.time()):
            return True
        self.conn.data_to_send()  # the pong that the parser has made ready
        self._fail(RATE_LIMITED.code, "too many pings or pongs")
        return False

    def _fail(self, code: int, reason: str) -> None:
        """Close without waiting for the peer, and read no more of it."""
        self._end_fragments()
        if self.close_sent:
            return
        self.conn.fail(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._clogged is not None:
            self._clogged(True)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._clogged is not None:
            if self.read_paused:
                self.read_paused = False
                self.transport.resume_reading()
            self._clogged(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_fragments()
        received = self.conn.close_rcvd
        code = 1006 if received is None else received.code
        if self.handshake_complete and received is None:
            # uvicorn reports 1005 here, which stands for a close frame without a code: a goodbye.
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        super().connection_lost(exc)
        self._end(code)


def _accept_key(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    """What proves that the handshake was understood; None when it is none (RFC 6455, 4.2)."""
    keys = [value for name, value in headers if name == b"sec-websocket-key"]
    versions = [value for name, value in headers if name == b"sec-websocket-version"]
    if len(keys) != 1 or versions != [b"13"]:
        return None
    try:
        if len(b64decode(keys[0], validate=True)) != 16:
            return None
    except ValueError:
        return None
    return b64encode(sha1(keys[0] + _MAGIC, usedforsecurity=False).digest())
