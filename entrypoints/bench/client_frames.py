"""WebSocket frames as a client reads and writes them, for the Python load generator."""

from collections.abc import Iterator
from secrets import token_bytes

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
# The handshake with this key has this answer: nobody is kept out by it, so it need not vary.
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

_SHORT = 126  # sizes from here on stand in 2 bytes of their own, 8 with one more


def upgrade(path: str, host: str, authorization: str | None) -> bytes:
    """The request for a WebSocket."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
    ]
    if authorization is not None:
        lines.append(f"Authorization: {authorization}")
    return "\r\n".join([*lines, "", ""]).encode()


def upgraded(head: bytes) -> bool:
    """Whether the answer (up to its empty line) grants it."""
    return head.startswith(b"HTTP/1.1 101") and ACCEPT in head


def masked(opcode: int, payload: bytes) -> bytes:
    """A frame as a client must send it. Payloads are under 64 KiB."""
    size = len(payload)
    head = bytes((0x80 | opcode, 0x80 | min(size, _SHORT)))
    if size >= _SHORT:
        head += size.to_bytes(2)
    mask = token_bytes(4)
    key = (mask * (size // 4 + 1))[:size]
    body = (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)
    return head + mask + body


class FrameReader:
    """Cuts what arrives into frames."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Opcode and payload of every frame that is complete. Must be read to its end."""
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        while end - at >= 2:
            start, size = at + 2, data[at + 1] & 127
            if size >= _SHORT:
                start += 2 if size == _SHORT else 8
                size = int.from_bytes(data[at + 2 : start])
                if end < start:
                    break
            if end < start + size:
                break
            opcode = data[at] & 15
            at = start + size
            yield opcode, data[start:at]
        self._rest = data[at:]
