"""With real Sentinels: the master they agree on is followed."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from adapters.redis.addresses import Address
from adapters.redis.sentinel import REMEMBERED, Sentinels
from adapters.redis.store import Script, Store
from domain.errors import HubbubError
from tests.peer import until
from tests.redis_groups import MASTER, RedisSentinels
from tests.redis_notes import Notes, Outcomes, RedisNode
from tests.redis_server import RedisServer, StartRedis
from tests.running import running

pytestmark = pytest.mark.redis

LIST = "{room}:list"
FEED = "{room}:feed"
PUSH_ONCE = Script(
    "push_once",
    """
    if ARGV[2] ~= '0' and redis.call('LPOS', KEYS[1], ARGV[1]) then return 'there' end
    return redis.call('RPUSH', KEYS[1], ARGV[1])
    """,
)


@pytest.fixture
def sentinels() -> Iterator[RedisSentinels]:
    with RedisSentinels() as started:
        yield started


@asynccontextmanager
async def node_at(url: str) -> AsyncIterator[RedisNode]:
    node = RedisNode(url)
    async with running(node.store, node.channels):
        await node.healthy()
        yield node


@asynccontextmanager
async def saying(port: int, *, epoch: int, former: int = 0) -> AsyncIterator[int]:
    """What answers as a Sentinel does that knows this port as the master's; its own port."""
    answers = {
        b"HELLO": b"%1\r\n$2\r\nid\r\n:1\r\n",
        b"MASTER": b"%%3\r\n+ip\r\n+127.0.0.1\r\n+port\r\n+%d\r\n+config-epoch\r\n+%d\r\n"
        % (former or port, epoch),
        b"GET-MASTER-ADDR-BY-NAME": b"*2\r\n+127.0.0.1\r\n+%d\r\n" % port,
    }
    connected = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)
        while line := await reader.readline():
            writer.write(answers.get(line.strip(), b""))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as sentinel:
        yield int(sentinel.sockets[0].getsockname()[1])
        for writer in connected:
            writer.close()


async def found(sentinels: Sentinels) -> int:
    """The port of the master."""
    (owned,) = await sentinels.find(())
    return owned.address.port


def push(store: Store, outcomes: Outcomes, number: int) -> None:
    store.submit(PUSH_ONCE, [LIST], lambda attempt: (number, attempt), outcomes.done(number))


async def submit_until(store: Store, outcomes: Outcomes, over: asyncio.Event) -> None:
    number = 0
    while not over.is_set():
        push(store, outcomes, number)
        number += 1
        await asyncio.sleep(0.001)


async def test_an_orderly_failover_is_followed(sentinels: RedisSentinels) -> None:
    changes = []
    async with node_at(sentinels.url) as node:
        node.store.on_store_changed(lambda: changes.append(1))
        notes, outcomes, over = Notes(), Outcomes(), asyncio.Event()
        await node.channels.subscribe(FEED, notes)
        submitting = asyncio.ensure_future(submit_until(node.store, outcomes, over))
        master = await asyncio.to_thread(sentinels.fail_over)
        await notes.until(lambda: (FEED, None) in notes.all)
        over.set()
        await submitting
        await node.healthy()
        assert changes
        assert await node.publish("x", FEED) == 1
        await notes.until(lambda: (FEED, b"x") in notes.all)
        later = len(outcomes.of)
        push(node.store, outcomes, later)
        assert isinstance((await outcomes.all())[later], int)
        # What the former master accepted last may never have reached the new one.
        there = [int(number) for number in master.command("LRANGE", LIST, 0, -1)]
        ears, pulses = (vars(node.channels)[name] for name in ("_ears", "_pulses"))
        await until(lambda: set(pulses) == set(ears.values()))
    assert there == sorted(set(there)), "in order, and none twice"
    assert there[-1] == later


async def test_a_master_that_hangs_is_replaced(sentinels: RedisSentinels) -> None:
    former = sentinels.master()
    async with node_at(sentinels.url) as node:
        notes = Notes()
        await node.channels.subscribe(FEED, notes)
        former.pause()
        await until(lambda: sentinels.master() is not former)
        assert await notes.number(1) == [None]
        assert await node.store.run_script(PUSH_ONCE, [LIST], ["x", 0]) == 1
        former.resume()
        assert former.command("ROLE")[0] == "master", "until the Sentinels get to it"
        assert await node.store.run_script(PUSH_ONCE, [LIST], ["y", 0]) == 2
        assert sentinels.master().command("LLEN", LIST) == 2


