"""Names and leases of nodes, on a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapters.redis.lease import LENGTH, Lease
from adapters.redis.presence_scripts import NodeKeys
from adapters.redis.store import Store
from domain.errors import HubbubError, Unavailable
from domain.identifiers import RoomId
from tests.contract.conftest import CHAT, Clock
from tests.peer import DEADLINE, until
from tests.redis_proxy import redis_proxy
from tests.redis_server import RedisServer
from tests.redis_user import as_hubbub
from tests.running import running

KEYS = NodeKeys()
NEWS = RoomId("news")

pytestmark = pytest.mark.redis


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    store = Store(as_hubbub(redis_url))
    async with running(store):
        await until(lambda: store.healthy)
        yield store


@pytest.fixture
def lease(store: Store, clock: Clock) -> Lease:
    return Lease(store, KEYS, clock)


def rooms(server: RedisServer, node: str) -> set[str]:
    listed: Any = server.command("SMEMBERS", KEYS.rooms(node))
    return set(listed)


async def test_a_node_has_a_name_once_it_holds_a_lease(
    lease: Lease, redis_server: RedisServer
) -> None:
    assert lease.node == ""
    await lease.hold()
    assert (lease.node, lease.former) != ("", "")
    assert redis_server.command("ZCARD", KEYS.leases) == 1
    name = lease.node
    await lease.hold()
    await lease.renew()
    assert (lease.node, lease.former) == (name, "")


async def test_a_lost_lease_makes_a_new_name_that_takes_over_the_rooms(
    lease: Lease, redis_server: RedisServer
) -> None:
    told = []
    lease.on_renamed(lambda: told.append((lease.former, lease.node)))
    await lease.renew()
    first = lease.node
    assert told == []
    await lease.register(CHAT)
    redis_server.command("FLUSHALL")
    await lease.renew()
    assert told == [(first, lease.node)]
    assert first != lease.node
    assert rooms(redis_server, lease.node) == {CHAT}
    assert rooms(redis_server, first) == set()


async def test_a_room_is_listed_under_the_name_that_counts_afterwards(
    redis_server: RedisServer, redis_url: str, clock: Clock
) -> None:
    async with redis_proxy(redis_server.port) as proxy:
        store = Store(as_hubbub(proxy.url))
        async with running(store):
            lease = Lease(store, KEYS, clock)
            await lease.renew()
            first = lease.node
            redis_server.command("ZREM", KEYS.leases, first)
            proxy.hold_requests()
            registering = asyncio.create_task(lease.register(CHAT))
            renewing = asyncio.create_task(lease.renew())
            await asyncio.sleep(0)
            proxy.heal()
            await asyncio.gather(registering, renewing)
    assert lease.node != first
    assert rooms(redis_server, lease.node) == {CHAT}
    assert lease.rooms == {CHAT}


async def test_a_room_registered_while_the_name_changes_is_listed_under_the_new_one(
    lease: Lease, store: Store, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever clears the node away would not look into it, and its members would stay for ever."""
    await lease.renew()
    await lease.register(CHAT)
    redis_server.command("ZREM", KEYS.leases, lease.node)
    former, command, listing = lease.node, store.command, asyncio.Event()
    registered = asyncio.Event()

    async def slow(key: str, *words: Any, **options: Any) -> Any:
        if key != KEYS.rooms(former) and words[0] == "SADD":
            listing.set()
            await registered.wait()
        return await command(key, *words, **options)

    monkeypatch.setattr(store, "command", slow)
    renewing = asyncio.create_task(lease.renew())
    await listing.wait()
    await lease.register(NEWS)
    registered.set()
    await renewing
    assert lease.node != former
    assert rooms(redis_server, lease.node) == {CHAT, NEWS}


async def test_rooms_that_were_left_are_taken_from_the_list(
    lease: Lease, redis_server: RedisServer
) -> None:
    await lease.renew()
    for room in (CHAT, NEWS):
        await lease.register(room)
    lease.dismiss([CHAT])
    await until(lambda: rooms(redis_server, lease.node) == {NEWS})
    assert lease.rooms == {NEWS}
    await lease.register(CHAT)
    assert rooms(redis_server, lease.node) == {CHAT, NEWS}


async def test_a_lease_about_to_end_is_renewed_before_it_is_relied_upon(
    lease: Lease, clock: Clock, redis_server: RedisServer
) -> None:
    await lease.hold()
    ends = redis_server.command("ZSCORE", KEYS.leases, lease.node)
    clock.now += LENGTH / 2
    await lease.hold()
    assert redis_server.command("ZSCORE", KEYS.leases, lease.node) == ends
    clock.now += LENGTH / 2
    redis_server.command("ZINCRBY", KEYS.leases, -1000, lease.node)
    await lease.hold()
    assert redis_server.command("ZSCORE", KEYS.leases, lease.node) > ends - 1000


async def test_all_who_wait_for_a_lease_fail_together(
    store: Store, lease: Lease, redis_server: RedisServer
) -> None:
    """One after the other, each with a deadline of its own, would take ten times as long."""
    redis_server.pause()
    try:
        async with asyncio.timeout(DEADLINE):
            outcomes = await asyncio.gather(
                *(lease.hold() for _ in range(50)), return_exceptions=True
            )
    finally:
        redis_server.resume()
    assert len(outcomes) == 50
    assert all(isinstance(outcome, HubbubError) for outcome in outcomes)
    assert isinstance(outcomes[-1], Unavailable)
    await until(lambda: store.healthy)
    await lease.hold()


async def test_only_who_has_seen_a_lease_go_by_in_peace_judges_others(
    store: Store, lease: Lease, clock: Clock, redis_server: RedisServer
) -> None:
    found: list[str] = []
    lease.on_dead(found.append)
    other = Lease(store, KEYS, clock)
    await other.renew()
    redis_server.command("ZADD", KEYS.leases, 1, other.node)
    await lease.renew()
    for _ in range(2):
        clock.now += 5
        await lease.renew()
    assert found == []
    clock.now += 7  # too late to know whether it was alone in that
    await lease.renew()
    for _ in range(2):
        clock.now += 5
        await lease.renew()
    assert found == []
    clock.now += 5
    await lease.renew()
    assert found == [other.node]


async def test_a_lease_given_up_ends_at_once(lease: Lease, redis_server: RedisServer) -> None:
    lease.resign()
    await lease.renew()
    lease.resign()
    await until(lambda: redis_server.command("ZSCORE", KEYS.leases, lease.node) == 0)
