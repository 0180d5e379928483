"""uvicorn's WebSocket protocol class, opened up for the fast lane.

Handed to uvicorn as `ws=`. The handshake stays uvicorn's. Once a transport has diverted the
connection, frames go to it directly, without a queue or a task switch; short whole text frames,
which is nearly all of them, are taken apart here, everything else by the sans-I/O protocol.
uvicorn is pinned exactly, and a test fails when a method overridden here changes.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidState
from websockets.http11 import Request
from websockets.protocol import Protocol, State
from websockets.speedups import apply_mask

from adapters.transport.lane import Lane
from application.ports.transport import Receive

EXTENSION = "hubbub.lane"
"""Where the lane is found in `scope["extensions"]`, as `{"lane": Lane}`."""

# The library has a line for every opening and every closing; so have we.
_quiet = logging.getLogger("websockets.server")

_TEXT = 0x81  # FIN and opcode 1
_MASKED = 0x80


class LaneProtocol(WebSocketsSansIOProtocol, Lane):
    """A Lane to itself. Pings are the session's business: uvicorn's must be off."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn.logger = _quiet
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

    def upgrade(self, target: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Begin with an upgrade request that is parsed already: its target and headers."""
        fields = Headers()
        for name, value in headers:
            fields[name.decode("ascii")] = value.decode("latin-1")
        # What is left of the parser is the part for frames.
        self.conn.parser = Protocol.parse(self.conn)
        next(self.conn.parser)
        self.handle_connect(Request(target, fields))

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:  # not refused; the application runs in the next turn
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[EXTENSION] = {"lane": self}

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
            payload = apply_mask(data[start + size : stop], data[start + size - 4 : start + size])
            try:
                text = payload.decode()
            except UnicodeDecodeError:
                break
            receive(text)
            start = stop
        return start

    def send_receive_event_to_app(self) -> None:
        if self._receive is None:
            super().send_receive_event_to_app()
            return
        data = b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        if self.curr_msg_data_type == "bytes":
            self._receive(data)
            return
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self._fail(1007, "text is not UTF-8")
        else:
            self._receive(text)

    def _fail(self, code: int, reason: str) -> None:
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
            self._clogged(False)

    def connection_lost(self, exc: Exception | None) -> None:
        received = self.conn.close_rcvd
        code = 1006 if received is None else received.code
        if self.handshake_complete and received is None:
            # uvicorn reports 1005 here, which stands for a close frame without a code: a goodbye.
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        super().connection_lost(exc)
        self._end(code)
