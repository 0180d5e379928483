"""A WebSocket connection that costs little: hundreds of them fit into one loop.

It does what a client has to do by itself (answering pings, closing) and hands over the frames of
protocol v1, decoded. No library's machinery for each message, which would take the processor that
the servers need.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import msgspec

from tests.wire import request

Frame = dict[str, Any]
OPEN_DEADLINE = 10.0  # seconds
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_NO_MASK = bytes(4)  # a mask like any other; loopback has no proxies to protect
_ENDED = 1006

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class Refused(Exception):
    """The handshake was answered with this HTTP status."""

    def __init__(self, status: int, retry_after: float) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.retry_after = retry_after


class Connection(asyncio.Protocol):
    """Made by `open`. `received` gets every frame; `ended` the close code, once."""

    def __init__(self, received: Callable[[Frame], None], ended: Callable[[int], None]) -> None:
        self._received = received
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self.heard_at = self._loop.time()
        self._rest = b""
        self._code = _ENDED
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(
        cls,
        port: int,
        path: str,
        received: Callable[[Frame], None],
        ended: Callable[[int], None],
        receive_buffer: int | None = None,
    ) -> "Connection":
        """Raises OSError, Refused and TimeoutError; `ended` is not called then."""
        loop = asyncio.get_running_loop()
        line = socket.socket()
        line.setblocking(False)
        if receive_buffer is not None:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection = cls(received, ended)
        try:
            async with asyncio.timeout(OPEN_DEADLINE):
                await loop.sock_connect(line, ("127.0.0.1", port))
                await loop.create_connection(lambda: connection, sock=line)
                connection._write(request(path))
                await connection._opened
        except BaseException:
            connection._opened.cancel()
            connection.vanish()
            if connection._transport is None:
                line.close()
            raise
        return connection

    def send(self, frame: Frame) -> None:
        """Without effect when the connection is over."""
        self._frame(_TEXT, _encode(frame))

    def send_text(self, text: bytes) -> None:
        """The same for what is no frame."""
        self._frame(_TEXT, text)

    def vanish(self) -> None:
        """Be gone without a goodbye, with a reset."""
        if self._transport is not None:
            line: socket.socket = self._transport.get_extra_info("socket")
            with suppress(OSError):  # it is over already
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def close(self) -> None:
        """Say goodbye."""
        self._frame(_CLOSE, struct.pack("!H", 1000))

    def stop_reading(self) -> None:
        """Neither read nor answer."""
        if self._transport is not None:
            self._transport.pause_reading()

    def read_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _frame(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = bytes((0x80 | opcode, 0x80 | size))
        elif size < 65_536:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
        self._write(head + _NO_MASK + payload)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        data = self._rest + data
        if not self._opened.done():
            head, mark, data = data.partition(b"\r\n\r\n")
            if not mark:
                self._rest = head
                return
            self._answered(head)
        at = 0
        while (frame := _frame_at(data, at)) is not None:
            opcode, start, at = frame
            self._take(opcode, data[start:at])
        self._rest = data[at:]

    def _answered(self, head: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        if status == 101:
            self._opened.set_result(None)
            return
        fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        self._opened.set_exception(Refused(status, float(fields.get("retry-after", "0"))))
        self._drop()

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == _TEXT:
            self._received(_decode(payload))
        elif opcode == _PING:
            self._frame(_PONG, payload)
        elif opcode == _CLOSE:
            self._code = int.from_bytes(payload[:2], "big") if payload else 1005
            self._frame(_CLOSE, payload[:2])
            self._drop()

    def _drop(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._opened.done():
            self._opened.set_exception(exc or ConnectionResetError("ended in the handshake"))
        elif not self._opened.cancelled() and self._opened.exception() is None:
            self._ended(self._code)


def _frame_at(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Opcode, start and end of the payload of a whole frame of a server, which masks nothing and
    fragments nothing."""
    if len(data) < at + 2:
        return None
    length, start = data[at + 1], at + 2
    if length >= 126:
        start = at + (4 if length == 126 else 10)
        if len(data) < start:
            return None
        length = int.from_bytes(data[at + 2 : start], "big")
    end = start + length
    return None if len(data) < end else (data[at] & 0x0F, start, end)
