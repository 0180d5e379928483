"""Presence of several nodes on a real Redis, and what may happen to either."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from adapters.redis import presence_audit
from adapters.redis.keyspace import Keyspace
from adapters.redis.presence_room import AttendedRoom
from domain.errors import Unavailable
from domain.identifiers import RoomId, SessionId, UserId
from domain.member import ChangeKind
from tests.contract.conftest import CHAT, GRACE
from tests.peer import until
from tests.presence_nodes import Reader, RedisNode, RedisNodes
from tests.redis_proxy import RedisProxy, redis_proxy
from tests.redis_server import RedisServer, StartRedis

JOIN, LEAVE = ChangeKind.JOIN, ChangeKind.LEAVE
NEWS = RoomId("news")
LEASE = 12  # seconds
DEATH = 20  # seconds until everybody must have been told

pytestmark = pytest.mark.redis


@pytest.fixture(autouse=True)
def _audits_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would notice what is to be noticed at once."""
    monkeypatch.setattr(presence_audit, "INTERVAL", 3600.0)


@pytest.fixture
async def nodes(redis_server: RedisServer, redis_url: str) -> AsyncIterator[RedisNodes]:
    nodes = RedisNodes(redis_server)
    yield nodes
    await nodes.stop()


@pytest.fixture
async def own_nodes(start_redis: StartRedis) -> AsyncIterator[RedisNodes]:
    """Nodes at a server of this test's own."""
    nodes = RedisNodes(start_redis())
    yield nodes
    await nodes.stop()


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[RedisProxy]:
    async with redis_proxy(redis_server.port) as proxy:
        yield proxy


def versions(node: RedisNode) -> list[int]:
    return [change.version for change in node.notes.changes]


# Nodes that die


async def test_a_dead_nodes_users_leave_once(nodes: RedisNodes) -> None:
    one, two, three = [await nodes.start() for _ in range(3)]
    await two.enter("host2")
    await three.enter("host3")
    for user in ("ann", "bob"):
        await one.enter(user)
    await two.enter("bob", "2")
    await nodes.advance(LEASE)
    await one.die()
    await nodes.advance(7)
    assert await two.users() == {"ann": 1, "bob": 2, "host2": 1, "host3": 1}
    await nodes.advance(DEATH - 7)
    for node in (two, three):
        assert await node.users() == {"bob": 1, "host2": 1, "host3": 1}
        assert node.notes.told()[-1] == (LEAVE, "ann")
        assert node.notes.told().count((LEAVE, "ann")) == 1
        assert (LEAVE, "bob") not in node.notes.told()
    assert nodes.client.zrange("hubbub:{nodes}:dead", 0, -1) == []
    assert not nodes.client.exists(f"hubbub:{{nodes}}:rooms:{one.name}")


async def test_what_a_node_left_of_which_nothing_is_known_is_cleared_away(
    nodes: RedisNodes,
) -> None:
    """Its lease is lost, as with a part of a cluster, before anybody has seen it end."""
    one, two, doomed = [await nodes.start() for _ in range(3)]
    await one.enter("ann")
    await two.enter("bob")
    await doomed.enter("gus")
    await doomed.enter("bob", "2")
    name = doomed.name
    await doomed.die()
    nodes.client.zrem("hubbub:{nodes}:leases", name)
    for node in (one, two):
        node.presence.rooms.reread_all("test")
    await nodes.settle()
    await one.presence.orphans.check()
    assert await one.users() == {"ann": 1, "bob": 2, "gus": 1}
    await nodes.advance(LEASE)
    await one.presence.orphans.check()
    await nodes.settle()
    for node in (one, two):
        assert await node.users() == {"ann": 1, "bob": 1}
        assert node.notes.told()[-1] == (LEAVE, "gus")
        assert node.notes.told().count((LEAVE, "gus")) == 1
    await one.presence.orphans.check()
    assert await two.users() == {"ann": 1, "bob": 1}


