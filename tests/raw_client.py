"""A WebSocket client that only does what a test tells it to: it does not read by itself."""

import asyncio
import json
import socket

from websockets.frames import Opcode

from tests.peer import DEADLINE
from tests.wire import request, server_frames, text


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
        async with asyncio.timeout(DEADLINE):
            await client._loop.sock_connect(connection, ("127.0.0.1", port))
            await client._loop.sock_sendall(connection, request(path))
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):  # byte by byte: what follows stays unread
                answer += await client._loop.sock_recv(connection, 1)
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        return client

    async def send(self, *frames: object) -> None:
        async with asyncio.timeout(DEADLINE):
            for frame in frames:
                await self._loop.sock_sendall(self._socket, text(json.dumps(frame)))

    async def takes(self, *frames: object) -> bool:
        """Send, and tell whether the server went on reading."""
        try:
            async with asyncio.timeout(0.5):
                await self.send(*frames)
        except TimeoutError:
            return False
        return True

    async def read(self, most: int) -> bytes:
        """What has come, so many bytes at most; nothing once the connection is over."""
        async with asyncio.timeout(DEADLINE):
            try:
                return await self._loop.sock_recv(self._socket, most)
            except ConnectionError:
                return b""

    async def read_to_the_close(self) -> list[tuple[int, bytes]]:
        """Opcode and payload of all frames the server still has for us, a close frame last."""
        received = bytearray()
        async with asyncio.timeout(DEADLINE):
            while True:
                part = await self.read(65_536)
                assert part, "the end without a close frame"
                received += part
                frames = [(opcode, payload) for opcode, payload, _ in server_frames(received)]
                if frames and frames[-1][0] == Opcode.CLOSE:
                    return frames

    def close(self) -> None:
        self._socket.close()
