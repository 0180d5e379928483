"""On real Redis: whoever listens hears everything, or is told that it may have missed something."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from adapters.redis import channels, ear
from adapters.redis.channels import HEARTBEAT
from domain.errors import Unavailable
from tests.peer import DEADLINE, until
from tests.redis_notes import Notes, RedisNode
from tests.redis_proxy import redis_proxy
from tests.redis_server import RedisServer, StartRedis
from tests.running import running

pytestmark = pytest.mark.redis

FEED = "{room}:feed"
OTHER = "{other}:feed"
QUICK = 0.2  # seconds between pulses, where deafness is to be noticed


@asynccontextmanager
async def listening(url: str, heartbeat: float = HEARTBEAT) -> AsyncIterator[RedisNode]:
    node = RedisNode(url, heartbeat)
    async with running(node.store, node.channels):
        await node.healthy()
        yield node


async def test_what_is_published_is_heard_by_all_who_listen(redis_url: str) -> None:
    async with listening(redis_url) as one, listening(redis_url) as two:
        notes = [Notes(), Notes(), Notes()]
        await one.channels.subscribe(FEED, notes[0])
        await one.channels.subscribe(FEED, notes[1])
        await two.channels.subscribe(FEED, notes[2])
        for number in range(100):
            await one.publish(b"\x00%d" % number, FEED)
        for heard in notes:
            assert await heard.number(100) == [b"\x00%d" % number for number in range(100)]
        assert {channel for channel, _ in notes[0].all} == {FEED}


async def test_from_its_confirmation_on_everything_is_heard(redis_url: str) -> None:
    async with listening(redis_url) as node:
        for number in range(50):
            notes, channel = Notes(), f"{{{number}}}:feed"
            await node.channels.subscribe(channel, notes)
            assert await node.publish("x", channel) == 1
            assert await notes.number(1) == [b"x"]


async def test_only_one_channel_is_heard(redis_url: str) -> None:
    async with listening(redis_url) as node:
        notes = Notes()
        await node.channels.subscribe(FEED, notes)
        await node.publish("not for us", OTHER)
        await node.publish("for us", FEED)
        assert await notes.number(1) == [b"for us"]


async def test_who_unsubscribes_hears_nothing(redis_url: str) -> None:
    async with listening(redis_url) as node:
        stays, leaves = Notes(), Notes()
        await node.channels.subscribe(FEED, stays)
        await node.channels.subscribe(FEED, leaves)
        await node.channels.subscribe(FEED, leaves)
        node.channels.unsubscribe(FEED, leaves)
        node.channels.unsubscribe(FEED, leaves)
        assert await node.publish("x", FEED) == 1
        await stays.number(1)
        node.channels.unsubscribe(FEED, stays)
        node.channels.unsubscribe(OTHER, stays)
        # The connection of the subscriptions has taken the command by the time it answers this.
        await node.channels.subscribe(OTHER, stays)
        assert await node.publish("y", FEED) == 0
        assert leaves.all == []
        assert len(stays.all) == 1


async def test_a_listener_may_leave_while_it_is_told(redis_url: str) -> None:
    class Leaves(Notes):
        def received(self, channel: str, payload: bytes) -> None:
            super().received(channel, payload)
            node.channels.unsubscribe(channel, self)

    async with listening(redis_url) as node:
        leaves, stays = Leaves(), Notes()
        await node.channels.subscribe(FEED, leaves)
        await node.channels.subscribe(FEED, stays)
        await node.publish("x", FEED)
        await node.publish("y", FEED)
        assert await stays.number(2) == [b"x", b"y"]
        assert leaves.all == [(FEED, b"x")]


async def test_leaving_and_coming_back_at_once(redis_url: str) -> None:
    async with listening(redis_url) as node:
        notes = Notes()
        for _ in range(20):
            await node.channels.subscribe(FEED, notes)
            node.channels.unsubscribe(FEED, notes)
        await node.channels.subscribe(FEED, notes)
        await node.channels.subscribe(OTHER, Notes())  # everything before has been answered
        before = len(notes.all)
        await node.publish("x", FEED)
        assert (await notes.number(before + 1))[-1] == b"x"


async def test_many_channels_survive_a_lost_connection(
    redis_server: RedisServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ear, "_BATCH", 7)
    async with listening(redis_url) as node:
        names = [f"{{{number}}}:feed" for number in range(100)]
        notes = [Notes() for _ in names]
        await asyncio.gather(*map(node.channels.subscribe, names, notes))
        for round_ in range(1, 4):
            redis_server.command("CLIENT", "KILL", "TYPE", "pubsub")
            for name, heard in zip(names, notes, strict=True):
                assert (await heard.number(2 * round_ - 1))[-1] is None
                assert await node.publish("x", name) == 1
                assert (await heard.number(2 * round_))[-1] == b"x"
        await node.healthy()


async def test_a_restarted_server_is_listened_to(start_redis: StartRedis) -> None:
    server = start_redis()
    async with listening(server.url) as node:
        notes = Notes()
        await node.channels.subscribe(FEED, notes)
        server.kill()
        await until(lambda: not node.channels.healthy)
        server.start()
        assert await notes.number(1) == [None]
        assert await node.publish("x", FEED) == 1
        await notes.number(2)
        await node.healthy()


async def test_a_deaf_connection_is_replaced(redis_server: RedisServer, redis_url: str) -> None:
    async with redis_proxy(redis_server.port) as proxy, listening(proxy.url, QUICK) as node:
        notes = Notes()
        await node.channels.subscribe(FEED, notes)
        proxy.deafen()
        assert await node.publish("missed", FEED) == 1
        await until(lambda: not node.channels.healthy)
        assert node.store.healthy
        proxy.heal()
        assert await notes.number(1) == [None]
        await node.publish("heard", FEED)
        await notes.until(lambda: (FEED, b"heard") in notes.all)
        assert (FEED, b"missed") not in notes.all
        await node.healthy()


async def test_a_server_that_hangs_and_goes_on(start_redis: StartRedis) -> None:
    server = start_redis()
    async with listening(server.url) as node:
        notes = Notes()
        await node.channels.subscribe(FEED, notes)
        server.pause()
        publishing = asyncio.ensure_future(node.publish("sent before", FEED))
        await until(lambda: not node.store.healthy)
        server.resume()
        await asyncio.wait([publishing])
        await node.healthy()
        await node.publish("heard", FEED)
        await notes.until(lambda: (FEED, b"heard") in notes.all)


async def test_a_subscription_that_nobody_confirms(
    redis_server: RedisServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with redis_proxy(redis_server.port) as proxy, listening(proxy.url, QUICK) as node:
        known, late = Notes(), Notes()
        await node.channels.subscribe(FEED, known)
        monkeypatch.setattr(channels, "SUBSCRIBE_DEADLINE", 0.2)
        proxy.deafen()
        accepted = proxy.accepted
        with pytest.raises(Unavailable):
            await node.channels.subscribe(OTHER, late)
        await until(lambda: proxy.accepted > accepted)
        with pytest.raises(Unavailable):
            await node.channels.subscribe(FEED, late)
        with pytest.raises(Unavailable):
            await node.channels.subscribe(FEED, known)
        proxy.heal()
        assert await known.number(1) == [None]
        await node.publish("x", OTHER)
        await node.publish("x", FEED)
        await known.until(lambda: (FEED, b"x") in known.all)
        assert late.all == []


async def test_who_waits_for_what_is_ended_is_told(redis_server: RedisServer) -> None:
    async with redis_proxy(redis_server.port) as proxy, listening(proxy.url) as node:
        proxy.deafen()
        notes = Notes()
        subscribing = asyncio.ensure_future(node.channels.subscribe(FEED, notes))
        await asyncio.sleep(0)
        node.channels.unsubscribe(FEED, notes)
        with pytest.raises(Unavailable):
            await subscribing


async def test_a_cancelled_subscription_leaves_nothing(redis_server: RedisServer) -> None:
    async with redis_proxy(redis_server.port) as proxy, listening(proxy.url) as node:
        proxy.hold_replies()
        subscribing = asyncio.ensure_future(node.channels.subscribe(FEED, Notes()))
        await asyncio.sleep(0)
        subscribing.cancel()
        await asyncio.wait([subscribing])
        proxy.heal()
        await node.channels.subscribe(OTHER, Notes())
        assert redis_server.command("PUBSUB", "NUMSUB", FEED) == [FEED, 0]


async def test_a_listeners_bug_ends_it(redis_url: str) -> None:
    class Fails(Notes):
        def received(self, channel: str, payload: bytes) -> None:
            raise RuntimeError("a bug")

    node = RedisNode(redis_url)
    async with running(node.store):
        task = asyncio.ensure_future(node.channels.run())
        await node.channels.subscribe(FEED, Fails())
        await node.publish("x", FEED)
        with pytest.raises(ExceptionGroup) as raised:
            await asyncio.wait_for(task, DEADLINE)
        assert raised.group_contains(RuntimeError, match="a bug")
        assert not node.channels.healthy


async def test_a_user_who_may_not_listen(
    start_redis: StartRedis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_redis("user ann on >s3cret ~* resetchannels &hubbub:* +@all")
    async with listening(f"redis://ann:s3cret@{server.address}") as node:
        await node.channels.subscribe("hubbub:" + FEED, Notes())
        monkeypatch.setattr(channels, "SUBSCRIBE_DEADLINE", 0.3)
        with pytest.raises(Unavailable):
            await node.channels.subscribe(FEED, Notes())
    assert caplog.text.count("refuses a subscription") == 1
    assert "s3cret" not in caplog.text


async def test_over_tls_as_a_user_of_its_own(
    start_redis: StartRedis, cert: tuple[str, str]
) -> None:
    server = start_redis("user ann on >p@ss ~* &* +@all")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*cert)
    async with redis_proxy(server.port, context) as proxy:
        url = f"rediss://ann:p%40ss@127.0.0.1:{proxy.port}/3?ssl_ca_certs={cert[0]}"
        async with listening(url) as node:
            notes = Notes()
            await node.channels.subscribe(FEED, notes)
            await node.publish("x", FEED)
            assert await notes.number(1) == [b"x"]
            proxy.drop()
            assert await notes.number(2) == [b"x", None]
            shown = await node.store.command("k", "CLIENT", "INFO")
            assert b" db=3 " in shown
            assert b" user=ann " in shown


async def test_over_a_unix_socket(redis_server: RedisServer) -> None:
    async with listening(f"unix://{redis_server.socket}") as node:
        notes = Notes()
        await node.channels.subscribe(FEED, notes)
        await node.publish("x", FEED)
        assert await notes.number(1) == [b"x"]
