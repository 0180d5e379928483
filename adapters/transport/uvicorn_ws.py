"""The WebSocket protocol class of our server.

Handed to uvicorn as `ws=`. Once a transport has diverted the connection, frames go to it directly,
without a queue or a task switch. Short whole text frames, which is nearly all of them, are taken
apart here; the rest is `uvicorn_frames`.
"""

import asyncio
import os
from collections.abc import Callable

from websockets.speedups import apply_mask

from adapters.transport.lane import Lane
from adapters.transport.uvicorn_asgi import AsgiProtocol, Upgrade
from adapters.transport.uvicorn_frames import Event
from application.ports.transport import Receive

EXTENSION = "hubbub.lane"
"""Where the lane is found in `scope["extensions"]`, as `{"lane": Lane}`."""

_SOCKETS_ARE_NO_FILES = os.name == "nt"  # their numbers may be those of files there
_TEXT = 0x81  # FIN and opcode 1
_MASKED = 0x80
_PING, _PONG = b"\x89\x00", b"\x8a\x80"  # ours, and the answer to it but for its mask
_NO_EVENTS: asyncio.Queue[Event] = asyncio.Queue()


class LaneProtocol(AsgiProtocol, Lane):
    """A Lane to itself. Pings are the session's business."""

    _clogged: Callable[[bool], None] | None = None
    _heard = False
    _waited = 0  # bytes that were buffered when somebody last asked for life

    # Lane

    @property
    def compressed(self) -> bool:
        return self._agreed is not None

    def socket_fd(self) -> int | None:
        if _SOCKETS_ARE_NO_FILES or self.transport.get_extra_info("ssl_object") is not None:
            return None
        socket = self.transport.get_extra_info("socket")
        return None if socket is None else int(socket.fileno())

    def send_ping(self) -> bool:
        if self.close_sent or self.is_closing():
            return False
        self.write(_PING)
        return True

    def heard(self) -> bool:
        # Reading is paused while output waits, so then taking some of it is the sign of life.
        # Where nothing waited, the kernel takes bytes for a peer that is long gone.
        waited, self._waited = self._waited, self.buffered
        written, self._written = self._written, 0
        taken = bool(waited) and waited + written > self._waited
        heard, self._heard = self._heard or taken, False
        return heard

    def watch(self, clogged: Callable[[bool], None]) -> None:
        self._clogged = clogged
        if self.is_closing():
            clogged(True)
            return
        # Told at the first byte the kernel does not take: until then nothing is in a buffer. TLS
        # counts a buffer as full that reaches the limit, not one that is above it.
        tls = self.transport.get_extra_info("ssl_object") is not None
        self.transport.set_write_buffer_limits(high=int(tls), low=0)
        if self.buffered or self._greeting:
            clogged(True)  # so that what comes first is written here

    def divert(self, receive: Receive) -> "asyncio.Future[int]":
        self._over = self.loop.create_future()
        # One for all from here on: an empty queue is heavy for a connection that does nothing.
        events, self.events = self.events, _NO_EVENTS
        while not events.empty():
            event = events.get_nowait()
            if event["type"] == "websocket.disconnect":
                self._end(event["code"])
            else:
                receive(event["text"] if "text" in event else event["bytes"])
        self._receive = receive
        self._take_held()
        return self._over

    # The handshake

    def scope(self, upgrade: Upgrade) -> Event:
        scope = super().scope(upgrade)
        scope["extensions"][EXTENSION] = {"lane": self}
        return scope

    def write(self, frames: bytes) -> None:
        greets = bool(self._greeting)
        super().write(frames)
        if greets:
            self._tell_clogged(self.is_closing() or self.buffered > 0)

    # What the peer sends

    def data_received(self, data: bytes) -> None:
        self._heard = True
        frames = self._frames
        between_messages = frames is None or frames.between_messages
        if between_messages and self._receive is not None and not self._held:
            taken = self._take_whole_frames(data, self._receive)
            if taken == len(data):
                return
            data = data[taken:]
        self._take(data)

    def _take_whole_frames(self, data: bytes, receive: Receive) -> int:
        """Take the unfragmented texts and the answers to pings that `data` begins with, in as far
        as they are complete. Returns the bytes used; what follows is for the sans-I/O protocol."""
        start, end = 0, len(data)
        while end - start >= 6 and not self.close_sent and self._holding is None:
            if data.startswith(_PONG, start):
                self._count_control()
                start += 6
                continue
            length, size = data[start + 1] - _MASKED, 6
            if length == 126:
                length, size = int.from_bytes(data[start + 2 : start + 4], "big"), 8
            stop = start + size + length
            if data[start] != _TEXT or length < 0 or length == 127 or stop > end:
                break
            if length > self._frame_limit:
                break
            payload = apply_mask(data[start + size : stop], data[start + size - 4 : start + size])
            try:
                text = payload.decode()
            except UnicodeDecodeError:
                break
            receive(text)
            start = stop
        return start

    # The end

    def _hang_up(self, code: int) -> None:
        super()._hang_up(code)
        self._tell_clogged(True)

    def shutdown(self) -> None:
        super().shutdown()
        self._tell_clogged(True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tell_clogged(True)  # before the descriptor is another's
        super().connection_lost(exc)

    # Flow control

    def pause_writing(self) -> None:
        super().pause_writing()
        self._tell_clogged(True)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._receive is not None:
            self._resume_reading()
        self._tell_clogged(self.is_closing())

    def _tell_clogged(self, clogged: bool) -> None:
        if self._clogged is not None:
            self._clogged(clogged)
