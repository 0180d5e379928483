"""What a message costs on its way over Redis, from a client of one node to a client of another.

    python -m tests.benchmarks.nodes

Starts a Redis and two nodes, publishes at one of them and reads at the other, with one message in
flight and with many, and prints the processor time of each process for a message. Beside it stands
what redis-py takes for nothing but sending a message to that Redis and hearing it, in turn with
the nodes: the ratio says more than the microseconds where a machine is not its own.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import psutil
import redis.asyncio
from redis.asyncio.client import PubSub

from tests.peer import Peer
from tests.redis_server import RedisServer
from tests.server_process import ServerProcess

ROOM = "chat:global"
UNLIMITED = {
    "HUBBUB_LIMITS__MESSAGES_PER_SECOND": "0",
    "HUBBUB_LIMITS__COMMANDS_PER_SECOND": "0",
}

PIPELINE = 50  # calls of a script in one, for redis-py
_RECORD = b"x" * 150  # about as long as that of a message here
_FEED = "alone:feed"
_SCRIPT = """
local seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
redis.call('XADD', KEYS[2], 'MAXLEN', 1000, seq .. '-0', 'm', ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[1])
return {'OK', seq}
"""


def processor_time(pid: int) -> float:
    """Seconds, in user and kernel mode."""
    spent = psutil.Process(pid).cpu_times()
    return float(spent.user + spent.system)


async def ready(node: ServerProcess) -> Peer:
    """A client at a node whose Redis answers."""
    peer = await Peer.connect(node.ws_url + "/v1/ws")
    await peer.expect("connected")
    await peer.expect("joined")
    return peer


async def flow(publisher: Peer, reader: Peer, messages: int, window: int) -> None:
    """Publish and read them all, at most `window` in flight."""
    room_for_more = asyncio.Semaphore(window)
    frame = json.dumps({"type": "publish", "room": ROOM, "data": {"text": "x" * 21}})

    async def read() -> None:
        for _ in range(messages):
            await reader.receive_raw()
            room_for_more.release()

    async def acknowledged() -> None:
        for _ in range(messages):
            await publisher.receive_raw()

    reading = [asyncio.create_task(read()), asyncio.create_task(acknowledged())]
    for _ in range(messages):
        await room_for_more.acquire()
        await publisher.send_raw(frame)
    await asyncio.gather(*reading)


class Cost(NamedTuple):
    """Microseconds of processor time for a message, and how many there were in a second."""

    window: int
    publishing: float
    reading: float
    redis: float
    messages_per_second: float

    @property
    def nodes(self) -> float:
        return self.publishing + self.reading

    def row(self) -> str:
        times = (self.publishing, self.reading, self.nodes, self.redis)
        cells = [
            str(self.window),
            *(f"{us:.1f}" for us in times),
            f"{self.messages_per_second:,.0f}",
        ]
        return f"| {' | '.join(cells)} |"


async def cost(publisher: Peer, reader: Peer, pids: list[int], messages: int, window: int) -> Cost:
    before, started = [processor_time(pid) for pid in pids], time.monotonic()
    await flow(publisher, reader, messages, window)
    took = time.monotonic() - started
    here, there, redis = [
        1e6 * (processor_time(p) - b) / messages for p, b in zip(pids, before, strict=True)
    ]
    return Cost(window, here, there, redis, messages / took)


async def redis_py(url: str, messages: int) -> float:
    """Microseconds of processor time that redis-py takes for a message, hearing it included."""
    messages -= messages % PIPELINE
    async with redis.asyncio.from_url(url) as client, client.pubsub() as feed:
        script = await client.script_load(_SCRIPT)
        await feed.subscribe(_FEED)
        before = time.process_time()
        hearing = asyncio.create_task(_hear(feed, messages))
        for _ in range(messages // PIPELINE):
            pipeline = client.pipeline(transaction=False)
            for _ in range(PIPELINE):
                pipeline.evalsha(script, 2, "alone:meta", "alone:log", _RECORD, _FEED)
            await pipeline.execute()
        await hearing
        return 1e6 * (time.process_time() - before) / messages


async def _hear(feed: PubSub, messages: int) -> None:
    async for told in feed.listen():
        messages -= told["type"] == "message"
        if not messages:
            return


class Round(NamedTuple):
    """The cost with so many in flight, and what redis-py took alone right after."""

    costs: list[Cost]
    alone: float


async def measure(windows: list[int], messages: int, rounds: int) -> list[Round]:
    async with AsyncExitStack() as stack:
        server = stack.enter_context(RedisServer())
        folder = Path(stack.enter_context(TemporaryDirectory()))
        where = {"HUBBUB_BACKEND": "redis", "HUBBUB_REDIS_URL": server.url, **UNLIMITED}
        nodes = []
        for _ in range(2):
            nodes.append(await ServerProcess.start(folder, environ=where))
            stack.push_async_callback(nodes[-1].stop)
        publisher, reader = [await ready(node) for node in nodes]
        assert (await reader.ask("join", room=ROOM))["type"] == "joined"
        pids = [nodes[0].pid, nodes[1].pid, server.pid]
        done: list[Round] = []
        for number in range(1, rounds + 1):
            sys.stderr.write(f"round {number} of {rounds}\n")
            costs = [await cost(publisher, reader, pids, messages, window) for window in windows]
            done.append(Round(costs, await redis_py(server.url, messages)))
        for peer in (publisher, reader):
            await peer.close()
        return done


def middle(rounds: list[Round]) -> Iterator[Cost]:
    """The median of each figure."""
    for costs in zip(*(each.costs for each in rounds), strict=True):
        yield Cost(costs[0].window, *map(median, list(zip(*costs, strict=True))[1:]))


def ratios(rounds: list[Round]) -> Iterator[float]:
    """By window, what the nodes took for what redis-py took in the same round, in the median."""
    for costs in zip(*(each.costs for each in rounds), strict=True):
        alone = [each.alone for each in rounds]
        yield median(c.nodes / a for c, a in zip(costs, alone, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.nodes", description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000, metavar="N")
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 50], metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    wish = parser.parse_args()
    if wish.rounds < 1 or wish.messages < PIPELINE or min(wish.windows) < 1:
        parser.error(f"rounds and windows are 1 or more, messages {PIPELINE} or more")
    rounds = asyncio.run(measure(wish.windows, wish.messages, wish.rounds))
    rows = [f"{c.row()} {r:.2f} |" for c, r in zip(middle(rounds), ratios(rounds), strict=True)]
    lines = [
        "| in flight | publishing node | reading node | both nodes | Redis | messages/s | ratio |",
        "|---:|---:|---:|---:|---:|---:|---:|",
        *rows,
        "",
        f"Microseconds of processor time for a message, the WebSockets at both ends included; "
        f"medians of {len(rounds)} rounds.",
        f"Ratio: both nodes for what redis-py takes alone ({PIPELINE} calls of a script in a "
        f"pipeline, and hearing), which is {median(r.alone for r in rounds):.1f}.",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
