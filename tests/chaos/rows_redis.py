"""Faults of one Redis, and of the lines to it."""

import asyncio
import resource
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.chaos import stores
from tests.chaos.checker import Verdict
from tests.chaos.run import Load, Row, Run
from tests.chaos.settings import BUFFER, COMMON, PERSISTENT
from tests.redis_server import RedisServer

HEAVY = Load(padding=20_000, pause=0.01)


async def lost_everything(run: Run) -> None:
    redis = run.system.redis
    run.fault("kill -9 of Redis, which keeps nothing")
    redis.kill()
    await asyncio.sleep(run.rng.uniform(0.5, 2.0))
    await asyncio.to_thread(redis.start)
    told = await run.until(lambda: all(seat.told for seat in run.seats()))
    run.promise(told, "not everybody was told")


def all_told_reset(run: Run, verdict: Verdict) -> Iterator[str]:
    for client in run.clients:
        for seat in client.notebook.seats.values():
            if seat.told != ["reset"]:
                yield f"{client.user} was told {seat.told} in {seat.room}"


async def crashed_with_aof(run: Run) -> None:
    redis = run.system.redis
    run.fault("kill -9 of Redis, which appends to a file")
    redis.kill()
    await asyncio.sleep(run.rng.uniform(0.2, 1.0))
    await asyncio.to_thread(redis.start)
    await asyncio.sleep(2.0)


