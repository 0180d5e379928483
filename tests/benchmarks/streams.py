"""What a reader of an event stream costs beside a member on a WebSocket.

    python -m tests.benchmarks.streams

Starts a server with that many readers in one room, publishes with so many messages on the way, and
prints the server's processor time for each message that arrived at a reader. Kinds of readers take
turns, each with a server of its own, so that what a busy or hot machine does to one it does to all.
"""

import argparse
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from entrypoints.bench.client_frames import TEXT, masked, upgrade
from entrypoints.bench.costs import cpu_seconds
from entrypoints.bench.processes import ended_by_signals, local_server, two_cores
from entrypoints.cli_serve import raise_file_limit

_ROOM = "bench"
_MARK = b"^"  # once in every message, and nowhere else in what a server sends
_TEXT = "^" + "x" * 56
_PUBLISH = f'{{"type":"publish","room":"{_ROOM}","data":"{_TEXT}"}}'.encode()
_SPARE_FILES = 50
_PATIENCE = 20.0  # seconds without news
_CHUNK = 1 << 18


class Readers(NamedTuple):
    """A kind of them. `open` connects number n at a port and is done once it is in the room."""

    name: str
    open: Callable[[int, int], socket.socket]


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), _PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _hear(connection: socket.socket, *marks: bytes) -> None:
    """Read until all of these have come."""
    heard = b""
    while not all(mark in heard for mark in marks):
        more = connection.recv(_CHUNK)
        if not more:
            raise ConnectionError(f"the server said no more than {heard!r}")
        heard += more


def _socket(port: int, user: str) -> socket.socket:
    connection = _connect(port)
    connection.sendall(upgrade(f"/v1/ws?user={user}", "127.0.0.1", None))
    _hear(connection, b'"joined"')  # its personal room
    return connection


def _member(port: int, number: int) -> socket.socket:
    connection = _socket(port, f"member-{number}")
    connection.sendall(masked(TEXT, f'{{"type":"join","room":"{_ROOM}"}}'.encode()))
    _hear(connection, f'"joined","room":"{_ROOM}"'.encode())
    return connection


def _reader(port: int, number: int) -> socket.socket:
    connection = _connect(port)
    head = f"GET /v1/events?room={_ROOM}&user=reader-{number} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    connection.sendall(head.encode())
    _hear(connection, b"event: joined\n")
    return connection


KINDS = (Readers("WebSocket", _member), Readers("event stream", _reader))


class Cost(NamedTuple):
    """Microseconds of the server's processor time for a delivery, and deliveries a second."""

    cpu: float
    speed: float


class _Crowd:
    """All readers of a room, and who publishes."""

    def __init__(self, publisher: socket.socket, readers: list[socket.socket]) -> None:
        self._publisher = publisher
        self._size = len(readers)
        self._sockets = {each.fileno(): each for each in (publisher, *readers)}
        self._poll = select.epoll()
        for number, connection in self._sockets.items():
            connection.setblocking(False)
            self._poll.register(number, select.EPOLLIN)
        self._sent = 0
        self.delivered = 0

    def publish_for(self, seconds: float, window: int) -> None:
        """With so many messages on the way, until the last of them is everywhere."""
        until = time.monotonic() + seconds
        while True:
            going_on = time.monotonic() < until
            while going_on and self._sent - self.delivered // self._size < window:
                self._publisher.sendall(masked(TEXT, _PUBLISH))
                self._sent += 1
            if not going_on and self.delivered == self._sent * self._size:
                return
            self._take()

    def _take(self) -> None:
        ready = self._poll.poll(_PATIENCE)
        if not ready:
            missing = self._sent * self._size - self.delivered
            raise ConnectionError(f"{missing} deliveries have not come")
        publisher = self._publisher.fileno()
        for number, _ in ready:
            data = self._sockets[number].recv(_CHUNK)
            if not data:
                raise ConnectionError("the server ended a connection")
            if number != publisher:
                self.delivered += data.count(_MARK)


@contextmanager
def _crowd(port: int, kind: Readers, size: int) -> Iterator[_Crowd]:
    with ExitStack() as connections:
        publisher = connections.enter_context(_socket(port, "publisher"))
        readers = [connections.enter_context(kind.open(port, number)) for number in range(size)]
        yield _Crowd(publisher, readers)


def measure(kind: Readers, size: int, seconds: float, window: int, core: int | None) -> Cost:
    """With a server of its own."""
    with local_server(core, size + 1, 100) as server, _crowd(server.port, kind, size) as crowd:
        crowd.publish_for(seconds / 10, window)  # until everything has been seen once
        before, began, seen = cpu_seconds([server.pid]), time.monotonic(), crowd.delivered
        crowd.publish_for(seconds, window)
        took = time.monotonic() - began
        spent, count = cpu_seconds([server.pid]) - before, crowd.delivered - seen
        return Cost(1e6 * spent / count, count / took)


def _rows(runs: list[list[Cost]]) -> Iterator[str]:
    titles = [f"{kind.name} {unit}" for kind in KINDS for unit in ("µs", "deliveries/s")]
    yield f"| round | {' | '.join(titles)} | µs compared |"
    yield "|---:|" + "---:|" * (len(titles) + 1)
    for number, costs in enumerate(runs, 1):
        cells = [text for cost in costs for text in (f"{cost.cpu:.2f}", f"{cost.speed:,.0f}")]
        yield f"| {number} | {' | '.join(cells)} | {costs[1].cpu / costs[0].cpu:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.streams", description=__doc__)
    parser.add_argument("--readers", type=int, default=5_000, metavar="N")
    parser.add_argument("--seconds", type=float, default=4.0, metavar="S", help="of each run")
    parser.add_argument("--window", type=int, default=1, metavar="N", help="messages on the way")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    wish = parser.parse_args()
    raise_file_limit(wish.readers + _SPARE_FILES)
    cores = two_cores()
    if cores.load is not None:
        os.sched_setaffinity(0, {cores.load})
    runs = []
    with ended_by_signals():
        for _ in range(wish.rounds):
            costs = [
                measure(kind, wish.readers, wish.seconds, wish.window, cores.server)
                for kind in KINDS
            ]
            runs.append(costs)
    lines = [
        f"{wish.readers} readers in one room, {wish.window} on the way.",
        "",
        *_rows(runs),
        "",
        "Microseconds of the server's processor time for a message at one reader.",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
