"""The least a server can do: what comes in on the first connection goes out on all, unread.

The Python load generator measures itself against it. One process, one thread, blocking sockets;
it ends with its first connection.
"""

import os
import socket
import sys
from contextlib import suppress

from entrypoints.bench.client_frames import ACCEPT

_HANDSHAKE = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n\r\n" % ACCEPT
)
_TEXT, _CLOSE = 0x81, 0x88
_HEAD = 6  # bytes before the payload of a short masked frame
_DEADLINE = 30.0  # seconds without a sound


def main(connections: int) -> None:
    """Print the port, take that many connections, and serve them."""
    if hasattr(os, "sched_setaffinity"):
        # The generator has a core of its own, and must not share it with this.
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    listening = socket.create_server(("127.0.0.1", 0), backlog=connections)
    listening.settimeout(_DEADLINE)
    print(listening.getsockname()[1], flush=True)  # noqa: T201
    members = [_welcome(listening.accept()[0]) for _ in range(connections)]
    rest = b""
    over = False
    while not over and (data := members[0].recv(1 << 16)):
        frames, rest, over = _answers(rest + data)
        if frames:
            for member in members:
                member.sendall(frames)


def _welcome(member: socket.socket) -> socket.socket:
    member.settimeout(_DEADLINE)
    member.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        request += member.recv(1 << 12)
    member.sendall(_HANDSHAKE)
    return member


def _answers(data: bytes) -> tuple[bytes, bytes, bool]:
    """The text frames in it as a server sends them, what is left over, and whether it closes."""
    frames, at, over = [], 0, False
    while len(data) - at >= _HEAD and len(data) - at >= (end := _HEAD + (data[at + 1] & 127)):
        mask, payload = data[at + 2 : at + _HEAD], data[at + _HEAD : at + end]
        if data[at] == _TEXT:
            size = len(payload)
            key = (mask * (size // 4 + 1))[:size]
            text = (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)
            frames.append(bytes((_TEXT, size)) + text)
        over = over or data[at] == _CLOSE
        at += end
    return b"".join(frames), data[at:], over


if __name__ == "__main__":
    # Whoever asked may be gone; then there is nothing left to do.
    with suppress(OSError):
        main(int(sys.argv[1]))
