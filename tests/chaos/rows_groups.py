"""Faults of several Redis servers that belong together."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

from tests.chaos import stores
from tests.chaos.checker import Verdict
from tests.chaos.history import Acked
from tests.chaos.run import Load, Row, Run
from tests.chaos.settings import CLUSTER, PASSWORD, REPLICATED, SENTINEL, SPLIT, USER
from tests.redis_groups import RedisCluster, RedisSentinels

_REPLICATED = ("min-replicas-to-write 1", "min-replicas-max-lag 10")
_BUSY = Load(pause=0.005, publishers=6)


def _sentinels(run: Run) -> RedisSentinels:
    assert isinstance(run.system.store, RedisSentinels)
    return run.system.store


def _cluster(run: Run) -> RedisCluster:
    assert isinstance(run.system.store, RedisCluster)
    return run.system.store


async def clean_failover(run: Run) -> None:
    group = _sentinels(run)
    run.fault("SENTINEL FAILOVER")
    await asyncio.to_thread(group.fail_over)
    await asyncio.to_thread(group.settle)
    await asyncio.sleep(1.0)


async def master_killed(run: Run) -> None:
    group = _sentinels(run)
    master = await asyncio.to_thread(group.master)
    run.fault("kill -9 of the master")
    master.kill()
    await _another(run, group, master)
    await asyncio.sleep(2.0)
    await asyncio.to_thread(master.start)
    await asyncio.to_thread(group.settle)
    await asyncio.sleep(1.0)


async def _another(run: Run, group: RedisSentinels, former: object) -> None:
    for _ in range(2400):  # the Sentinels take their time on a busy machine
        if await asyncio.to_thread(group.master) is not former:
            return
        await asyncio.sleep(0.05)
    run.promise(False, "the Sentinels named no other master")


async def behind_replicas(run: Run) -> None:
    """The replicas stand still while it goes on: what they lack then is lost with the master."""
    group = _sentinels(run)
    master = await asyncio.to_thread(group.master)
    replicas = [server for server in group.servers if server is not master]
    run.fault("the replicas fall behind, then kill -9 of the master")
    for replica in replicas:
        replica.pause()
    # What is on its way to them would be read all the same.
    await asyncio.to_thread(master.command, "CLIENT", "KILL", "TYPE", "replica")
    await asyncio.sleep(0.4)  # less than it takes the Sentinels to give them up
    master.kill()
    for replica in replicas:
        replica.resume()
    await _another(run, group, master)
    await asyncio.sleep(2.0)
    await asyncio.to_thread(master.start)
    await asyncio.to_thread(group.settle)
    await asyncio.sleep(1.0)


def lost_is_told(run: Run, verdict: Verdict) -> Iterator[str]:
    """Acknowledged and lost are exactly those that were withdrawn, but for what nobody saw."""
    told = verdict.withdrawn
    untold = verdict.lost - verdict.unseen - told
    if untold:
        yield f"lost and not withdrawn: {sorted(untold)[:5]}"
    if verdict.told["reset"] or verdict.told["gap"]:
        yield f"told {dict(verdict.told)}, where only `rewound` fits"
    run.notes["lost, seen by nobody"] = len(verdict.unseen)


def replicated_is_kept(run: Run, verdict: Verdict) -> Iterator[str]:
    yield from lost_is_told(run, verdict)
    safe = {event.op for event in run.history if isinstance(event, Acked) and event.replicated}
    run.notes["acknowledged as replicated"] = len(safe)
    if not safe:
        yield "nothing was acknowledged as replicated"
    if safe & verdict.lost:
        yield f"acknowledged as replicated, and lost: {sorted(safe & verdict.lost)[:5]}"


async def split(run: Run) -> None:
    """Replicas and Sentinels cannot talk to the master any more, and the nodes can."""
    group = _sentinels(run)
    master = await asyncio.to_thread(group.master)
    run.fault("the master is cut off from replicas and Sentinels")
    with master.client(username=USER, password=PASSWORD) as client:
        client.execute_command("ACL", "SETUSER", "default", "off")
        for kind in ("replica", "normal"):
            client.execute_command("CLIENT", "KILL", "TYPE", kind, "USER", "default")
        await _another(run, group, master)
        await asyncio.sleep(3.0)
        run.fault("it is back")
        client.execute_command("ACL", "SETUSER", "default", "on")
    await asyncio.to_thread(group.settle)
    await asyncio.sleep(1.0)


async def twice(run: Run) -> None:
    for _ in range(2):
        await master_killed(run)


async def slots_moved(run: Run) -> None:
    group = _cluster(run)
    for _ in range(2):
        for room in run.rooms:
            key = stores.keys(room).log
            owner = await asyncio.to_thread(group.owner, key)
            to = run.rng.choice([node for node in group.nodes if node is not owner])
            run.fault("a slot moves")
            await asyncio.to_thread(group.move, key, to)
            await asyncio.sleep(0.3)


async def cluster_node_killed(run: Run) -> None:
    group = _cluster(run)
    node = await asyncio.to_thread(group.owner, stores.keys(run.rooms[0]).log)
    run.notes["rooms of it"] = 0
    for room in run.rooms:
        owner = await asyncio.to_thread(group.owner, stores.keys(room).log)
        run.notes["rooms of it"] += owner is node
    lost = {
        room
        for room in run.rooms
        if await asyncio.to_thread(group.owner, stores.keys(room).log) is node
    }
    run.fault("kill -9 of a node of the cluster, which keeps nothing")
    node.kill()
    await asyncio.sleep(1.0)
    await asyncio.to_thread(node.start)
    await asyncio.to_thread(group.settle)
    told = await run.until(lambda: all(seat.told for seat in run.seats() if seat.room in lost))
    run.promise(told, "not everybody was told")
    for seat in run.seats():
        expected = ["reset"] if seat.room in lost else []
        run.promise(seat.told == expected, f"told {seat.told} in {seat.room}, not {expected}")


ROWS = [
    Row(
        "21",
        "Sentinel failover, orderly",
        "SENTINEL FAILOVER; Redis takes commands on both sides for a while",
        "as in 22",
        clean_failover,
        SENTINEL,
        _BUSY,
        may_lose=True,
        judge=lost_is_told,
    ),
    Row(
        "22",
        "Sentinel, master kill -9",
        "SIGKILL of the master under load; 3 servers, 3 Sentinels",
        "acknowledged and lost are exactly those told as `rewound`",
        master_killed,
        SENTINEL,
        _BUSY,
        may_lose=True,
        judge=lost_is_told,
    ),
    Row(
        "22b",
        "Sentinel, replicas behind",
        "SIGSTOP of the replicas, SIGKILL of the master, SIGCONT",
        "the same, with much to lose",
        behind_replicas,
        SENTINEL,
        _BUSY,
        may_lose=True,
        judge=lost_is_told,
    ),
    Row(
        "23",
        "Split brain",
        "replicas and Sentinels are shut out of the master, the nodes are not",
        "as in 22, until the nodes have heard of the new master",
        split,
        SPLIT,
        _BUSY,
        may_lose=True,
        judge=lost_is_told,
    ),
    Row(
        "23b",
        "Split brain, min-replicas-to-write 1",
        "the same",
        "the old side refuses: next to nothing is lost",
        split,
        replace(SPLIT, redis=(*SPLIT.redis, *_REPLICATED)),
        _BUSY,
        may_lose=True,
        judge=lost_is_told,
    ),
    Row(
        "24",
        "The same as 22b, with HUBBUB_REDIS_REPLICAS=1",
        "SIGSTOP of the replicas, SIGKILL of the master, SIGCONT",
        "what was acknowledged as replicated is there",
        behind_replicas,
        REPLICATED,
        _BUSY,
        may_lose=True,
        judge=replicated_is_kept,
    ),
    Row(
        "25",
        "Two failovers in a row",
        "as 22, twice",
        "the same",
        twice,
        SENTINEL,
        _BUSY,
        may_lose=True,
        judge=lost_is_told,
    ),
    Row(
        "26",
        "Cluster slots move",
        "the slot of every room moves to another node, twice, under load",
        "nothing is lost",
        slots_moved,
        CLUSTER,
        _BUSY,
    ),
    Row(
        "27",
        "Cluster node kill -9",
        "SIGKILL of a master, started again empty",
        "`reset` in its rooms, nothing in the others",
        cluster_node_killed,
        CLUSTER,
        Load(rooms=9),
        may_lose=True,
    ),
]
