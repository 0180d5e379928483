"""On a real Redis Cluster: keys and channels are followed to whoever owns them."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sized
from contextlib import asynccontextmanager
from functools import partial

import pytest

from adapters.redis import store as store_module
from adapters.redis.store import Script, Store
from domain.errors import Unavailable
from tests.peer import until
from tests.redis_groups import RedisCluster
from tests.redis_notes import Notes, Outcomes, RedisNode
from tests.redis_server import RedisServer
from tests.running import running

pytestmark = pytest.mark.redis

LIST = "{room}:list"
COUNT = "{room}:count"
FEED = "{room}:feed"
PUSH = Script("push", "return redis.call('RPUSH', KEYS[1], ARGV[1])")
PUSH_COUNTED = Script(
    "push_counted", "redis.call('INCR', KEYS[2]) return redis.call('RPUSH', KEYS[1], ARGV[1])"
)


@asynccontextmanager
async def node_at(url: str) -> AsyncIterator[RedisNode]:
    node = RedisNode(url)
    async with running(node.store, node.channels):
        await node.healthy()
        yield node


def another(cluster: RedisCluster, key: str) -> RedisServer:
    """A node that does not own the key."""
    owner = cluster.owner(key)
    return next(node for node in cluster.nodes if node is not owner)


def one_key_each(cluster: RedisCluster) -> dict[RedisServer, str]:
    keys = (f"{{{number}}}:k" for number in range(1000))
    found: dict[RedisServer, str] = {}
    while len(found) < len(cluster.nodes):
        key = next(keys)
        found[cluster.owner(key)] = key
    return found


async def test_keys_are_where_they_belong(redis_cluster: RedisCluster) -> None:
    async with node_at(redis_cluster.url) as node:
        assert len(node.store.shards()) == 3
        for server, key in one_key_each(redis_cluster).items():
            assert await node.store.run_script(PUSH, [key], ["x"]) == 1
            assert await node.store.command(key, "LLEN", key) == 1
            assert server.command("LLEN", key) == 1


async def test_channels_are_where_they_belong(redis_cluster: RedisCluster) -> None:
    assert Store(redis_cluster.url).publish_command == b"SPUBLISH"
    async with node_at(redis_cluster.url) as one, node_at(redis_cluster.url) as two:
        for server, channel in one_key_each(redis_cluster).items():
            notes = Notes()
            await one.channels.subscribe(channel, notes)
            assert server.command("PUBSUB", "SHARDNUMSUB", channel) == [channel, 1]
            assert two.store.send_command(channel, (b"SPUBLISH", channel, "x"))
            assert await notes.number(1) == [b"x"]
            one.channels.unsubscribe(channel, notes)


async def test_a_node_that_is_gone_is_not_needed_to_find_the_others(
    redis_cluster: RedisCluster,
) -> None:
    with RedisServer() as gone:
        gone.kill()
        urls = [redis_cluster.nodes[0].address, gone.address]
        async with node_at(f"redis+cluster://{','.join(urls)}") as node:
            assert len(node.store.shards()) == 3


async def submit_until(store: Store, outcomes: Outcomes, over: asyncio.Event) -> None:
    """Scripts on two keys, numbered."""

    def args(number: int, _: int) -> tuple[int]:
        return (number,)

    for number in itertools.count():
        store.submit(PUSH_COUNTED, [LIST, COUNT], partial(args, number), outcomes.done(number))
        if number % 5 == 0:
            await asyncio.sleep(0.001)
        if over.is_set():
            return


async def test_a_slot_that_moves_while_it_is_used(redis_cluster: RedisCluster) -> None:
    async with node_at(redis_cluster.url) as node:
        outcomes, over = Outcomes(), asyncio.Event()
        submitting = asyncio.ensure_future(submit_until(node.store, outcomes, over))
        for _ in range(3):
            await until(partial(_longer, outcomes.of, len(outcomes.of) + 50))
            await asyncio.to_thread(redis_cluster.move, LIST, another(redis_cluster, LIST))
        over.set()
        await submitting
        done = [n for n, outcome in enumerate(await outcomes.all()) if type(outcome) is int]
        there = redis_cluster.owner(LIST).command("LRANGE", LIST, 0, -1)
        assert [int(number) for number in there] == done
        assert len(done) > 0.9 * len(outcomes.of)


async def test_a_channel_that_moves_while_it_is_used(redis_cluster: RedisCluster) -> None:
    """Whatever was not heard, something was told to be lost after it."""
    async with node_at(redis_cluster.url) as node:
        notes, published = Notes(), itertools.count()
        await node.channels.subscribe(FEED, notes)

        async def publish() -> None:
            while True:
                await node.publish(str(next(published)), FEED)

        publishing = asyncio.ensure_future(publish())
        for _ in range(3):
            await notes.number(len(notes.all) + 50)
            await asyncio.to_thread(redis_cluster.move, FEED, another(redis_cluster, FEED))
            await notes.until(lambda: (FEED, None) in notes.all)
        await notes.number(len(notes.all) + 50)
        publishing.cancel()
        await asyncio.wait([publishing])
    expected = 0
    for _, what in notes.all:
        if what is None:
            expected = -1
            continue
        assert expected in {int(what), -1}
        expected = int(what) + 1


def _longer(what: Sized, size: int) -> bool:
    return len(what) > size


async def test_a_subscription_follows_when_nothing_is_published(
    redis_cluster: RedisCluster,
) -> None:
    async with node_at(redis_cluster.url) as node, node_at(redis_cluster.url) as other:
        notes = Notes()
        await node.channels.subscribe(FEED, notes)
        to = another(redis_cluster, FEED)
        await asyncio.to_thread(redis_cluster.move, FEED, to)
        assert await notes.number(1) == [None]
        assert await other.publish("x", FEED) == 1
        assert await notes.number(2) == [None, b"x"]


async def test_a_subscription_that_the_owner_ends_is_renewed(redis_cluster: RedisCluster) -> None:
    async with node_at(redis_cluster.url) as node:
        notes = Notes()
        await node.channels.subscribe(FEED, notes)
        redis_cluster.end_subscriptions(FEED)
        assert await notes.number(1) == [None]
        assert await node.publish("x", FEED) == 1
        assert await notes.number(2) == [None, b"x"]


async def test_a_slot_that_is_in_two_places(redis_cluster: RedisCluster) -> None:
    async with node_at(redis_cluster.url) as node:
        to = another(redis_cluster, LIST)
        await node.store.run_script(PUSH, [LIST], ["first"])
        redis_cluster.begin_move(LIST, to)
        try:
            await node.store.run_script(PUSH, [LIST], ["there still"])
            await asyncio.to_thread(redis_cluster.move_keys, LIST, to)
            await node.store.run_script(PUSH, [LIST], ["asked elsewhere"])
            # One of its keys is there and the other is nowhere: not before the slot has moved.
            outcomes = Outcomes()
            for number in range(3):
                node.store.submit(
                    PUSH_COUNTED, [LIST, COUNT], lambda _: ["moved"], outcomes.done(number)
                )
            assert await node.store.command(LIST, "LLEN", LIST) == 3
            assert not any(outcomes.of.values())
        finally:
            await asyncio.to_thread(redis_cluster.end_move, LIST, to)
        assert await outcomes.all() == [4, 5, 6]


async def test_a_node_that_is_killed_stops_nobody_elses_keys(
    redis_cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "DEADLINE", 0.5)
    keys = one_key_each(redis_cluster)
    (killed, lost), *others = keys.items()
    async with node_at(redis_cluster.url) as node:
        notes = Notes()
        await node.channels.subscribe(lost, notes)
        killed.kill()
        try:
            await until(lambda: not node.store.healthy)
            with pytest.raises(Unavailable):
                await node.store.run_script(PUSH, [lost], ["x"])
            for _, key in others:
                assert await node.store.run_script(PUSH, [key], ["x"]) == 1
        finally:
            await asyncio.to_thread(killed.start)
        assert await notes.number(1) == [None]
        await node.healthy()
        await asyncio.to_thread(redis_cluster.settle)
        assert await node.store.run_script(PUSH, [lost], ["x"]) == 1


async def test_a_cluster_behind_the_url_of_a_single_server(
    redis_cluster: RedisCluster, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(redis_cluster.nodes[0].url)
    keys = one_key_each(redis_cluster)
    async with running(store):
        with pytest.raises(Unavailable, match="MOVED"):
            await store.command(keys[redis_cluster.nodes[1]], "GET", keys[redis_cluster.nodes[1]])
    assert "MOVED" in caplog.text
