"""uvicorn's WebSocket protocol class, opened up for the fast lane.

Handed to uvicorn as `ws=`. Once a transport has diverted the connection, frames go to it directly,
without a queue or a task switch. Short whole text frames, which is nearly all of them, are taken
apart here; the rest is `uvicorn_frames`.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from websockets.exceptions import InvalidState
from websockets.protocol import State
from websockets.speedups import apply_mask

from adapters.transport.compression import negotiate
from adapters.transport.handshake import Headers, offered_subprotocols, switching
from adapters.transport.lane import Lane
from adapters.transport.uvicorn_frames import BoundedProtocol
from application.ports.transport import Receive

EXTENSION = "hubbub.lane"
"""Where the lane is found in `scope["extensions"]`, as `{"lane": Lane}`."""

_SOCKETS_ARE_NO_FILES = os.name == "nt"  # their numbers may be those of files there
_TEXT = 0x81  # FIN and opcode 1
_MASKED = 0x80


class LaneProtocol(BoundedProtocol, Lane):
    """A Lane to itself. Pings are the session's business: uvicorn's must be off."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._accept = b""
        self._greeting = b""  # the answer to the upgrade, until it is written
        self._agreed: bytes | None = None  # extensions
        self._clogged: Callable[[bool], None] | None = None
        self._heard = False
        self._waited = 0  # bytes that were buffered when somebody last asked for life

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
        if self.conn.state is not State.OPEN or self.is_closing():
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
        while not self.queue.empty():
            event: Any = self.queue.get_nowait()
            if event["type"] == "websocket.receive":
                receive(event["text"] if event.get("text") is not None else event["bytes"])
            elif event["type"] == "websocket.disconnect":
                self._end(event.get("code") or 1005)
        self._receive = receive
        self._take_held()
        return self._over

    # The handshake

    def take_over(
        self,
        transport: asyncio.Transport,
        server: tuple[str, int | None] | None,
        client: tuple[str, int] | None,
        secure: bool,
    ) -> None:
        """In place of `connection_made`: go on with a connection of which everything is known."""
        self.connections.add(self)
        self.transport = transport
        self.server = server
        self.client = client
        self.scheme = "wss" if secure else "ws"

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
            self._greet()
            await super().send(message)
            if message["type"] == "websocket.http.response.body" and self.close_sent:
                self.handshake_complete = True  # or uvicorn logs the refusal as an error of ours
        elif not self.transport.is_closing():
            self.handshake_complete = True
            self.conn.state = State.OPEN
            self._greeting = switching(self._accept, message.get("subprotocol"), self._agreed)
            # With what is said right away, which is written in the next turn of the loop, or else
            # in the one after that: a system call less where many come at once.
            self.loop.call_soon(self.loop.call_soon, self._greet)
            self._take_held()

    def _greet(self) -> None:
        if self._greeting:
            self.write(b"")

    def write(self, frames: bytes) -> None:
        greeting, self._greeting = self._greeting, b""
        super().write(greeting + frames)
        if greeting:
            self._tell_clogged(self.is_closing() or self.buffered > 0)

    async def receive(self) -> Any:
        event = await super().receive()
        self._take_held()
        return event

    # What the peer sends

    def data_received(self, data: bytes) -> None:
        self._heard = True
        if self._receive is not None and self.conn.reader.between_frames and not self._held:
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
            if self._holding is not None:
                break
        return start

    # The end

    def _hang_up(self, code: int) -> None:
        super()._hang_up(code)
        self._tell_clogged(True)

    def shutdown(self) -> None:
        self._greet()
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
