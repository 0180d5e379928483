"""Messages that replicas should have before they are acknowledged, with real replicas."""

import asyncio

import pytest

from adapters.redis import replication
from application.ports.broadcasting import Published
from tests.contract.conftest import CHAT, KEEP, Receipts, draft
from tests.peer import until
from tests.redis_brokers import RedisBrokerNode, RoomInRedis, broker_at
from tests.redis_proxy import redis_proxy
from tests.redis_server import RedisServer, StartRedis
from tests.redis_user import rules

pytestmark = pytest.mark.redis


class Pair:
    """A master with one replica that is in step."""

    def __init__(self, start_redis: StartRedis) -> None:
        self.master = start_redis("repl-diskless-sync-delay 0")
        of = f"replicaof 127.0.0.1 {self.master.port}"
        self.replica = start_redis("repl-diskless-sync-delay 0", of)

    async def in_step(self) -> None:
        await until(lambda: self.master.command("WAIT", 1, 100) == 1)


@pytest.fixture
async def pair(start_redis: StartRedis) -> Pair:
    pair = Pair(start_redis)
    await pair.in_step()
    return pair


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that is there has as long as it takes on a busy machine."""
    monkeypatch.setattr(replication, "PATIENCE", 30.0)


async def publish(node: RedisBrokerNode, data: str, key: str | None = None) -> Published:
    return await node.submit_draft(draft(data, key=key)).published()


def waits(server: RedisServer) -> int:
    """How often it was asked for its replicas."""
    return int(server.command("INFO", "commandstats").get("cmdstat_wait", {}).get("calls", 0))


@pytest.mark.usefixtures("patient")
async def test_an_acknowledged_message_is_on_the_replica(pair: Pair) -> None:
    async with broker_at(pair.master.url, replicas=1) as node:
        for number in range(20):
            told = await publish(node, str(number))
            assert told.replicated is True
            assert told.position is not None
            assert RoomInRedis(pair.replica).ids()[told.position.seq] == told.message_id


async def test_who_asks_for_no_replica_waits_for_none(pair: Pair) -> None:
    before = waits(pair.master)
    async with broker_at(pair.master.url) as node:
        assert (await publish(node, "x")).replicated is None
    assert waits(pair.master) == before


@pytest.mark.usefixtures("patient")
async def test_many_messages_are_asked_for_together(pair: Pair) -> None:
    before = waits(pair.master)
    async with broker_at(pair.master.url, replicas=1) as node:
        receipts = [node.submit(str(number)) for number in range(500)]
        told = [await receipt.published() for receipt in receipts]
    assert all(each.replicated for each in told)
    assert 1 <= waits(pair.master) - before < 100


async def test_a_replica_that_hangs_delays_and_is_told(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(replication, "PATIENCE", 0.05)
    monkeypatch.setattr(replication, "RETRY", 0.0)
    async with broker_at(pair.master.url, replicas=1) as node:
        await node.follow()
        pair.replica.pause()
        told = await publish(node, "x")
        assert (told.replicated, told.position is not None) == (False, True)
        assert list(RoomInRedis(pair.master).ids().values()) == [told.message_id]
        await node.notes.reaches(1)
        assert "messages are on 0 of 1 replicas" in caplog.text
        pair.replica.resume()
        await pair.in_step()
        monkeypatch.setattr(replication, "PATIENCE", 30.0)
        assert (await publish(node, "y")).replicated is True


async def test_a_replica_that_is_gone_is_waited_for_once(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replication, "PATIENCE", 0.2)
    monkeypatch.setattr(replication, "RETRY", 3600.0)
    pair.replica.kill()
    async with broker_at(pair.master.url, replicas=1) as node:
        for number in range(50):
            assert (await publish(node, str(number))).replicated is False
    waited = pair.master.command("INFO", "commandstats")["cmdstat_wait"]
    assert waited["calls"] == 51  # with the one of `in_step`, at least
    assert len(RoomInRedis(pair.master).ids()) == 50


async def test_more_replicas_than_there_are(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replication, "PATIENCE", 0.05)
    async with broker_at(pair.master.url, replicas=2) as node:
        assert (await publish(node, "x")).replicated is False


@pytest.mark.usefixtures("patient")
async def test_a_repeated_key_is_acknowledged_by_what_the_replica_has(pair: Pair) -> None:
    """Although another connection wrote the message, and this one nothing."""
    async with (
        broker_at(pair.master.url) as writer,
        broker_at(pair.master.url, replicas=1) as node,
    ):
        first = await publish(writer, "x", "k")
        again = await publish(node, "x", "k")
        assert (again.duplicate, again.replicated) == (True, True)
        assert again.position == first.position


async def test_a_repeated_key_that_no_replica_has(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replication, "PATIENCE", 0.05)
    async with (
        broker_at(pair.master.url) as writer,
        broker_at(pair.master.url, replicas=1) as node,
    ):
        pair.replica.pause()
        await publish(writer, "x", "k")
        again = await publish(node, "x", "k")
        assert (again.duplicate, again.replicated) == (True, False)


async def test_a_connection_lost_while_replicas_are_asked_leaves_the_message(pair: Pair) -> None:
    async with (
        redis_proxy(pair.master.port) as proxy,
        broker_at(proxy.url, replicas=1) as node,
    ):
        proxy.lose_reply(to=b"WAIT")
        told = await publish(node, "x")
        assert (told.replicated, told.position is not None) == (False, True)
        assert len(RoomInRedis(pair.master).ids()) == 1


async def test_a_user_who_may_not_wait(
    redis_server: RedisServer, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.command("ACL", "SETUSER", "hasty", *rules().split(), ">secret", "-wait")
    url = redis_url.replace("redis://", "redis://hasty:secret@")
    async with broker_at(url, replicas=1) as node:
        assert (await publish(node, "x")).replicated is False
    assert caplog.text.count("redis refuses to wait for replicas: NOPERM") == 1


async def test_a_store_that_ends_tells_who_waits_for_replicas(pair: Pair) -> None:
    """What is on its way then is there, and nobody waits for ever."""
    receipts = Receipts()
    async with broker_at(pair.master.url, replicas=1) as node:
        pair.replica.pause()
        node.broker.submit(draft("x"), KEEP, receipts.take)
        await until(lambda: len(RoomInRedis(pair.master, CHAT).ids()) == 1)
    await asyncio.sleep(0)
    assert (await receipts.published()).replicated is False
