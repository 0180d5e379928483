"""Faults of clients and of their lines."""

import asyncio

from tests.chaos.history import Cut
from tests.chaos.member import Member
from tests.chaos.run import Load, Row, Run
from tests.chaos.settings import COMMON, PLAIN
from tests.chaos.stores import redis_reads

SLOW_READ = 0.05  # seconds it reads in each second
STORM_DEADLINE = 180.0


async def resets(run: Run) -> None:
    for _ in range(8):
        door = run.rng.choice(run.system.doors)
        run.fault("reset of a node's clients")
        door.drop()
        await asyncio.sleep(run.rng.uniform(0.2, 0.8))


async def half_open(run: Run) -> None:
    node = run.rng.choice(run.system.nodes)
    assert node.door is not None
    caught = [member for member in run.members if member.port == node.port]
    run.fault("a node's clients are cut off, and neither side is told")
    before = asyncio.get_running_loop().time()
    node.open = False
    node.door.hold_requests()
    node.door.hold_replies()
    free = await run.until(lambda: all(one.port != node.port for one in caught))
    run.promise(free, "a client cut off did not come back elsewhere")
    run.notes["clients back s"] = asyncio.get_running_loop().time() - before
    node.open = True


async def offline_too_long(run: Run) -> None:
    gone = run.rng.sample(run.members, len(run.members) // 2)
    for member in gone:
        member.away = True
    run.fault("half of the clients are away")
    for member in gone:
        member.vanish()
    tops = {seat.room: seat.seq for seat in run.seats()}
    long_enough = await run.until(
        lambda: all(
            seat.seq > tops[seat.room] + 60
            for member in run.members
            if member not in gone
            for seat in member.notebook.seats.values()
        ),
        30.0,
    )
    run.promise(long_enough, "not enough was published meanwhile")
    for member in gone:
        member.away = False
    back = await run.until(lambda: all(member.notebook.is_in for member in gone))
    run.promise(back, "who was away did not come back")
    for member in gone:
        for seat in member.notebook.seats.values():
            run.promise(seat.told == ["gap"], f"{member.user} was told {seat.told}, not a gap")


async def stopped_clients(run: Run) -> None:
    some = run.rng.sample(run.members, 3)
    run.fault("three clients stand still")
    for member in some:
        member.freeze()
    await asyncio.sleep(10.0)
    for member in some:
        member.thaw()


async def slow_reader(run: Run) -> None:
    node = run.system.nodes[0]
    slow = Member(
        f"slow-{run.name}", run.rooms, lambda: node.alive.port, run.history, run.rng, run.load.pace
    )
    slow.receive_buffer = 4096
    run.members.append(slow)
    await run.until(lambda: slow.notebook.is_in)
    before = len(run.history)
    run.fault("one client reads a little each second")
    end = asyncio.get_running_loop().time() + run.patience
    while slow.connections == 1 and asyncio.get_running_loop().time() < end:
        slow.freeze()
        await asyncio.sleep(1.0 - SLOW_READ)
        slow.thaw()
        await asyncio.sleep(SLOW_READ)
    slow.thaw()
    cuts = {event.who for event in run.history[before:] if isinstance(event, Cut)}
    run.promise(slow.connections > 1, "who does not read was never cut")
    run.promise(cuts <= {slow.user}, f"others were cut as well: {cuts}")


async def storm(run: Run) -> None:
    loop = asyncio.get_running_loop()
    before = await asyncio.to_thread(redis_reads, run.system.redis)
    connections = {member: member.connections for member in run.members}
    run.fault("all clients lose their connection at once")
    began = loop.time()
    for member in run.members:
        member.vanish()
    await asyncio.sleep(0)
    gone = await run.until(lambda: not any(m.connection for m in run.members), 10.0)
    run.promise(gone, "not every connection ended")
    back = await run.until(lambda: all(m.notebook.is_in for m in run.members), STORM_DEADLINE)
    run.promise(back, "not everybody came back")
    run.notes["all back s"] = loop.time() - began
    reads = await asyncio.to_thread(redis_reads, run.system.redis) - before
    # Each client has a personal room besides.
    run.notes["Redis reads per room"] = reads / (len(run.rooms) + len(run.members))
    made = sum(member.connections - first for member, first in connections.items())
    run.notes["connections per client"] = made / len(run.members)


ROWS = [
    Row(
        "1",
        "Client TCP reset",
        "a proxy resets all clients of a node, eight times",
        "they resume by position",
        resets,
        COMMON,
    ),
    Row(
        "2",
        "Client half-open",
        "a proxy swallows both ways, for all clients of a node",
        "both sides notice by themselves; clients resume elsewhere",
        half_open,
        COMMON,
    ),
    Row(
        "3",
        "Client offline beyond retention",
        "half of the clients are away until the log has forgotten what they miss",
        "each is told `gap` in each room",
        offline_too_long,
        COMMON,
        Load(prefix="short"),
    ),
    Row(
        "4",
        "Client stands still",
        "clients neither read nor answer for 10 s (as SIGSTOP does)",
        "closed by the ping timeout; they resume",
        stopped_clients,
        COMMON,
    ),
    Row(
        "5",
        "Slow reader",
        "a receive buffer of 4 KB, read for 0.05 s each second, at messages of 10 kB",
        "only that client is cut; it resumes",
        slow_reader,
        COMMON,
        Load(padding=10_000, pause=0.01),
    ),
    Row(
        "6",
        "Reconnect storm",
        "5,000 clients lose their connections in the same moment",
        "all are back in their rooms, by position",
        storm,
        PLAIN,
        Load(members=5_000, readers=0, rooms=50, rooms_each=1, publishers=5, pause=0.5, pace=1.0),
    ),
]