async def lost_its_tail(run: Run) -> None:
    redis = run.system.redis
    run.fault("kill -9 of Redis, and the end of its file is lost")
    redis.kill()
    (newest,) = (redis.folder / "appendonlydir").glob("*.incr.aof")
    size = newest.stat().st_size
    with newest.open("r+b") as file:
        file.truncate(size - min(size // 3, run.rng.randrange(2_000, 20_000)))
    await asyncio.to_thread(redis.start)
    await asyncio.sleep(3.0)


def paused(seconds: float) -> Callable[[Run], Coroutine[Any, Any, None]]:
    async def inject(run: Run) -> None:
        run.fault(f"Redis stands still for {seconds:g} s")
        run.system.redis.pause()
        try:
            await asyncio.sleep(seconds)
        finally:
            run.system.redis.resume()
        await asyncio.sleep(1.0)

    return inject


async def lost_replies(run: Run) -> None:
    for _ in range(12):
        line = run.rng.choice(run.system.lines)
        run.fault("the reply to a publish is lost")
        line.lose_reply(b"EVALSHA")
        with suppress(TimeoutError):
            async with asyncio.timeout(3.0):
                await line.reply_lost()
        await asyncio.sleep(run.rng.uniform(0.0, 0.3))


async def slow_network(run: Run) -> None:
    run.fault("50 to 500 ms to Redis and back")
    for line in run.system.lines:
        line.latency = (0.025, 0.25)
    await asyncio.sleep(6.0)


async def subscriptions_killed(run: Run) -> None:
    for _ in range(6):
        run.fault("CLIENT KILL TYPE pubsub")
        killed = await asyncio.to_thread(run.system.redis.command, *_KILL)
        run.promise(killed > 0, "there was no subscription to kill")
        await asyncio.sleep(1.0)


_KILL = ("CLIENT", "KILL", "TYPE", "pubsub")


async def deaf(run: Run) -> None:
    line = run.rng.choice(run.system.lines)
    accepted = line.accepted
    loop = asyncio.get_running_loop()
    run.fault("what Redis says to one subscribed connection is thrown away")
    began = loop.time()
    line.strike_deaf()
    rebuilt = await run.until(lambda: line.accepted > accepted)
    run.promise(rebuilt, "a deaf connection was never given up")
    run.notes["blind s"] = loop.time() - began
    await asyncio.sleep(1.0)


async def piled_up(run: Run) -> None:
    redis = run.system.redis
    limit = "client-output-buffer-limit"
    await asyncio.to_thread(redis.command, "CONFIG", "SET", limit, "pubsub 300kb 0 0")
    killed = await _disconnected(redis)
    run.fault("one node does not read what is published")
    run.rng.choice(run.system.lines).hold_feeds()
    for _ in range(200):
        await asyncio.sleep(0.1)
        if await _disconnected(redis) > killed:
            break
    run.promise(await _disconnected(redis) > killed, "Redis did not end the connection")
    for line in run.system.lines:
        line.heal()
    await asyncio.to_thread(redis.command, "CONFIG", "SET", limit, "pubsub 32mb 8mb 60")


async def _disconnected(redis: RedisServer) -> int:
    info = await asyncio.to_thread(redis.command, "INFO", "stats")
    return int(info.get("client_output_buffer_limit_disconnections", 0))


async def last_message_lost(run: Run) -> None:
    await run.hush()
    run.fault("the last message of every room is lost on its way")
    for line in run.system.lines:
        line.deafen()
    began = asyncio.get_running_loop().time()
    ops = await asyncio.gather(*(run.publishers[0].publish(room) for room in run.rooms))
    for line in run.system.lines:
        line.heal()
    last = dict(zip(run.rooms, ops, strict=True))
    found = await run.until(lambda: all(seat.last == last[seat.room] for seat in run.seats()))
    run.promise(found, "it was never found")
    run.notes["stale s"] = asyncio.get_running_loop().time() - began


async def lost_with_the_line(run: Run) -> None:
    """As above, but that everybody can know that something may have been missed."""
    await run.hush()
    run.fault("subscriptions are lost, and the last message of every room meanwhile")
    for line in run.system.lines:
        line.refuse()
        line.drop_feeds()
    ops = await asyncio.gather(*(run.publishers[0].publish(room) for room in run.rooms))
    for line in run.system.lines:
        await line.listen()
    last = dict(zip(run.rooms, ops, strict=True))
    found = await run.until(lambda: all(seat.last == last[seat.room] for seat in run.seats()))
    run.promise(found, "it was never found")


async def some_lost(run: Run) -> None:
    for _ in range(8):
        line = run.rng.choice(run.system.lines)
        run.fault("some of what Redis says to one node is thrown away")
        line.deafen()
        await asyncio.sleep(run.rng.uniform(0.1, 0.3))
        line.heal()
        await asyncio.sleep(run.rng.uniform(0.2, 0.5))


async def much_heard_meanwhile(run: Run) -> None:
    """What is heard while a log is read is kept for afterwards, but not all of it."""
    for _ in range(3):
        line = run.rng.choice(run.system.lines)
        run.fault("a node's reading takes long, and much is published meanwhile")
        line.hold_scripts()
        line.drop_feeds()
        await asyncio.sleep(1.2)  # less than it takes to give the connection up
        line.heal()
        await asyncio.sleep(0.8)


async def refused(run: Run) -> None:
    line = run.rng.choice(run.system.lines)
    run.fault("a node loses Redis, and is refused for 5 s")
    line.refuse()
    line.drop()
    await asyncio.sleep(5.0)
    await line.listen()
    await asyncio.sleep(1.0)


async def no_memory(run: Run) -> None:
    redis = run.system.redis
    run.fault("Redis has no memory left")
    await asyncio.to_thread(redis.command, "CONFIG", "SET", "maxmemory", "1mb")
    await asyncio.sleep(4.0)
    await asyncio.to_thread(redis.command, "CONFIG", "SET", "maxmemory", "0")
    await asyncio.sleep(1.0)


async def unusable_log(run: Run) -> None:
    """A write in the middle of the script fails, though those before it were possible."""
    redis = run.system.redis
    for room in run.rooms:
        log = stores.keys(room).log
        run.fault("the log of a room takes nothing")
        with redis.client() as client:
            client.pipeline().rename(log, log + ":away").set(log, "junk").execute()
        await asyncio.sleep(0.7)
        with redis.client() as client:
            client.pipeline().delete(log).rename(log + ":away", log).execute()
        await asyncio.sleep(0.3)


async def evicted(run: Run) -> None:
    redis = run.system.redis
    first, second, *_ = run.rooms
    run.fault("the meta key of a room is gone")
    await asyncio.to_thread(redis.command, "DEL", stores.keys(first).meta)
    await asyncio.sleep(1.5)
    run.fault("the log of another room is gone")
    await asyncio.to_thread(redis.command, "DEL", stores.keys(second).log)
    await asyncio.sleep(1.5)


def only_that_room_is_reset(run: Run, verdict: Verdict) -> Iterator[str]:
    for client in run.clients:
        for room, seat in client.notebook.seats.items():
            told = ["reset"] if room == run.rooms[0] else []
            if seat.told != told:
                yield f"{client.user} was told {seat.told} in {room}"


async def disk_full(run: Run) -> None:
    redis = run.system.redis
    size = max(file.stat().st_size for file in _aof(redis))
    kind = resource.RLIMIT_FSIZE
    before = resource.prlimit(redis.pid, kind)
    run.fault("the file of Redis cannot grow any more")
    resource.prlimit(redis.pid, kind, (size + 20_000, before[1]))
    for _ in range(200):
        info = await asyncio.to_thread(redis.command, "INFO", "persistence")
        if info["aof_last_write_status"] != "ok":
            break
        await asyncio.sleep(0.1)
    run.promise(info["aof_last_write_status"] != "ok", "Redis did not notice")
    await asyncio.sleep(3.0)
    resource.prlimit(redis.pid, kind, before)
    await asyncio.sleep(2.0)


def _aof(redis: RedisServer) -> list[Path]:
    return list((redis.folder / "appendonlydir").iterdir())


ROWS = [
    Row(
        "12",
        "Redis kill -9, no persistence",
        "SIGKILL, started again empty",
        "every client is told `reset` in every room, once",
        lost_everything,
        COMMON,
        may_lose=True,
        judge=all_told_reset,
    ),
    Row(
        "13",
        "Redis kill -9, AOF everysec",
        "SIGKILL, started again with its file",
        "the same log goes on; nothing is lost (the page cache survives)",
        crashed_with_aof,
        PERSISTENT,
    ),
    Row(
        "13b",
        "Power cut, AOF everysec",
        "SIGKILL, and the end of the file is cut off",
        "whoever saw what is lost is told `rewound`",
        lost_its_tail,
        PERSISTENT,
        may_lose=True,
    ),
    Row(
        "14",
        "Redis stands still for 5 s",
        "SIGSTOP, SIGCONT",
        "publishes are refused or unknown in time; nothing is lost",
        paused(5.0),
        COMMON,
    ),
    Row(
        "14b",
        "Redis stands still for 30 s",
        "SIGSTOP, SIGCONT",
        "the same",
        paused(30.0),
        COMMON,
    ),
    Row(
        "15",
        "Redis reply lost",
        "a proxy loses the reply to a publish with its connection, twelve times",
        "every publish is done once",
        lost_replies,
        COMMON,
    ),
    Row(
        "16",
        "Redis latency 50 to 500 ms",
        "a proxy delays every chunk, both ways",
        "nothing but latency",
        slow_network,
        COMMON,
    ),
    Row(
        "17",
        "Pub/sub connections killed",
        "CLIENT KILL TYPE pubsub, once a second",
        "every room is read again; nothing is told",
        subscriptions_killed,
        COMMON,
    ),
    Row(
        "17b",
        "Subscriptions lost, then silence",
        "a proxy ends the subscriptions, and the last messages are published meanwhile",
        "every room is read again",
        lost_with_the_line,
        COMMON,
        marker=False,
    ),
    Row(
        "18",
        "Deaf pub/sub",
        "a proxy throws away what Redis says to one subscribed connection",
        "the heartbeat rebuilds it",
        deaf,
        COMMON,
    ),
    Row(
        "19",
        "Output buffer kill",
        "a limit of 300 kB, and a node that does not read",
        "it is read again",
        piled_up,
        COMMON,
        HEAVY,
    ),
    Row(
        "19b",
        "Much to hear while reading",
        "a proxy delays what a node reads, while the buffer for what it hears overflows",
        "it reads once more",
        much_heard_meanwhile,
        BUFFER,
    ),
    Row(
        "20b",
        "Messages lost in the middle",
        "a proxy throws away a part of what Redis says to a node, eight times",
        "every room is read again",
        some_lost,
        COMMON,
    ),
    Row(
        "20",
        "Last message lost",
        "a proxy loses the last message of every room, then nothing is published",
        "found by the comparison of the tops",
        last_message_lost,
        COMMON,
        marker=False,
    ),
    Row(
        "28",
        "Dial refused",
        "a node loses its connections and is refused for 5 s",
        "it keeps trying; nothing is lost",
        refused,
        COMMON,
    ),
    Row(
        "29",
        "Redis out of memory",
        "CONFIG SET maxmemory, noeviction, for 4 s",
        "publishes are refused; nothing is half-applied",
        no_memory,
        COMMON,
    ),
    Row(
        "29b",
        "A log that takes nothing",
        "the log of each room is another type of key for a while",
        "publishes are refused; nothing is half-applied",
        unusable_log,
        COMMON,
    ),
    Row(
        "30",
        "Eviction of meta, and of a log",
        "DEL of one key each",
        "`reset` in the one room; the other goes on, its history gone",
        evicted,
        COMMON,
        may_lose=True,
        judge=only_that_room_is_reset,
    ),
    Row(
        "31",
        "Disk full",
        "prlimit of the file size of Redis, with AOF",
        "publishes are refused; nothing is half-applied",
        disk_full,
        PERSISTENT,
    ),
]
