"""A WebSocket client that only does what a test tells it to: it does not read by itself."""

import asyncio
import base64
import json
import socket
from collections.abc import Iterator

from websockets.frames import Frame, Opcode

_DEADLINE = 20.0


class RawClient:
    """A bare socket past the handshake. Close it at the end."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def connect(cls, port: int, path: str, receive_buffer: int = 4096) -> "RawClient":
        """`receive_buffer` is what the kernel takes for a client that does not read."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.setblocking(False)
        client = cls(connection)
        async with asyncio.timeout(_DEADLINE):
            await client._loop.sock_connect(connection, ("127.0.0.1", port))
            await client._loop.sock_sendall(connection, _request(path))
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):  # byte by byte: what follows stays unread
                answer += await client._loop.sock_recv(connection, 1)
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        return client

    async def send(self, *frames: object) -> None:
        async with asyncio.timeout(_DEADLINE):
            for frame in frames:
                text = Frame(Opcode.TEXT, json.dumps(frame).encode()).serialize(mask=True)
                await self._loop.sock_sendall(self._socket, text)

    async def takes(self, *frames: object) -> bool:
        """Send, and tell whether the server went on reading."""
        try:
            async with asyncio.timeout(0.5):
                await self.send(*frames)
        except TimeoutError:
            return False
        return True

    async def read_to_the_close(self) -> list[tuple[int, bytes]]:
        """Opcode and payload of all frames the server still has for us, a close frame last."""
        received = bytearray()
        async with asyncio.timeout(_DEADLINE):
            while True:
                part = await self._loop.sock_recv(self._socket, 65_536)
                assert part, "the end without a close frame"
                received += part
                frames = list(_frames(bytes(received)))
                if frames and frames[-1][0] == Opcode.CLOSE:
                    return frames

    def close(self) -> None:
        self._socket.close()


def _request(path: str) -> bytes:
    key = base64.b64encode(b"sixteen bytes ok").decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()


def _frames(received: bytes) -> Iterator[tuple[int, bytes]]:
    """Opcode and payload of each server frame that is complete."""
    start = 0
    while start + 2 <= len(received):
        opcode, length, size = received[start] & 0x0F, received[start + 1], 2
        if length >= 126:
            size = 4 if length == 126 else 10
            length = int.from_bytes(received[start + 2 : start + size], "big")
        stop = start + size + length
        if stop > len(received):
            return
        yield opcode, received[start + size : stop]
        start = stop