async def test_a_room_seen_while_others_are_cleared_is_cleared_too(
    nodes: RedisNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, doomed = await nodes.start(), await nodes.start()
    await one.enter("ann")
    for room in (CHAT, NEWS):
        await doomed.enter("gus", room=room)
    name = doomed.name
    await doomed.die()
    nodes.client.zrem("hubbub:{nodes}:leases", name)
    one.presence.rooms.reread_all("test")
    await nodes.settle()
    await one.presence.orphans.check()
    await nodes.advance(LEASE)
    clear = one.presence.janitor.clear_room

    async def come_and_clear(dead: str, room: RoomId) -> None:
        if room == CHAT:
            await one.enter("ann", room=NEWS)
        await clear(dead, room)

    monkeypatch.setattr(one.presence.janitor, "clear_room", come_and_clear)
    async with nodes.time_passing():
        await one.presence.orphans.check()
    await nodes.settle()
    for room in (CHAT, NEWS):
        assert await one.users(room) == {"ann": 1}


async def test_a_node_that_lost_its_lease_and_lives_is_no_orphan(nodes: RedisNodes) -> None:
    one, two = await nodes.start(), await nodes.start()
    await one.enter("ann")
    await two.enter("bob")
    nodes.client.delete("hubbub:{nodes}:leases")
    one.presence.rooms.reread_all("test")
    await nodes.settle()
    for _ in range(4):
        await one.presence.orphans.check()
        await nodes.advance(5)
    for node in (one, two):
        assert await node.users() == {"ann": 1, "bob": 1}
        assert {kind for kind, _ in node.notes.told()} == {JOIN}


async def test_many_that_die_at_once_are_gone_in_the_same_time(nodes: RedisNodes) -> None:
    survivor = await nodes.start()
    await survivor.enter("host")
    dying = [await nodes.start() for _ in range(6)]
    for at, node in enumerate(dying):
        await node.enter(f"user{at}")
    await nodes.advance(LEASE)
    for node in dying:
        await node.die()
    await nodes.advance(DEATH - 1)
    await until(lambda: len(survivor.notes.changes) == 13)  # no more time passes
    assert await survivor.users() == {"host": 1}


async def test_two_janitors_at_once_tell_it_once(nodes: RedisNodes) -> None:
    one, two, three = [await nodes.start() for _ in range(3)]
    await two.enter("host2")
    await three.enter("host3")
    users = [f"user{number:03}" for number in range(50)]
    for user in users:
        await one.enter(user)
        await one.enter(user, room=NEWS)
    await one.die()
    await asyncio.gather(*(node.presence.janitor.clear(one.name) for node in (two, three)))
    await nodes.settle()
    for node in (two, three):
        left = [user for kind, user in node.notes.told() if kind is LEAVE]
        assert sorted(left) == users
        assert await node.users() == {"host2": 1, "host3": 1}
        assert await node.users(NEWS) == {}
    assert versions(two) == list(range(1, 103))


async def test_a_janitor_that_dies_halfway_is_followed(nodes: RedisNodes) -> None:
    one, two, three = [await nodes.start() for _ in range(3)]
    await three.enter("host")
    await three.enter("host", room=NEWS)
    for room in (CHAT, NEWS):
        await one.enter("ann", room=room)
        await one.enter("bob", room=room)
    await nodes.advance(LEASE)
    await one.die()
    await two.presence.janitor.clear_room(one.name, CHAT)
    await two.die()
    await nodes.advance(2 * DEATH)
    for room in (CHAT, NEWS):
        assert await three.users(room) == {"host": 1}
        left = sorted(user for kind, user in three.notes.told(room) if kind is LEAVE)
        assert left == ["ann", "bob"]


async def test_a_dead_nodes_graces_end_at_their_time(nodes: RedisNodes) -> None:
    one, two = await nodes.start(grace=60.0), await nodes.start(grace=60.0)
    await two.enter("host")
    await one.enter("ann")
    await one.leave("ann", clean=False)
    await nodes.advance(LEASE)
    await one.die()
    await nodes.advance(40)
    assert await two.users() == {"ann": 0, "host": 1}
    await two.die()  # it had taken over
    three = await nodes.start(grace=60.0)
    await three.enter("host3")
    await nodes.advance(2 * DEATH)
    assert await three.users() == {"host3": 1}


async def test_a_dead_nodes_graces_end_where_nobody_else_is(nodes: RedisNodes) -> None:
    one, two = await nodes.start(grace=60.0), await nodes.start(grace=60.0)
    await one.enter("ann")
    await one.leave("ann", clean=False)
    await nodes.advance(LEASE)
    await one.die()
    await nodes.advance(DEATH)
    assert await two.users() == {"ann": 0}
    await nodes.advance(40)
    assert nodes.rooms_keys() == []


async def test_a_node_that_slept_too_long_says_again_who_is_there(nodes: RedisNodes) -> None:
    one, two = await nodes.start(), await nodes.start()
    await one.enter("ann")
    await two.enter("bob")
    await nodes.advance(LEASE)
    first_name, one.asleep = one.name, True
    await nodes.advance(DEATH)
    assert await two.users() == {"bob": 1}
    one.asleep = False
    await nodes.advance(5)
    assert one.name != first_name
    for node in (one, two):
        assert await node.users() == {"ann": 1, "bob": 1}
        assert node.notes.told()[-2:] == [(LEAVE, "ann"), (JOIN, "ann")]
    await one.leave("ann")
    assert await two.users() == {"bob": 1}


async def test_after_a_pause_of_everybody_nobody_is_told_to_be_gone(nodes: RedisNodes) -> None:
    """As after a long failure of Redis: all leases ended, and all nodes are there."""
    every = [await nodes.start() for _ in range(3)]
    for at, node in enumerate(every):
        await node.enter(f"user{at}")
    await nodes.advance(LEASE)
    names = [node.name for node in every]
    nodes.pass_time(60.0)
    await nodes.advance(2 * DEATH)
    assert set(names).isdisjoint(node.name for node in every)
    for node in every:
        assert await node.users() == {"user0": 1, "user1": 1, "user2": 1}
        assert {kind for kind, _ in node.notes.told()} == {JOIN}
        assert versions(node) == sorted(set(versions(node)))


async def test_a_node_that_ends_properly_is_not_waited_for(nodes: RedisNodes) -> None:
    one, two = await nodes.start(), await nodes.start()
    await two.enter("host")
    await one.enter("ann")
    await nodes.advance(LEASE)
    one.asleep = True
    await one.stop()
    await nodes.advance(5)
    assert await two.users() == {"host": 1}


async def test_many_who_are_lost_at_once_leave_room_for_messages(
    nodes: RedisNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when whatever stands before this node falls over: everybody leaves in one moment."""
    one, two = await nodes.start(grace=0.0), await nodes.start()
    rooms = [RoomId(f"room-{number}") for number in range(100)]
    for room in rooms:
        await one.enter("ann", room=room)
        await two.enter("bob", room=room)
    calls = vars(one.store)["_calls"]
    monkeypatch.setattr(calls, "_max_calls", 20)
    for room in rooms:
        one.presence.leave(room, SessionId("ann-1"), UserId("ann"), clean=True)
    reply = await one.store.command("k", "PUBLISH", "hubbub:x", "still possible")
    assert reply == 0
    await nodes.settle()
    for room in rooms:
        assert await two.users(room) == {"bob": 1}


# Redis that forgets


async def test_when_redis_forgets_everything_nobody_is_told_to_be_gone(nodes: RedisNodes) -> None:
    one, two = await nodes.start(), await nodes.start()
    for node, user in ((one, "ann"), (two, "bob"), (one, "both"), (two, "both"), (one, "lost")):
        await node.enter(user)
    await one.leave("lost", clean=False)
    await nodes.settle()
    told = [list(node.notes.changes) for node in (one, two)]
    nodes.client.flushall()
    await nodes.advance(5)
    for node, before in zip((one, two), told, strict=True):
        assert await node.users() == {"ann": 1, "bob": 1, "both": 2, "lost": 0}
        assert node.notes.changes == before
    await one.enter("new")
    await nodes.settle()
    assert [node.notes.changes[-1].version for node in (one, two)] == [5, 5]
    await nodes.advance(DEATH)
    for node in (one, two):
        assert await node.users() == {"ann": 1, "bob": 1, "both": 2, "new": 1}
        assert node.notes.told().count((LEAVE, "lost")) == 1
    await one.leave("both")
    await two.leave("both")
    await one.leave("ann")
    assert await two.users() == {"bob": 1, "new": 1}
    assert versions(two) == list(range(versions(two)[0], 9))


async def test_rooms_to_look_into_are_noted_once(
    nodes: RedisNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often Redis goes away and comes back meanwhile."""
    node = await nodes.start()
    for number in range(5):
        room = RoomId(f"room-{number}")
        await node.enter("ann", room=room)
        await node.leave("ann", room=room)
    attended = node.presence.rooms
    await nodes.until(lambda: len(attended) == 0)
    hold, visited, going_on = attended.hold, list[RoomId](), asyncio.Event()

    async def slow(room: RoomId) -> AttendedRoom:
        visited.append(room)
        await going_on.wait()
        return await hold(room)

    monkeypatch.setattr(attended, "hold", slow)
    for _ in range(100):
        attended.revisit()
        await asyncio.sleep(0)
    going_on.set()
    await nodes.until(lambda: {f"room-{n}" for n in range(5)} <= set(visited))
    await nodes.until(lambda: len(attended) == 0)
    assert len(visited) <= 6  # one is looked into twice: it was noted again meanwhile


async def test_who_comes_back_after_redis_forgot_the_grace_was_never_gone(
    nodes: RedisNodes,
) -> None:
    one, two = await nodes.start(), await nodes.start()
    await two.enter("host")
    await one.enter("ann")
    await one.leave("ann", clean=False)
    nodes.client.flushall()
    await nodes.advance(5)
    assert (await two.enter("ann", "2")).joined is False
    await nodes.advance(DEATH)
    assert await two.users() == {"ann": 1, "host": 1}
    assert (LEAVE, "ann") not in two.notes.told()


async def test_who_died_with_redis_memory_is_gone_for_all(nodes: RedisNodes) -> None:
    one, two, three = [await nodes.start() for _ in range(3)]
    for node, user in ((one, "ann"), (two, "bob"), (three, "cid")):
        await node.enter(user)
    await one.die()
    nodes.client.flushall()
    await nodes.advance(2 * DEATH)
    for node in (two, three):
        assert await node.users() == {"bob": 1, "cid": 1}
        assert node.notes.told().count((LEAVE, "ann")) == 1
        assert (LEAVE, "bob") not in node.notes.told()


async def test_who_enters_right_after_redis_forgot_finds_everybody(nodes: RedisNodes) -> None:
    one, two = await nodes.start(), await nodes.start()
    await one.enter("ann")
    await two.enter("bob")
    nodes.client.flushall()
    attendance = await two.enter("cid")
    assert attendance.joined
    assert {member.user for member in attendance.snapshot.members or ()} >= {"bob", "cid"}
    await nodes.advance(DEATH)
    for node in (one, two):
        assert await node.users() == {"ann": 1, "bob": 1, "cid": 1}
        assert {kind for kind, _ in node.notes.told()} == {JOIN}
    assert two.notes.told().count((JOIN, "cid")) == 1


async def test_somebody_new_who_enters_a_forgotten_room_first(nodes: RedisNodes) -> None:
    one, two = await nodes.start(), await nodes.start()
    for user in ("ann", "bob", "cid"):
        await one.enter(user)
    nodes.client.flushall()
    assert (await two.enter("dan")).snapshot.version == 1
    await nodes.advance(DEATH)
    for node in (one, two):
        assert await node.users() == {"ann": 1, "bob": 1, "cid": 1, "dan": 1}
        assert {kind for kind, _ in node.notes.told()} == {JOIN}
        assert versions(node) == sorted(versions(node))
    assert one.notes.changes[-1].version > 3


async def test_a_redis_that_starts_empty(own_nodes: RedisNodes) -> None:
    one, two = await own_nodes.start(), await own_nodes.start()
    await one.enter("ann")
    await two.enter("bob")
    await own_nodes.settle()
    own_nodes.server.kill()
    own_nodes.server.start()
    await until(lambda: own_nodes.client.zcard("hubbub:{nodes}:leases") == 2)
    await own_nodes.until(lambda: len(own_nodes.rooms_keys()) >= 2)
    await own_nodes.advance(DEATH)
    for node in (one, two):
        assert await node.users() == {"ann": 1, "bob": 1}
        assert {kind for kind, _ in node.notes.told()} == {JOIN}


async def test_a_tail_that_redis_lost_is_put_right(nodes: RedisNodes) -> None:
    """As after a failover: Redis knows an earlier state of the same life."""
    one, two = await nodes.start(), await nodes.start()
    await one.enter("ann")
    await two.enter("bob")
    keys = one.presence.rooms.find(CHAT)
    assert keys is not None
    for key in keys.keys[:2]:
        nodes.client.copy(key, f"{key}:before")
    await two.leave("bob")
    await one.enter("cid")
    await two.enter("dan")
    for key in keys.keys[:2]:
        nodes.client.rename(f"{key}:before", key)
    for node in (one, two):
        node.presence.rooms.reread_all("test")
    await nodes.advance(DEATH)
    for node in (one, two):
        assert await node.users() == {"ann": 1, "cid": 1, "dan": 1}
        for user in ("ann", "cid", "dan"):
            assert (LEAVE, user) not in node.notes.told()
        assert versions(node) == sorted(versions(node))


@pytest.mark.parametrize("others", range(1, 6))
async def test_a_tail_that_others_wrote_anew_is_known_to_who_goes_by_versions(
    nodes: RedisNodes, others: int
) -> None:
    """Redis lost three, and others came before the node looked: as many, fewer or more."""
    one, two = await nodes.start(), await nodes.start()
    await one.enter("ann")
    await two.enter("bob")
    await nodes.settle()
    reader = Reader(one)
    keys = one.presence.rooms.find(CHAT)
    assert keys is not None
    for key in keys.keys[:2]:
        nodes.client.copy(key, f"{key}:before")
    for user in ("cid", "dan", "eve"):
        await one.enter(user)
    await nodes.settle()
    for node in (one, two):
        node.deafen()
    for key in keys.keys[:2]:
        nodes.client.rename(f"{key}:before", key)
    written = [f"new{number}" for number in range(others)]
    nodes.client.hset(keys.keys[1], mapping=dict.fromkeys(written, "elsewhere:1|null"))
    for field in ("revision", "version"):
        nodes.client.hincrby(keys.keys[0], field, others)
    for node in (one, two):
        node.hear_again()
        node.presence.rooms.reread_all("test")
    await nodes.settle()
    there = {"ann", "bob", "cid", "dan", "eve", *written}
    assert set(await one.users()) == there
    assert reader.users() == there
    await two.enter("fay")
    await nodes.settle()
    assert reader.users() == {*there, "fay"}


# Feeds that fall silent


async def test_what_was_missed_on_the_feed_is_told_as_a_difference(nodes: RedisNodes) -> None:
    one, two = await nodes.start(), await nodes.start()
    await one.enter("host")
    for user in ("ann", "bob"):
        await two.enter(user)
    await nodes.settle()
    one.deafen()
    await two.enter("cid")
    for user in ("ann", "bob"):
        two.presence.leave(CHAT, SessionId(f"{user}-1"), UserId(user), clean=True)
    await two.notes.heard(5)
    await two.enter("bob", "2")
    await until(lambda: one.missed == 4)
    one.hear_again()
    nodes.client.client_kill_filter(_type="pubsub")
    await nodes.until(lambda: len(one.notes.changes) == 5)
    await nodes.settle()
    assert one.notes.told()[3:] == [(LEAVE, "ann"), (JOIN, "cid")]
    assert versions(one) == [1, 2, 3, 7, 7]
    assert {change.count for change in one.notes.changes[3:]} == {3}
    async with nodes.time_passing():  # the other one may be reading still
        await two.enter("dan")
    await nodes.settle()
    assert versions(one)[-1] == 8


async def test_a_hole_in_the_feed_is_noticed_by_what_follows(nodes: RedisNodes) -> None:
    one, two = await nodes.start(), await nodes.start()
    await one.enter("host")
    await nodes.settle()
    one.deafen()
    await two.enter("ann")
    await until(lambda: one.missed == 1)
    one.hear_again()
    await two.enter("bob")
    await nodes.until(lambda: len(one.notes.changes) == 3)
    assert one.notes.told()[1:] == [(JOIN, "ann"), (JOIN, "bob")]


async def test_a_record_lost_with_nothing_behind_it_is_noticed(nodes: RedisNodes) -> None:
    one, two = await nodes.start(), await nodes.start()
    await one.enter("host")
    await nodes.settle()
    one.deafen()
    await two.enter("ann")
    await until(lambda: one.missed == 1)
    one.hear_again()
    await one.presence.audit.look(list(one.presence.rooms))
    await nodes.until(lambda: len(one.notes.changes) == 2)
    assert one.notes.told()[1:] == [(JOIN, "ann")]


async def test_a_room_that_redis_lost_unnoticed_is_noticed(nodes: RedisNodes) -> None:
    one = await nodes.start()
    await one.enter("ann")
    room = one.presence.rooms.find(CHAT)
    assert room is not None
    nodes.client.delete(*room.keys)
    await one.presence.audit.look([room])
    await nodes.until(lambda: bool(nodes.client.exists(room.keys[1])))
    await nodes.settle()
    assert await one.users() == {"ann": 1}
    assert one.notes.told() == [(JOIN, "ann")]


async def test_who_enters_is_not_kept_waiting_by_a_silent_feed(nodes: RedisNodes) -> None:
    one = await nodes.start()
    await one.enter("host")
    one.deafen()
    entering = asyncio.create_task(one.enter("ann"))
    await nodes.until(entering.done)
    attendance = entering.result()
    assert [member.user for member in attendance.snapshot.members or ()] == ["ann", "host"]
    assert one.notes.told() == [(JOIN, "host"), (JOIN, "ann")]


async def test_who_enters_finds_nothing_that_was_not_told(nodes: RedisNodes) -> None:
    """However much later than the answer the feed is."""
    one = await nodes.start()
    await one.enter("host")
    late: list[tuple[str, bytes]] = []
    rooms = one.presence.rooms
    vars(rooms)["received"] = lambda channel, payload: late.append((channel, payload))
    entering = asyncio.create_task(one.enter("ann"))
    await until(lambda: bool(late))
    assert not entering.done()
    one.hear_again()
    for channel, payload in late:
        rooms.received(channel, payload)
    snapshot = (await entering).snapshot
    assert (snapshot.count, snapshot.version) == (2, 2)
    assert one.notes.told() == [(JOIN, "host"), (JOIN, "ann")]


async def test_feeds_cut_again_and_again(nodes: RedisNodes) -> None:
    one, two = await nodes.start(), await nodes.start()
    await one.enter("host1")
    await two.enter("host2")
    async with nodes.time_passing():
        for number in range(30):
            user = f"user{number}"
            await one.enter(user)
            if number % 3 == 0:
                nodes.client.client_kill_filter(_type="pubsub")
            await two.enter(user, "2")
            if number % 2:
                one.presence.leave(CHAT, SessionId(f"{user}-1"), UserId(user), clean=True)
                two.presence.leave(CHAT, SessionId(f"{user}-2"), UserId(user), clean=True)
    await nodes.advance(5)
    expected = {"host1": 1, "host2": 1, **{f"user{at}": 2 for at in range(0, 30, 2)}}
    for node in (one, two):
        assert await node.users() == expected
        present: set[str] = set()
        for kind, user in node.notes.told():
            assert (user in present) == (kind is LEAVE)
            present ^= {user}
        assert present | {"host1"} == set(expected)


async def test_junk_on_a_feed_changes_nothing(
    nodes: RedisNodes, caplog: pytest.LogCaptureFixture
) -> None:
    one = await nodes.start()
    await one.enter("ann")
    feed = Keyspace().room(CHAT).feed
    with caplog.at_level(logging.ERROR, logger="hubbub.presence"):
        for junk in (b"P", b"P9 of a later version", b"", b"\xff\xfe", b"Mnot ours"):
            nodes.client.publish(feed, junk)
        await until(lambda: len(caplog.records) == 2)
    await nodes.advance(2)
    await one.enter("bob")
    assert await one.users() == {"ann": 1, "bob": 1}
    assert one.notes.told() == [(JOIN, "ann"), (JOIN, "bob")]


# A Redis that is away


async def test_while_redis_is_away_nobody_enters_and_nothing_is_left(
    own_nodes: RedisNodes,
) -> None:
    one = await own_nodes.start()
    await one.enter("host")
    own_nodes.server.pause()
    with pytest.raises(Unavailable):
        await one.enter("ann")
    with pytest.raises(Unavailable):
        await one.enter("ann", room=NEWS)
    own_nodes.server.resume()
    await until(lambda: one.store.healthy and one.channels.healthy)
    await own_nodes.advance(5)
    assert await one.users() == {"host": 1}
    assert await one.users(NEWS) == {}
    assert (await one.enter("ann")).joined


async def test_who_leaves_while_redis_is_away_is_gone_afterwards(own_nodes: RedisNodes) -> None:
    one, two = await own_nodes.start(), await own_nodes.start()
    for node, user in ((one, "ann"), (one, "bob"), (two, "host")):
        await node.enter(user)
    await own_nodes.settle()
    own_nodes.server.pause()
    one.presence.leave(CHAT, SessionId("ann-1"), UserId("ann"), clean=True)
    one.presence.leave(CHAT, SessionId("bob-1"), UserId("bob"), clean=False)
    await until(lambda: not one.store.healthy)
    with pytest.raises(Unavailable):  # by now the leaves are given up, too
        await one.presence.snapshot(NEWS)
    own_nodes.server.resume()
    await until(lambda: one.store.healthy and two.channels.healthy)
    await own_nodes.advance(2)
    assert await two.users() == {"bob": 0, "host": 1}
    await own_nodes.advance(GRACE + 1)
    assert await two.users() == {"host": 1}
    assert two.notes.told() == [(JOIN, "host"), (LEAVE, "ann"), (LEAVE, "bob")]


async def test_a_reply_that_got_lost_is_no_second_join(
    nodes: RedisNodes, proxy: RedisProxy
) -> None:
    one, two = await nodes.start(proxy.url), await nodes.start()
    await two.enter("host")
    await one.enter("guest")
    proxy.lose_reply(b"ann")
    await one.enter("ann")
    await nodes.advance(2)
    assert await two.users() == {"ann": 1, "guest": 1, "host": 1}
    assert two.notes.told() == [(JOIN, "host"), (JOIN, "guest"), (JOIN, "ann")]
    assert one.notes.told().count((JOIN, "ann")) == 1


async def test_an_entry_that_is_called_off_is_taken_back_by_a_leave(nodes: RedisNodes) -> None:
    one, two = await nodes.start(), await nodes.start()
    await two.enter("host")
    for user in ("ann", "bob", "cid"):
        entering = asyncio.create_task(one.enter(user))
        await asyncio.sleep(0)
        entering.cancel()
        await asyncio.wait({entering})
        assert entering.cancelled()
        await one.leave(user)
    await nodes.settle()
    assert await two.users() == {"host": 1}
    assert one.presence.settled


# What is left behind


async def test_an_idle_room_leaves_nothing_behind(nodes: RedisNodes) -> None:
    one, two = await nodes.start(), await nodes.start()
    for node in (one, two):
        for room in (CHAT, NEWS):
            await node.enter("ann", room=room)
            await node.enter("bob", room=room)
    for node in (one, two):
        for room in (CHAT, NEWS):
            await node.leave("ann", room=room)
            await node.leave("bob", room=room, clean=False)
    await nodes.advance(GRACE + 5)
    assert nodes.rooms_keys() == []
    assert [len(node.presence.rooms) for node in (one, two)] == [0, 0]
    assert nodes.client.pubsub_channels("hubbub:*:feed") == []
    for node in (one, two):
        node.presence.audit.dismiss()
    await nodes.advance(60)
    for node in (one, two):
        node.presence.audit.dismiss()
    await until(lambda: not list(nodes.client.scan_iter("hubbub:{nodes}:rooms:*")))
    assert await one.users() == {}


async def test_versions_go_on_where_a_room_was_left(nodes: RedisNodes) -> None:
    one = await nodes.start()
    await one.enter("ann")
    await one.leave("ann")
    await nodes.advance(5)
    assert len(one.presence.rooms) == 0
    assert (await one.enter("bob")).snapshot.version == 3


NAMES = ("J", "0", "-1", ".", "..", "a:b", "a:b:1", "~", "a@b", "__proto__", "x" * 128)


async def test_whatever_the_names_are(nodes: RedisNodes) -> None:
    one, two = await nodes.start(), await nodes.start()
    rooms = [RoomId(name) for name in (*NAMES, "nodes", "who", "users", "grace", "feed", "@ann")]
    users = (*NAMES, one.name, two.name, f"{one.name}:1")
    for room in rooms:
        for user in users:
            await one.enter(user, room=room, info=f'"{one.name}:7|,"'.encode())
        await two.enter(users[0], "2", room=room)
    await nodes.settle()
    for room in rooms:
        expected = {**dict.fromkeys(users, 1), users[0]: 2}
        assert await one.users(room) == await two.users(room) == expected
    for user in users:
        await one.leave(user, room=rooms[0])
    assert await two.users(rooms[0]) == {users[0]: 1}
    assert await two.users(rooms[1]) == expected
    await one.die()
    await two.presence.janitor.clear(one.name)
    for room in rooms:
        assert await two.users(room) == {users[0]: 1}
