"""What connections and rooms cost in memory, on a node and in Redis.

    python -m tests.benchmarks.memory

Starts a Redis and a node, and does one thing after the other: connections that do nothing, rooms
with one member, messages in those rooms, everybody out of them. Prints after each how many bytes
more there are than before, for each of them.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import psutil

from tests.peer import Peer
from tests.redis_server import RedisServer
from tests.server_process import ServerProcess

AT_ONCE = 50
SETTLING = 3.0  # seconds in which a node does what it has put off
UNLIMITED = {
    "HUBBUB_LIMITS__MESSAGES_PER_SECOND": "0",
    "HUBBUB_LIMITS__COMMANDS_PER_SECOND": "0",
    "HUBBUB_LIMITS__ROOMS_PER_CONNECTION": "1000000",
    "HUBBUB_LIMITS__CONNECTIONS_PER_USER": "1000000",
}


class Step(NamedTuple):
    """Bytes that one more of something took."""

    what: str
    number: int
    node: float
    redis: float

    def row(self) -> str:
        return f"| {self.what} | {self.number:,} | {self.node:,.0f} | {self.redis:,.0f} |"


class Scales:
    """What a node and its Redis hold."""

    def __init__(self, node: ServerProcess, redis: RedisServer) -> None:
        self._process = psutil.Process(node.pid)
        self._redis = redis

    def read(self) -> tuple[int, int]:
        used: Any = self._redis.command("INFO", "memory")
        return int(self._process.memory_info().rss), int(used["used_memory"])

    async def weigh(self, what: str, count: int, doing: Callable[[], Awaitable[None]]) -> Step:
        before = self.read()
        await doing()
        await asyncio.sleep(SETTLING)
        node, redis = (now - then for now, then in zip(self.read(), before, strict=True))
        return Step(what, count, node / count, redis / count)


async def in_turns(count: int, act: Callable[[int], Awaitable[object]]) -> None:
    """Do something for each number, so many at a time."""
    for start in range(0, count, AT_ONCE):
        await asyncio.gather(*(act(number) for number in range(start, min(start + AT_ONCE, count))))


async def measure(connections: int, rooms: int, messages: int, size: int) -> list[Step]:
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        folder = Path(stack.enter_context(TemporaryDirectory()))
        where = {"HUBBUB_BACKEND": "redis", "HUBBUB_REDIS_URL": redis.url, **UNLIMITED}
        node = await ServerProcess.start(folder, environ=where)
        stack.push_async_callback(node.stop)
        peers: list[Peer] = []

        async def connect(number: int) -> None:
            peer = await Peer.connect(f"{node.ws_url}/v1/ws?user=user-{len(peers)}-{number}")
            await peer.expect("connected")
            await peer.expect("joined")
            peers.append(peer)

        async def close_all() -> None:
            await asyncio.gather(*(peer.close() for peer in peers))

        stack.push_async_callback(close_all)
        await connect(-1)
        member, data = peers[0], "x" * size

        async def each_room(kind: str, of: int = rooms, **fields: object) -> None:
            for number in range(of):
                answer = await member.ask(kind, room=f"room-{number}", **fields)
                assert answer["type"] != "error", answer

        async def publish() -> None:
            for _ in range(messages):
                await each_room("publish", data=data, echo=False)

        await in_turns(AT_ONCE, connect)  # what only the first ones cost
        for kind in ("join", "publish", "leave"):
            await each_room(kind, AT_ONCE, **({"data": data} if kind == "publish" else {}))
        await asyncio.sleep(SETTLING)
        scales = Scales(node, redis)
        said = messages * rooms
        return [
            await scales.weigh("connection", connections, lambda: in_turns(connections, connect)),
            await scales.weigh("room with a member", rooms, lambda: each_room("join")),
            await scales.weigh(f"message of {size + 2} bytes", said, publish),
            await scales.weigh("room that its member left", rooms, lambda: each_room("leave")),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.memory", description=__doc__)
    parser.add_argument("--connections", type=int, default=1000, metavar="N")
    parser.add_argument("--rooms", type=int, default=5000, metavar="N")
    parser.add_argument("--messages", type=int, default=10, metavar="N", help="in each room")
    parser.add_argument("--size", type=int, default=98, metavar="BYTES", help="of a message")
    wish = parser.parse_args()
    steps = asyncio.run(measure(wish.connections, wish.rooms, wish.messages, wish.size))
    lines = [
        "| one more | of them | bytes on the node | bytes in Redis |",
        "|---|---:|---:|---:|",
        *(step.row() for step in steps),
        "",
        "Resident memory of the node, which is not always given back; used memory of Redis.",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
