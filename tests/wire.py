"""A peer that speaks in bytes: what a library would never send, and exactly when."""

import asyncio
import base64
import socket
import ssl
import struct
from collections.abc import Iterator

from websockets.frames import Close, Frame, Opcode

from tests.peer import DEADLINE

KEY = base64.b64encode(b"sixteen bytes ok")
HANDSHAKE = {
    "Host": "127.0.0.1",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY.decode(),
}
NO_HANDSHAKES: list[dict[str, str]] = [
    {"version": "1.0"},
    {"method": "POST"},
    {"Sec_WebSocket_Key": ""},
    {"Sec_WebSocket_Key": "c2hvcnQ="},
    {"Sec_WebSocket_Key": "x" * 24},
    {"Sec_WebSocket_Key": KEY.decode() + "AAAA"},
    {"Sec_WebSocket_Version": "12"},
    {"Sec_WebSocket_Version": "8"},
    {"Sec_WebSocket_Version": ""},
    {"Sec_WebSocket_Version": "13, 8"},
    {"Content_Length": "5"},
    {"Transfer_Encoding": "chunked"},
]
"""What makes a `request` one that must be refused."""


def request(
    path: str, *more: str, method: str = "GET", version: str = "1.1", **changed: str
) -> bytes:
    """An upgrade request. `changed` replaces headers, by names with _ for -, or with an empty text
    takes them out; `more` are further lines."""
    headers = {**HANDSHAKE, **{name.replace("_", "-"): value for name, value in changed.items()}}
    lines = [f"{name}: {value}" for name, value in headers.items() if value]
    return "\r\n".join([f"{method} {path} HTTP/{version}", *lines, *more, "", ""]).encode()


def masked(opcode: Opcode, data: bytes = b"", *, fin: bool = True, rsv1: bool = False) -> bytes:
    """A frame from a client. Not checked: what is wrong is written as it is."""
    frame = Frame(opcode, data, fin, rsv1)
    frame.check = lambda: None  # type: ignore[method-assign]
    return frame.serialize(mask=True)


def text(data: str | bytes, *, fin: bool = True) -> bytes:
    return masked(Opcode.TEXT, data.encode() if isinstance(data, str) else data, fin=fin)


def close(code: int | None = 1000) -> bytes:
    return masked(Opcode.CLOSE, b"" if code is None else Close(code, "").serialize())