async def test_a_master_that_is_cut_off_is_left(
    start_redis: StartRedis, redis_server: RedisServer
) -> None:
    """It takes commands still: only the Sentinels know better, and not all of them."""
    newer = start_redis()
    old = RedisServer(f"sentinel monitor {MASTER} 127.0.0.1 {redis_server.port} 1", sentinel=True)
    new = RedisServer(
        f"sentinel monitor {MASTER} 127.0.0.1 {newer.port} 1",
        f"sentinel config-epoch {MASTER} 7",
        sentinel=True,
    )
    with old:
        new.start()
        new.kill()
        async with node_at(f"redis+sentinel://{old.address},{new.address}/{MASTER}") as node:
            await node.store.command("k", "SET", "k", "v")
            assert redis_server.command("GET", "k") == "v"
            with new:
                await until(
                    lambda: [str(s.address) for s in node.store.shards()] == [newer.address]
                )
                await node.store.command("k", "SET", "k", "w")
                assert newer.command("GET", "k") == "w"


async def test_a_failover_that_is_not_over_in_every_detail_is_followed_already(
    start_redis: StartRedis, redis_server: RedisServer
) -> None:
    """The other replicas may take seconds. Meanwhile MASTER names the former one, which takes
    commands still, and has the epoch of the failover: as real Sentinels answer then."""
    newer = start_redis()
    async with (
        saying(newer.port, epoch=7, former=redis_server.port) as port,
        node_at(f"redis+sentinel://127.0.0.1:{port}/{MASTER}") as node,
    ):
        assert [shard.address.port for shard in node.store.shards()] == [newer.port]


async def test_a_master_that_was_replaced_is_not_gone_back_to() -> None:
    """Whoever knows of the failover does not answer for a while; who was cut off from it does."""
    time, new, old = 0.0, 1, 2
    async with saying(old, epoch=3) as other:
        async with saying(new, epoch=4) as port:
            seeds = [Address("127.0.0.1", port), Address("127.0.0.1", other)]
            asked = Sentinels(seeds, MASTER, Address(), lambda: time)
            assert await found(asked) == new
        assert await found(asked) == new
        time = REMEMBERED - 1.0
        assert await found(asked) == new
        time = REMEMBERED
        assert await found(asked) == old, "they were set up anew"
        asked.close()


async def test_passwords_of_both(start_redis: StartRedis, caplog: pytest.LogCaptureFixture) -> None:
    server = start_redis("requirepass s3cret")
    sentinel = RedisServer(
        f"sentinel monitor {MASTER} 127.0.0.1 {server.port} 1",
        f"sentinel auth-pass {MASTER} s3cret",
        "requirepass 0ther",
        sentinel=True,
    )
    with sentinel:
        url = f"redis+sentinel://:s3cret@{sentinel.address}/{MASTER}"
        async with node_at(f"{url}/2?sentinel_password=0ther") as node:
            assert b"db=2" in await node.store.command("k", "CLIENT", "INFO")
        async with running(Store(url)):
            await until(lambda: "cannot find the redis servers" in caplog.text)
    assert "NOAUTH" in caplog.text
    assert "s3cret" not in caplog.text
    assert "0ther" not in caplog.text


async def test_a_master_nobody_knows(
    sentinels: RedisSentinels, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(sentinels.url.replace(MASTER, "unheard-of"))
    async with running(store):
        await until(lambda: "No such master" in caplog.text)
        assert not store.healthy
        with pytest.raises(HubbubError):
            await store.command("k", "PING")


async def test_sentinels_that_are_gone_are_not_needed(sentinels: RedisSentinels) -> None:
    sentinels.sentinels[0].kill()
    async with node_at(sentinels.url) as node:
        for sentinel in sentinels.sentinels:
            sentinel.kill()
        for _ in range(3):
            node.store.look_again()
            assert await node.store.command("k", "PING") == b"PONG"
        await node.healthy()
