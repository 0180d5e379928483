"""Presence where a Redis is more than one server."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from adapters.redis.keyspace import Keyspace
from domain.identifiers import RoomId
from domain.member import ChangeKind
from tests.contract.conftest import CHAT
from tests.peer import until
from tests.presence_nodes import LiveNode
from tests.redis_groups import RedisCluster, RedisSentinels

JOIN, LEAVE = ChangeKind.JOIN, ChangeKind.LEAVE

pytestmark = pytest.mark.redis


class Started:
    """Nodes on the real clock."""

    def __init__(self) -> None:
        self._running = AsyncExitStack()

    async def __call__(self, url: str) -> LiveNode:
        node = LiveNode(url, time.monotonic)
        await node.start()
        self._running.push_async_callback(node.stop)
        return node

    async def stop(self) -> None:
        await self._running.aclose()


@pytest.fixture
async def start() -> AsyncIterator[Started]:
    started = Started()
    yield started
    await started.stop()


async def shown(node: LiveNode, users: dict[str, int], room: RoomId = CHAT) -> None:
    """Wait until a node shows these users."""
    async with asyncio.timeout(20):
        while await node.users(room) != users:  # noqa: ASYNC110  (asked, not told)
            await asyncio.sleep(0.02)


async def test_rooms_all_over_a_cluster(redis_cluster: RedisCluster, start: Started) -> None:
    one, two = await start(redis_cluster.url), await start(redis_cluster.url)
    rooms = [RoomId(f"room{number}") for number in range(9)]
    assert len({redis_cluster.owner(Keyspace().room(room).feed).port for room in rooms}) == 3
    for room in rooms:
        await one.enter("ann", room=room)
        await two.enter("bob", room=room)
        await two.enter("ann", "2", room=room)
    for room in rooms:
        for node in (one, two):
            await shown(node, {"ann": 2, "bob": 1}, room)
        await one.leave("ann", room=room)
        await two.leave("bob", room=room)
        assert await one.notes.heard(3, room) == [(JOIN, "ann"), (JOIN, "bob"), (LEAVE, "bob")]
    await one.die()
    await two.presence.janitor.clear(one.name)
    for room in rooms:
        await shown(two, {"ann": 1}, room)


async def test_a_room_that_moves_to_another_server(
    redis_cluster: RedisCluster, start: Started
) -> None:
    one, two = await start(redis_cluster.url), await start(redis_cluster.url)
    await one.enter("host1")
    await two.enter("host2")
    feed = Keyspace().room(CHAT).feed
    former = redis_cluster.owner(feed)
    other = next(node for node in redis_cluster.nodes if node is not former)
    await asyncio.to_thread(redis_cluster.move, feed, other)
    for number in range(10):
        await (one, two)[number % 2].enter(f"user{number}")
    expected = {"host1": 1, "host2": 1, **{f"user{number}": 1 for number in range(10)}}
    for node in (one, two):
        await shown(node, expected)
        assert {kind for kind, _ in node.notes.told()} == {JOIN}


async def test_a_failover_sends_nobody_away(start: Started) -> None:
    with RedisSentinels() as sentinels:
        one, two = await start(sentinels.url), await start(sentinels.url)
        await one.enter("ann")
        await two.enter("bob")
        await two.enter("ann", "2")
        await asyncio.to_thread(sentinels.fail_over)
        await until(lambda: one.store.healthy and one.channels.healthy)
        await until(lambda: two.store.healthy and two.channels.healthy)
        await one.enter("cid")
        for node in (one, two):
            await shown(node, {"ann": 2, "bob": 1, "cid": 1})
            assert {kind for kind, _ in node.notes.told()} == {JOIN}
        await two.leave("bob")
        await shown(one, {"ann": 2, "cid": 1})
        await start.stop()
