"""The broker while rooms move from one Redis to another, under traffic."""

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from application.ports.broadcasting import Published
from domain.identifiers import RoomId
from domain.options import Retention
from tests.contract.conftest import CHAT, KEEP, Receipts, draft
from tests.redis_brokers import RedisBrokerNode, RoomInRedis, followers_at
from tests.redis_groups import MASTER, RedisCluster, RedisSentinels

pytestmark = pytest.mark.redis

LONG = Retention(10_000, 600.0)


@pytest.fixture
def sentinels() -> Iterator[RedisSentinels]:
    with RedisSentinels() as started:
        yield started


class Traffic:
    """Keeps publishing on all nodes, with keys, until told otherwise."""

    def __init__(self, nodes: Sequence[RedisBrokerNode]) -> None:
        self._nodes = nodes
        self._over = asyncio.Event()
        self._receipts: list[Receipts] = []
        self._task = asyncio.create_task(self._flow())

    async def _flow(self) -> None:
        number = 0
        while not self._over.is_set():
            for node in self._nodes:
                number += 1
                said = draft(f"{number}", key=f"k{number}")
                self._receipts.append(node.submit_draft(said, LONG))
            await asyncio.sleep(0.002)

    async def passed(self, count: int) -> None:
        """Wait until so many more were submitted."""
        until = len(self._receipts) + count
        while len(self._receipts) < until:  # noqa: ASYNC110  (the flow announces itself to nobody)
            await asyncio.sleep(0.005)

    async def end(self) -> set[str]:
        """The ids of what was acknowledged."""
        self._over.set()
        await self._task
        outcomes = [await receipt.outcome() for receipt in self._receipts]
        return {outcome.message_id for outcome in outcomes if isinstance(outcome, Published)}


async def caught_up(nodes: Sequence[RedisBrokerNode]) -> None:
    """Until every node has heard a last message of somebody."""
    for node in nodes:
        await node.healthy()
    last = await nodes[0].submit_draft(draft("last", key="last"), LONG).published()
    for node in nodes:
        await node.notes.until(lambda node=node: last.message_id in node.notes.ids().values())  # type: ignore[misc]


async def test_a_slot_that_moves_takes_its_room_along_without_a_hole(
    redis_cluster: RedisCluster,
) -> None:
    room = RoomInRedis(redis_cluster.nodes[0])
    async with followers_at(redis_cluster.url, redis_cluster.url, keep=LONG) as nodes:
        traffic = Traffic(nodes)
        for _ in range(3):
            await traffic.passed(100)
            owner = redis_cluster.owner(room.keys.meta)
            target = next(node for node in redis_cluster.nodes if node is not owner)
            await asyncio.to_thread(redis_cluster.move, room.keys.meta, target)
        await traffic.passed(100)
        acknowledged = await traffic.end()
        await caught_up(nodes)
        one, other = (node.notes.ids() for node in nodes)
        assert one == other
        assert list(one) == list(range(1, len(one) + 1))
        assert acknowledged <= set(one.values())
        assert len(set(one.values())) == len(one)
        for node in nodes:
            assert set(node.notes.outcomes) <= {"ok"}


async def test_rooms_are_spread_over_a_cluster(redis_cluster: RedisCluster) -> None:
    rooms = [RoomId(f"room{number}") for number in range(30)]
    async with followers_at(redis_cluster.url, redis_cluster.url) as (one, other):
        for name in rooms:
            await other.broker.subscribe(name, KEEP)
            await one.publish("x", name)
            await one.submit_draft(draft("gone", name, ephemeral=True)).published()
        for name in rooms:
            heard = await other.notes.heard(2, name)
            assert [message.seq for message in heard] == [1, 0]
    assert all(node.command("DBSIZE") for node in redis_cluster.nodes)


def test_replicas_that_only_asked_for_what_the_master_has_are_waited_for() -> None:
    """One that is the master before it got anything begins everything anew."""
    with RedisSentinels(1, "repl-diskless-sync-delay 3") as started:
        assert started.servers[1].command("INFO", "replication")["master_link_status"] == "up"
        started.servers[0].command("SET", "k", "v")
        started.settle()
        assert started.servers[1].command("GET", "k") == "v"


@pytest.mark.parametrize("how", ["orderly", "killed"])
async def test_a_failover_under_traffic_loses_nothing_untold(
    sentinels: RedisSentinels, how: str
) -> None:
    async with followers_at(sentinels.url, sentinels.url, keep=LONG) as nodes:
        await asyncio.to_thread(sentinels.settle)  # with the room, which is there by now
        traffic = Traffic(nodes)
        await traffic.passed(200)
        former, epoch = sentinels.master(), sentinels.config_epoch()
        if how == "orderly":
            sentinels.sentinels[0].command("SENTINEL", "FAILOVER", MASTER)
        else:
            former.kill()
        while sentinels.master() is former:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await traffic.passed(200)
        acknowledged = await traffic.end()
        await caught_up(nodes)
        happened = f"{sentinels.config_epoch() - epoch} failovers, {[n.notes.told for n in nodes]}"
        for node in nodes:
            assert set(node.notes.outcomes) <= {"ok", "rewound"}, happened
        kept = RoomInRedis(sentinels.master(), CHAT).ids()
        withdrawn = any("rewound" in node.notes.outcomes for node in nodes)
        for node in nodes:
            believed = node.notes.ids()
            assert {seq: believed[seq] for seq in kept if seq in believed} == kept, happened
        assert nodes[0].notes.ids() == nodes[1].notes.ids()
        everything = nodes[0].notes.ids()
        assert list(everything) == list(range(1, len(everything) + 1))
        assert len(set(everything.values())) == len(everything)
        if not withdrawn:
            assert acknowledged <= set(everything.values())
