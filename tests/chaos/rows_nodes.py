"""Faults of nodes."""

import asyncio
import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import psutil

from tests.chaos.checker import Verdict
from tests.chaos.connection import Connection, Refused
from tests.chaos.history import Cut, Presence
from tests.chaos.member import Member
from tests.chaos.run import Load, Row, Run
from tests.chaos.settings import COMMON, PLAIN, ROLLING
from tests.chaos.system import Node

GHOST_DEADLINE = 45.0  # seconds; promised are 20, on a free machine
HALL = Load(prefix="hall", members=12, readers=0, rooms=2, rooms_each=0)
DEPLOYED = Load(prefix="hall", members=24, readers=0, rooms=3, rooms_each=0, pace=1.0)


def _there(run: Run, node: Node) -> list[Member]:
    return [member for member in run.members if member.port == node.port]


async def killed(run: Run) -> None:
    """Half of the node's users never come back: they leave once, and the others never."""
    node = run.rng.choice(run.system.nodes)
    users = _there(run, node)
    ghosts = users[: len(users) // 2]
    for member in ghosts:
        member.away = True
    loop = asyncio.get_running_loop()
    run.fault("kill -9 of a node")
    began = loop.time()
    await node.kill()
    witnesses = [member for member in run.members if member not in users]
    expected = len(ghosts) * len(run.rooms) * len(witnesses)
    names = {witness.user for witness in witnesses}
    gone = {ghost.user for ghost in ghosts}

    def leaves() -> list[Presence]:
        events = (event for event in run.history if isinstance(event, Presence))
        return [e for e in events if e.kind == "leave" and e.who in names]

    all_left = await run.until(
        lambda: sum(event.user in gone for event in leaves()) >= expected, GHOST_DEADLINE
    )
    run.notes["ghosts s"] = loop.time() - began
    run.promise(all_left, f"{len(gone)} dead users did not leave everywhere: {len(leaves())}")
    await node.start()
    told = Counter((event.who, event.room, event.user) for event in leaves())
    run.promise(max(told.values(), default=1) == 1, "a leave was announced twice")
    strangers = {user for _, _, user in told} - gone
    run.promise(not strangers, f"who came back in time was said to have left: {strangers}")
    run.members = [member for member in run.members if member not in ghosts]
    for member in ghosts:
        await member.stop()


async def stood_still(run: Run) -> None:
    node = run.rng.choice(run.system.nodes)
    run.fault("SIGSTOP of a node for longer than its lease")
    await node.stand_still(16.0)
    run.fault("SIGCONT")
    await asyncio.sleep(2.0)


async def stalls(run: Run) -> None:
    for _ in range(3):
        run.fault("a node stands still for 2 s")
        await run.rng.choice(run.system.nodes).stand_still(2.0)
        await asyncio.sleep(run.rng.uniform(0.5, 1.5))


async def drained(run: Run) -> None:
    node = run.rng.choice(run.system.nodes)
    users = _there(run, node)
    before = len(run.history)
    run.fault("SIGTERM to a node")
    began = asyncio.get_running_loop().time()
    code = await node.drain()
    run.notes["exit s"] = asyncio.get_running_loop().time() - began
    run.promise(code == 0, f"the node ended with {code}")
    names = {member.user for member in run.members}
    cuts = [e for e in run.history[before:] if isinstance(e, Cut) and e.who in names]
    run.promise({cut.code for cut in cuts} <= {4200}, f"closed with {cuts}")
    run.promise(
        {cut.who for cut in cuts} == {member.user for member in users}, "others were closed too"
    )
    await node.start()


async def rolling(run: Run) -> None:
    """As an orchestrator does it: the new one first, and the balancer sends nobody to the old."""
    system = run.system
    old = list(system.nodes)
    for node in old:
        fresh = await system.add_node()
        for one in old:
            one.open = False
        run.fault("a node is replaced")
        code = await node.drain()
        run.promise(code == 0, f"a node ended with {code}")
        await system.remove_node(node)
        run.promise(fresh.open, "the new node is gone")
    await run.until(lambda: all(member.notebook.is_in for member in run.members))


def invisible(run: Run, verdict: Verdict) -> Iterator[str]:
    for member in run.members:
        if member.connections != 2:
            yield f"{member.user} had {member.connections} connections, not 2"
    seen = [event for event in run.history if isinstance(event, Presence)]
    begun = {event.who: event.t for event in run.history if isinstance(event, Cut)}
    for event in seen:
        if event.kind == "leave" or event.t > min(begun.values(), default=0):
            yield f"{event.who} saw {event.user} {event.kind}"
    yield from nothing_told(run, verdict)


async def everything(run: Run) -> None:
    redis, node = run.system.redis, run.rng.choice(run.system.nodes)
    killing = asyncio.create_task(_kill_subscriptions(run))
    await asyncio.sleep(2.0)
    run.fault("a node is restarted")
    run.promise(await node.drain() == 0, "the node did not end well")
    await node.start()
    await asyncio.sleep(1.0)
    run.fault("Redis stands still for 5 s")
    redis.pause()
    await asyncio.sleep(5.0)
    redis.resume()
    await asyncio.sleep(3.0)
    killing.cancel()
    run.promise(not killing.done() or killing.cancelled(), "the killing ended by itself")


async def _kill_subscriptions(run: Run) -> None:
    while True:
        await asyncio.to_thread(run.system.redis.command, "CLIENT", "KILL", "TYPE", "pubsub")
        await asyncio.sleep(1.0)


def nothing_told(run: Run, verdict: Verdict) -> Iterator[str]:
    told = {outcome: n for outcome, n in verdict.told.items() if outcome not in ("none", "ok")}
    if told:
        yield f"clients were told {told}"


async def no_more_files(run: Run) -> None:
    node = run.system.nodes[0]
    pid, port = node.alive.pid, node.alive.port
    there = [member for member in run.members if member.port == node.port]
    cuts = len([event for event in run.history if isinstance(event, Cut)])
    files = resource.RLIMIT_NOFILE
    before = resource.prlimit(pid, files)
    run.fault("a node may open no more files")
    node.open = False
    resource.prlimit(pid, files, (node.alive.files() + 3, before[1]))
    knocking = [asyncio.create_task(_knock(port)) for _ in range(30)]
    process = psutil.Process(pid)
    process.cpu_percent()
    await asyncio.sleep(4.0)
    busy = process.cpu_percent()
    run.notes["CPU %"] = busy
    alive = all(member.connection is not None for member in there)
    run.promise(alive, "clients that were there lost their connection")
    resource.prlimit(pid, files, before)
    node.open = True
    await asyncio.gather(*knocking)
    now = len([event for event in run.history if isinstance(event, Cut)])
    run.promise(now == cuts, "somebody was cut")
    run.promise(await _knock(port), "nobody is let in when there are files again")


async def _knock(port: int) -> bool:
    with suppress(OSError, TimeoutError, Refused):
        connection = await Connection.open(port, "/v1/ws", lambda _: None, lambda _: None)
        await asyncio.sleep(0.5)
        connection.vanish()
        return True
    return False


ROWS = [
    Row(
        "7",
        "Node kill -9",
        "SIGKILL; half of its users never come back",
        "clients resume elsewhere; who is gone leaves once, nobody else does",
        killed,
        COMMON,
        HALL,
    ),
    Row(
        "8",
        "Node SIGSTOP 16 s, CONT",
        "SIGSTOP for longer than the lease of the node",
        "clients resume elsewhere; what the node sends afterwards breaks nothing",
        stood_still,
        COMMON,
    ),
    Row(
        "9",
        "SIGTERM drain",
        "SIGTERM under load",
        "only its clients move, each closed with 4200; exit code 0",
        drained,
        COMMON,
    ),
    Row(
        "10",
        "Rolling deploy",
        "each of 3 nodes is replaced by a new one, then stopped",
        "one reconnect for each client, no join, no leave, nothing told",
        rolling,
        ROLLING,
        DEPLOYED,
        judge=invisible,
    ),
    Row(
        "11",
        "Rolling upgrade",
        "each of 3 nodes of an earlier build is replaced by one of this build, then stopped; in "
        "between both kinds work together",
        "one reconnect for each client, no join, no leave, nothing told",
        rolling,
        ROLLING,
        DEPLOYED,
        judge=invisible,
    ),
    Row(
        "34",
        "File descriptors run out",
        "prlimit of a node to what it has open, then 30 new connections",
        "old connections live; new ones when there are files again",
        no_more_files,
        COMMON,
    ),
    Row(
        "36",
        "Event loop stall 2 s",
        "SIGSTOP of a node for 2 s, three times",
        "nothing but latency",
        stalls,
        COMMON,
    ),
    Row(
        "40",
        "Everything at once",
        "pub/sub connections killed once a second, a node restarted, Redis SIGSTOP for 5 s",
        "nothing but latency for 400 clients in 20 rooms",
        everything,
        PLAIN,
        Load(members=400, readers=4, rooms=20, rooms_each=5, publishers=20, pause=0.4),
        judge=nothing_told,
    ),
]