class Wire:
    """One TCP connection, over TLS if asked for. Reads only when told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._received = bytearray()
        self.was_reset = False  # rather than closed

    @classmethod
    async def connect(
        cls, port: int, *, receive_buffer: int | None = None, tls: ssl.SSLContext | None = None
    ) -> "Wire":
        """`receive_buffer`: bytes the kernel takes for a peer that does not read. With it the
        kernel also holds less of what is sent."""
        connection = socket.socket()
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        connection.setblocking(False)
        async with asyncio.timeout(DEADLINE):
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
            reader, writer = await asyncio.open_connection(
                sock=connection,
                limit=1024,  # the reader stops soon as well
                ssl=tls,
                server_hostname="127.0.0.1" if tls else None,
            )
        return cls(reader, writer)

    @classmethod
    async def upgraded(
        cls,
        port: int,
        path: str = "/",
        *,
        receive_buffer: int | None = None,
        tls: ssl.SSLContext | None = None,
        **changed: str,
    ) -> "Wire":
        """Past the handshake."""
        wire = await cls.connect(port, receive_buffer=receive_buffer, tls=tls)
        wire.send(request(path, **changed))
        head = await wire.head()
        assert head.startswith(b"HTTP/1.1 101 "), head
        return wire

    # Sending

    def send(self, *parts: bytes) -> None:
        """Hand bytes over, all in one go; `sent` waits for the kernel."""
        self._writer.write(b"".join(parts))

    async def sent(self, *parts: bytes) -> None:
        self.send(*parts)
        async with asyncio.timeout(DEADLINE):
            await self._writer.drain()

    async def piecemeal(self, data: bytes, size: int = 1) -> None:
        """Send in segments of so many bytes."""
        connection: socket.socket = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), size):
            await self.sent(data[start : start + size])
            await asyncio.sleep(0)

    async def takes(self, data: bytes, within: float = 0.5) -> bool:
        """Send, and tell whether the server reads on."""
        self._writer.transport.set_write_buffer_limits(high=0)
        self.send(data)
        try:
            async with asyncio.timeout(within):
                await self._writer.drain()
        except (TimeoutError, ConnectionError):
            return False
        return True

    # Receiving

    async def head(self) -> bytes:
        """Status line and headers of an answer; what follows stays unread."""
        return await self.until(b"\r\n\r\n")

    async def exactly(self, size: int) -> bytes:
        """The next so many bytes."""
        while len(self._received) < size:
            assert await self._read(), bytes(self._received)
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    async def until(self, mark: bytes) -> bytes:
        """What comes up to and with these bytes."""
        while (end := self._received.find(mark)) < 0:
            assert await self._read(), bytes(self._received)
        taken = bytes(self._received[: end + len(mark)])
        del self._received[: end + len(mark)]
        return taken

    async def frames(self, count: int = 1) -> list[tuple[int, bytes]]:
        """Opcode and payload of the next frames; opcodes with their upper bits as they came, the
        one that says it is whole apart."""
        while len(found := list(server_frames(self._received))) < count:
            assert await self._read(), bytes(self._received)
        del self._received[: found[count - 1][2]]
        return [(opcode, data) for opcode, data, _ in found[:count]]

    async def text(self) -> str:
        """The next frame, which must be a text."""
        ((opcode, data),) = await self.frames()
        assert opcode == Opcode.TEXT, (opcode, data)
        return data.decode()

    async def rest(self) -> bytes:
        """Everything until the end, whether that is orderly or a reset; then close as well."""
        while await self._read():
            pass
        self._writer.close()
        taken = bytes(self._received)
        self._received.clear()
        return taken

    async def ending(self) -> tuple[list[tuple[int, bytes]], int | None]:
        """The frames until the end, and the code of the close frame, the last of them; None when
        there is none, 1005 when it has none."""
        found = [(opcode, data) for opcode, data, _ in server_frames(await self.rest())]
        if not found or found[-1][0] != Opcode.CLOSE:
            return found, None
        *found, (_, data) = found
        return found, int.from_bytes(data[:2], "big") if data else 1005

    async def closed(self) -> int | None:
        """The code of the close, which must be the next thing to come."""
        found, code = await self.ending()
        assert not found, found
        return code

    async def _read(self) -> bool:
        try:
            async with asyncio.timeout(DEADLINE):
                part = await self._reader.read(65_536)
        except ConnectionError:
            self.was_reset = True
            return False
        self._received += part
        return bool(part)

    # The end

    def half_close(self) -> None:
        """Say that nothing more will come, and go on reading."""
        self._writer.write_eof()

    def reset(self) -> None:
        """Be gone, as by a crash."""
        connection: socket.socket = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def shut(self) -> None:
        self._writer.transport.abort()
        try:
            await self._writer.wait_closed()
        except OSError:
            return  # it was gone before


def server_frames(received: bytes | bytearray) -> Iterator[tuple[int, bytes, int]]:
    """First byte without FIN, payload and end of each server frame that is complete."""
    start = 0
    while start + 2 <= len(received):
        length, size = received[start + 1], 2
        if length >= 126:
            size = 4 if length == 126 else 10
            length = int.from_bytes(received[start + 2 : start + size], "big")
        stop = start + size + length
        if stop > len(received):
            return
        assert received[start] & 0x80, "the server never sends fragments"
        yield received[start] & 0x7F, bytes(received[start + size : stop]), stop
        start = stop
