"""The broker on a real Redis that loses what it can lose: closed from the log, or told."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from adapters.redis import feed as feed_module
from adapters.redis import feeds as feeds_module
from adapters.redis import store as store_module
from adapters.redis.feed import Feed
from adapters.redis.records import MESSAGE_HEAD
from adapters.redis.replica import LogView
from adapters.redis.room_log import NEWEST, RoomLog
from domain.errors import HubbubError, OutcomeUnknown, Unavailable
from domain.identifiers import RoomId
from domain.options import Retention
from domain.timeline import Outcome, PageRequest, Recovery
from tests.contract.conftest import CHAT, KEEP, draft
from tests.peer import until
from tests.redis_brokers import RedisBrokerNode, RoomInRedis, broker_at, followers_at
from tests.redis_proxy import RedisProxy, redis_proxy
from tests.redis_server import RedisServer, StartRedis
from tests.redis_user import rules
from tests.running import running

pytestmark = pytest.mark.redis


@pytest.fixture
def room(redis_server: RedisServer, redis_url: str) -> RoomInRedis:
    return RoomInRedis(redis_server)


@asynccontextmanager
async def proxied(
    server: RedisServer, count: int = 1, keep: Retention = KEEP
) -> AsyncIterator[tuple[RedisProxy, list[RedisBrokerNode]]]:
    """Followers behind a proxy."""
    async with (
        redis_proxy(server.port) as proxy,
        followers_at(*[proxy.url] * count, keep=keep) as nodes,
    ):
        yield proxy, nodes


async def fill(node: RedisBrokerNode, count: int, keep: Retention = KEEP) -> None:
    receipts = [node.submit(str(number), keep=keep) for number in range(count)]
    for receipt in receipts:
        await receipt.published()


def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let comparisons with Redis wait for nothing that is on its way."""
    monkeypatch.setattr(feeds_module, "GRACE", 0.0)


# What Redis evicts


async def test_an_evicted_log_goes_on_counting_without_a_word(room: RoomInRedis) -> None:
    async with followers_at(room.server.url) as (node,):
        await fill(node, 5)
        room.forget("log")
        await fill(node, 3)
        await node.notes.reaches(8)
        assert (node.notes.outcomes, list(room.ids())) == ([], [6, 7, 8])


async def test_an_evicted_log_is_a_gap_for_who_missed_something(room: RoomInRedis) -> None:
    async with followers_at(room.server.url) as (node,):
        await fill(node, 5)
        await node.notes.reaches(5)
        room.publish_unheard("6")
        room.forget("log")
        await fill(node, 1)
        await node.notes.reaches(7)
        assert node.notes.told == [Recovery(Outcome.GAP, first=7)]


@pytest.mark.parametrize("kinds", [("meta",), ("meta", "log")])
async def test_a_room_that_begins_again_is_told_and_heard_from_its_first_message(
    room: RoomInRedis, kinds: tuple[str, ...]
) -> None:
    async with followers_at(room.server.url) as (node,):
        await fill(node, 5)
        await node.notes.reaches(5)
        before = node.notes.at
        room.forget(*kinds)
        receipt = await node.publish("new")
        await node.notes.until(lambda: node.notes.at.epoch != before.epoch)
        await node.notes.reaches(1)
        assert node.notes.outcomes == ["reset"]
        assert node.notes.ids() == {1: receipt.message_id} == room.ids()
        await fill(node, 3)
        await node.notes.reaches(4)
        assert node.notes.outcomes == ["reset"]


@pytest.mark.parametrize("reigns", [1, 2])
async def test_a_room_that_began_again_long_ago_is_heard_from_its_first_message(
    start_redis: StartRedis, reigns: int
) -> None:
    """Longer ago than what is delivered at once, perhaps by a store that is followed by now."""
    server = start_redis("appendonly yes", "appendfsync always")
    room = RoomInRedis(server)
    async with proxied(server) as (proxy, (node,)):
        await fill(node, 5)
        await node.notes.reaches(5)
        proxy.refuse()
        proxy.drop()
        room.forget("meta", "log")
        for reign in range(reigns):
            if reign:
                server.stop()
                server.start()
            for number in range(3 * NEWEST):
                room.publish_unheard(f"{reign}-{number}")
        await proxy.listen()
        await node.notes.until(lambda: bool(node.notes.told))
        await node.healthy()
        await node.settled()
        assert node.notes.outcomes == ["reset", "ok"]
        assert node.notes.ids() == room.ids()


async def test_a_store_that_lost_everything_is_noticed_in_silence(
    room: RoomInRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once(monkeypatch)
    monkeypatch.setattr(feeds_module, "CHECK", 0.05)
    async with followers_at(room.server.url) as (node,):
        await fill(node, 5)
        await node.notes.reaches(5)
        room.server.command("FLUSHALL")
        await node.notes.until(lambda: node.notes.outcomes == ["reset"])
        assert node.notes.at.seq == 0
        await node.settled()
        assert (node.notes.outcomes, node.notes.at.seq) == (["reset"], 1)


async def test_many_rooms_lost_at_once_come_back(
    room: RoomInRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once(monkeypatch)
    rooms = [RoomId(f"room{number}") for number in range(200)]
    async with broker_at(room.server.url) as node:
        for name in rooms:
            await node.broker.subscribe(name, KEEP)
            await node.publish("before", name)
        await node.notes.until(lambda: all(node.notes.seqs(name) == [1] for name in rooms))
        room.server.command("FLUSHALL")
        await node.broker.check()
        await node.notes.until(lambda: all(node.notes.interruptions(name) == 1 for name in rooms))
        await node.publish("after", rooms[-1])
        await node.notes.until(lambda: node.notes.seqs(rooms[-1]) == [1, 1])


# Other reigns


async def test_a_restart_that_loses_nothing_goes_without_a_word(start_redis: StartRedis) -> None:
    server = start_redis("appendonly yes", "appendfsync always")
    async with followers_at(server.url, server.url) as (one, other):
        await fill(one, 5)
        await other.notes.reaches(5)
        term = one.notes.at.term
        server.stop()
        server.start()
        await asyncio.gather(one.healthy(), other.healthy())
        await fill(one, 5)
        for node in (one, other):
            await node.notes.reaches(10)
            assert node.notes.outcomes == []
            assert node.notes.at.term != term
        assert one.notes.ids() == other.notes.ids() == RoomInRedis(server).ids()


async def test_a_position_from_before_a_restart_is_good_after_it(start_redis: StartRedis) -> None:
    server = start_redis("appendonly yes", "appendfsync always")
    async with followers_at(server.url) as (node,):
        await fill(node, 5)
        await node.notes.reaches(5)
        before = node.notes.at._replace(seq=3)
        server.kill()
        server.start()
        await node.healthy()
        await fill(node, 2)
        await node.notes.reaches(7)
        timeline = node.broker.timeline(CHAT)
        assert timeline is not None
        replay = timeline.recover(before)
        assert (replay.recovery.outcome, len(replay.messages)) == (Outcome.OK, 4)
    async with followers_at(server.url) as (fresh,):
        timeline = fresh.broker.timeline(CHAT)
        assert timeline is not None
        assert timeline.recover(before) == replay


class Pair:
    """A master and a replica of it, that may be cut off and then be promoted."""

    def __init__(self, start_redis: StartRedis, *config: str) -> None:
        self.master = start_redis("repl-diskless-sync-delay 0", *config)
        self.replica = start_redis("repl-diskless-sync-delay 0", *config)
        self.follow()

    def follow(self) -> None:
        self.replica.command("REPLICAOF", "127.0.0.1", self.master.port)

    async def replicated(self) -> None:
        def offset(server: RedisServer, field: str) -> int:
            return int(server.command("INFO", "replication").get(field, -1))

        await until(
            lambda: (
                self.replica.command("INFO", "replication")["master_link_status"] == "up"
                and offset(self.replica, "slave_repl_offset")
                == offset(self.master, "master_repl_offset")
            )
        )

    def cut_off(self) -> None:
        """What the master does from now on is lost. The replica remains what it is."""
        self.replica.command("REPLICAOF", "127.0.0.1", 1)

    def fail_over(self, *proxies: RedisProxy) -> None:
        """Promote the replica, and lead everybody there."""
        self.replica.command("REPLICAOF", "NO", "ONE")
        for proxy in proxies:
            proxy.target = self.replica.port
            proxy.drop()


async def test_a_lost_tail_is_rewound_before_anything_new_is_said(
    start_redis: StartRedis,
) -> None:
    pair = Pair(start_redis)
    async with proxied(pair.master, 2) as (proxy, (one, other)):
        await fill(one, 5)
        await pair.replicated()
        pair.cut_off()
        await fill(one, 3)
        for node in (one, other):
            await node.notes.reaches(8)
        pair.fail_over(proxy)
        for node in (one, other):
            await node.notes.until(lambda notes=node.notes: bool(notes.told))  # type: ignore[misc]
            assert node.notes.told == [Recovery(Outcome.REWOUND, valid_to=5)]
            assert list(node.notes.ids()) == [1, 2, 3, 4, 5]
        await fill(other, 4)
        for node in (one, other):
            await node.notes.reaches(9)
            assert len(node.notes.told) == 1
        assert one.notes.ids() == other.notes.ids() == RoomInRedis(pair.replica).ids()


async def test_a_lost_tail_is_rewound_with_what_came_instead(start_redis: StartRedis) -> None:
    """The tail is written anew by somebody else, longer than it was, before the node is back."""
    pair = Pair(start_redis)
    async with proxied(pair.master) as (proxy, (node,)):
        await fill(node, 5)
        await pair.replicated()
        pair.cut_off()
        await fill(node, 3)
        await node.notes.reaches(8)
        pair.fail_over()
        async with broker_at(pair.replica.url) as elsewhere:
            await fill(elsewhere, 10)
        pair.fail_over(proxy)
        await node.notes.reaches(15)
        assert node.notes.told == [Recovery(Outcome.REWOUND, valid_to=5)]
        assert node.notes.ids() == RoomInRedis(pair.replica).ids()


async def test_a_tail_that_came_back_as_long_as_it_was_is_rewound_too(
    start_redis: StartRedis,
) -> None:
    """Epoch and seq are the same as before: only the term tells these messages apart."""
    pair = Pair(start_redis)
    async with proxied(pair.master) as (proxy, (node,)):
        await fill(node, 5)
        await pair.replicated()
        pair.cut_off()
        await fill(node, 3)
        await node.notes.reaches(8)
        pair.fail_over()
        async with broker_at(pair.replica.url) as elsewhere:
            await fill(elsewhere, 3)
        pair.fail_over(proxy)
        await node.notes.until(lambda: bool(node.notes.told))
        assert node.notes.told == [Recovery(Outcome.REWOUND, valid_to=5)]
        assert node.notes.ids() == RoomInRedis(pair.replica).ids()


async def test_a_node_that_did_not_hear_of_the_failover_finds_out_by_the_next_message(
    start_redis: StartRedis,
) -> None:
    """As when the feed is what it was, and the store behind it is not."""
    pair = Pair(start_redis)
    async with proxied(pair.master) as (proxy, (node,)):
        await fill(node, 5)
        await pair.replicated()
        pair.cut_off()
        await fill(node, 3)
        await node.notes.reaches(8)
        pair.fail_over()
        async with broker_at(pair.replica.url) as elsewhere:
            await fill(elsewhere, 2)
        seventh = RoomInRedis(pair.replica).records()[-1]
        assert (seventh.message.seq, seventh.start) == (7, 6)
        pair.fail_over(proxy)
        await node.notes.until(lambda: bool(node.notes.told))
        assert node.notes.told == [Recovery(Outcome.REWOUND, valid_to=5)]
        assert node.notes.ids() == RoomInRedis(pair.replica).ids()


async def failed_over(pair: Pair, proxy: RedisProxy, node: RedisBrokerNode) -> None:
    """Five messages by the master, three by the replica that followed it, nothing lost."""
    await fill(node, 5)
    await pair.replicated()
    pair.fail_over(proxy)
    await node.healthy()
    await fill(node, 3)
    await node.notes.reaches(8)
    assert node.notes.told == []


async def test_a_master_that_is_back_as_if_nothing_had_been_withdraws_what_came_meanwhile(
    start_redis: StartRedis,
) -> None:
    """It was never told that another one had followed it: a whole term is lost."""
    pair = Pair(start_redis)
    async with proxied(pair.master) as (proxy, (node,)):
        await failed_over(pair, proxy, node)
        proxy.target = pair.master.port
        async with broker_at(pair.master.url) as elsewhere:
            await fill(elsewhere, 200)
        proxy.drop()
        await node.notes.reaches(205)
        assert node.notes.told == [Recovery(Outcome.REWOUND, valid_to=5)]
        assert node.notes.ids() == RoomInRedis(pair.master).ids()


async def test_two_failovers_in_a_row(start_redis: StartRedis) -> None:
    pair = Pair(start_redis)
    async with proxied(pair.master) as (proxy, (node,)):
        await failed_over(pair, proxy, node)
        pair.master, pair.replica = pair.replica, pair.master
        pair.follow()
        await pair.replicated()
        pair.cut_off()
        await fill(node, 2)
        await node.notes.reaches(10)
        pair.fail_over(proxy)
        await node.notes.until(lambda: bool(node.notes.told))
        assert node.notes.told == [Recovery(Outcome.REWOUND, valid_to=8)]
        await fill(node, 1)
        await node.notes.reaches(9)
        assert node.notes.ids() == RoomInRedis(pair.replica).ids()


# What is not done, and what may have been


async def test_without_memory_nothing_is_done_and_nothing_is_missing(
    start_redis: StartRedis,
) -> None:
    server = start_redis("maxmemory-policy noeviction")
    async with followers_at(server.url) as (node,):
        await fill(node, 5)
        server.command("CONFIG", "SET", "maxmemory", 1)
        refused = [node.submit("no"), node.submit_draft(draft("no", key="k"))]
        for receipt in refused:
            assert isinstance(await receipt.outcome(), Unavailable)
        server.command("CONFIG", "SET", "maxmemory", 0)
        assert not (await node.submit_draft(draft("yes", key="k")).published()).duplicate
        await fill(node, 2)
        await node.notes.reaches(8)
        assert node.notes.outcomes == []
        assert node.notes.ids() == RoomInRedis(server).ids()
        assert list(node.notes.ids()) == list(range(1, 9))


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_lost_reply_does_not_say_it_twice(
    redis_server: RedisServer, key: str | None
) -> None:
    redis_server.command("FLUSHALL")
    async with proxied(redis_server) as (proxy, (node,)):
        await fill(node, 3)
        proxy.lose_reply(to=b'"once"')
        receipts = [node.submit_draft(draft("once", key=key)), node.submit("after")]
        once, after = [await receipt.published() for receipt in receipts]
        await proxy.reply_lost()
        assert once.position is not None
        assert after.position is not None
        assert (once.position.seq, after.position.seq, once.duplicate) == (4, 5, False)
        await node.notes.reaches(5)
        ids = RoomInRedis(redis_server).ids()
        assert node.notes.ids() == ids
        assert (ids[4], ids[5], len(ids)) == (once.message_id, after.message_id, 5)


@pytest.mark.parametrize("heard", [True, False])
async def test_all_that_was_under_way_when_the_connection_was_lost_is_there_once(
    redis_server: RedisServer, heard: bool
) -> None:
    """And Redis does not look through all of it for each."""
    redis_server.command("FLUSHALL")
    keep, count = Retention(2000, 600.0), 1000
    async with redis_proxy(redis_server.port) as proxy, broker_at(proxy.url) as node:
        if heard:
            await node.follow(keep=keep)
        await fill(node, 1, keep)
        proxy.hold_replies()
        receipts = [node.submit(str(number), keep=keep) for number in range(count)]
        await until(lambda: len(RoomInRedis(redis_server).ids()) == count + 1)
        redis_server.command("CONFIG", "RESETSTAT")
        proxy.heal()
        proxy.drop()
        places = [(await receipt.published()).position for receipt in receipts]
        assert [place and place.seq for place in places] == list(range(2, count + 2))
        assert len(RoomInRedis(redis_server).ids()) == count + 1
        asked = redis_server.command("INFO", "commandstats")["cmdstat_xrevrange"]
        assert asked["calls"] < 3 * count


async def test_a_lost_reply_after_a_lost_tail_does_not_say_it_twice(
    start_redis: StartRedis,
) -> None:
    """What was known of the room at the first attempt is more than the new master has."""
    pair = Pair(start_redis)
    async with proxied(pair.master) as (proxy, (node,)):
        await fill(node, 5)
        await pair.replicated()
        pair.cut_off()
        await fill(node, 3)
        await node.notes.reaches(8)
        pair.fail_over(proxy)
        proxy.lose_reply(to=b'"once"')
        once = await node.submit("once").published()
        await proxy.reply_lost()
        assert once.position is not None
        assert (once.position.seq, once.duplicate) == (6, False)
        assert list(RoomInRedis(pair.replica).ids().values()).count(once.message_id) == 1


async def test_a_lost_reply_where_the_log_keeps_nothing_stays_unknown(
    redis_server: RedisServer,
) -> None:
    redis_server.command("FLUSHALL")
    nothing = Retention(0, 600.0)
    async with proxied(redis_server, keep=nothing) as (proxy, (node,)):
        await fill(node, 3, nothing)
        proxy.lose_reply(to=b'"once"')
        receipt = node.submit("once", keep=nothing)
        assert isinstance(await receipt.outcome(), OutcomeUnknown)
        await fill(node, 1, nothing)
        await node.notes.reaches(5)
        assert len(node.notes.messages()) == 5


async def test_a_store_that_hangs_leaves_outcomes_unknown_and_the_key_settles_them(
    start_redis: StartRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "DEADLINE", 0.5)
    server = start_redis()
    async with proxied(server) as (proxy, (node,)):
        await fill(node, 3)
        proxy.hold_replies()
        outcome = await node.submit_draft(draft("once", key="k")).outcome()
        assert isinstance(outcome, OutcomeUnknown)
        proxy.heal()
        proxy.drop()
        await node.healthy()
        again = await node.submit_draft(draft("once", key="k")).published()
        assert (again.duplicate, again.position and again.position.seq) == (True, 4)
        await node.notes.reaches(4)
        assert node.notes.ids() == RoomInRedis(server).ids()


# The feed


async def test_killed_subscriptions_leave_no_hole(room: RoomInRedis) -> None:
    async with followers_at(room.server.url, room.server.url) as nodes:
        one, other = nodes
        for _ in range(8):
            receipts = [node.submit("x") for _ in range(40) for node in nodes]
            room.server.command("CLIENT", "KILL", "TYPE", "pubsub")
            for receipt in receipts:
                await receipt.published()
        for node in nodes:
            await node.healthy()
            await node.notes.reaches(640)
        assert one.notes.ids() == other.notes.ids()
        assert list(one.notes.ids()) == list(range(1, 641))
        assert {*one.notes.outcomes, *other.notes.outcomes} <= {"ok"}


async def test_ones_own_message_does_not_overtake_what_others_said_before_it(
    room: RoomInRedis,
) -> None:
    async with (
        redis_proxy(room.server.port) as proxy,
        followers_at(proxy.url) as (node,),
        broker_at(room.server.url) as other,
    ):
        proxy.deafen()
        await other.publish("first")
        await node.publish("second")
        assert node.notes.messages() == []
        proxy.heal()
        room.server.command("CLIENT", "KILL", "TYPE", "pubsub")
        await node.notes.reaches(2)
        assert [message.seq for message in node.notes.messages()] == [1, 2]


async def test_what_was_said_while_nobody_heard_is_read_once_the_feed_is_back(
    room: RoomInRedis,
) -> None:
    async with followers_at(room.server.url) as (node,):
        await fill(node, 3)
        await node.notes.reaches(3)
        for number in range(50):
            room.publish_unheard(str(number))
        room.server.command("CLIENT", "KILL", "TYPE", "pubsub")
        await node.notes.reaches(53)
        assert (node.notes.told, node.notes.ids()) == ([], room.ids())
        assert node.counted("feed_losses") >= 1


async def test_a_node_that_is_behind_finds_out_when_it_is_asked(room: RoomInRedis) -> None:
    async with followers_at(room.server.url) as (node,):
        await fill(node, 3)
        await node.notes.reaches(3)
        room.publish_unheard("4")
        await asyncio.gather(*(node.broker.confirm(CHAT) for _ in range(50)))
        assert node.notes.at.seq == 4
        assert (node.notes.told, node.notes.ids()) == ([], room.ids())


async def test_a_room_that_redis_lost_is_found_anew_when_it_is_asked(room: RoomInRedis) -> None:
    """What Redis said of it first is never reached then."""
    async with followers_at(room.server.url) as (node,):
        await fill(node, 3)
        await node.notes.reaches(3)
        room.forget("meta", "log")
        await node.broker.confirm(CHAT)
        assert node.notes.outcomes == ["reset"]
        assert node.counted("feed_resyncs", "begun_again") == 1


async def test_no_answer_to_where_a_room_is_leaves_it_unavailable(
    room: RoomInRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "DEADLINE", 0.5)
    async with proxied(room.server) as (proxy, (node,)):
        await fill(node, 3)
        proxy.hold_replies()
        with pytest.raises(Unavailable):
            await node.broker.confirm(CHAT)
        proxy.heal()


async def test_a_room_that_is_as_it_should_be_goes_on_undisturbed_when_it_is_asked(
    room: RoomInRedis,
) -> None:
    async with followers_at(room.server.url) as (node,):
        await fill(node, 3)
        await asyncio.gather(*(node.broker.confirm(CHAT) for _ in range(50)))
        assert node.notes.at.seq == 3
        assert node.counted("feed_resyncs", "continued") == 0


async def test_nothing_is_confirmed_without_redis(start_redis: StartRedis) -> None:
    server = start_redis()
    async with followers_at(server.url) as (node,):
        await fill(node, 3)
        server.kill()
        with pytest.raises(HubbubError):
            await node.broker.confirm(CHAT)
        node.broker.unsubscribe(CHAT)
        with pytest.raises(Unavailable):
            await node.broker.confirm(CHAT)


async def test_a_hole_is_closed_without_a_word_with_the_message_that_shows_it(
    room: RoomInRedis,
) -> None:
    async with followers_at(room.server.url) as (node,):
        await fill(node, 3)
        room.publish_unheard("4")
        room.publish_unheard("5")
        await fill(node, 1)
        await node.notes.reaches(6)
        assert (node.notes.told, node.notes.ids()) == ([], room.ids())
        assert [m.seq for m in node.notes.messages()] == [1, 2, 3, 4, 5, 6]


async def test_a_hole_too_long_to_be_delivered_is_read_by_the_listener(room: RoomInRedis) -> None:
    async with followers_at(room.server.url) as (node,):
        await fill(node, 3)
        for number in range(300):
            room.publish_unheard(str(number))
        await fill(node, 1)
        await node.notes.reaches(304)
        assert node.notes.told == [Recovery(Outcome.OK)]
        assert node.notes.ids() == room.ids()


async def test_a_hole_in_a_log_that_keeps_nothing_is_a_gap(room: RoomInRedis) -> None:
    nothing = Retention(0, 600.0)
    async with followers_at(room.server.url, keep=nothing) as (node,):
        await fill(node, 2, nothing)
        room.publish_unheard("3", nothing)
        await fill(node, 1, nothing)
        await node.notes.reaches(4)
        assert node.notes.told == [Recovery(Outcome.GAP, first=5)]
        await fill(node, 1, nothing)
        await node.notes.reaches(5)
        assert len(node.notes.told) == 1


async def test_a_last_message_that_was_lost_is_found(
    room: RoomInRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds_module, "CHECK", 0.05)
    at_once(monkeypatch)
    async with followers_at(room.server.url) as (node,):
        await fill(node, 3)
        await node.notes.reaches(3)
        room.publish_unheard("last")
        await node.notes.reaches(4)
        assert (node.notes.told, node.notes.ids()) == ([], room.ids())


@pytest.mark.parametrize("batch", [1, 2])
async def test_a_room_that_cannot_be_compared_leaves_the_others_their_turn(
    room: RoomInRedis, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(feeds_module, "AT_ONCE", batch)
    at_once(monkeypatch)
    rooms = [RoomId(f"r{number}") for number in range(6)]
    async with broker_at(room.server.url) as node:
        for name in rooms:
            await node.follow(name)
        damaged, last = (RoomInRedis(room.server, name) for name in (rooms[0], rooms[-1]))
        damaged.forget("meta")
        room.server.command("SET", damaged.keys.meta, "not a hash")
        last.publish_unheard("last")
        for _ in range(2):
            await node.broker.check()
        assert len(await node.notes.heard(1, rooms[-1])) == 1


async def test_what_is_on_its_way_is_not_read(room: RoomInRedis) -> None:
    """A comparison must not make every busy room be read."""
    async with followers_at(room.server.url) as (node,):
        receipts = [node.submit("x") for _ in range(200)]
        await node.broker.check()
        for receipt in receipts:
            await receipt.published()
        await node.notes.reaches(200)
        assert node.counted("feed_resyncs", "continued") == 0


async def test_what_is_said_between_subscribing_and_reading_is_not_missed(
    room: RoomInRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with broker_at(room.server.url) as speaker, broker_at(room.server.url) as node:
        read = RoomLog.newest

        async def slowly(log: RoomLog, name: RoomId, keep: Retention) -> LogView:
            await speaker.publish("before the look")
            view = await read(log, name, keep)
            await speaker.publish("after the look")
            return view

        monkeypatch.setattr(RoomLog, "newest", slowly)
        await node.follow()
        await node.notes.reaches(2)  # its acknowledgement may have come before itself
        await speaker.publish("afterwards")
        await node.notes.reaches(3)
        assert [m.seq for m in node.notes.messages()] in ([3], [2, 3])
        assert node.counted("feed_resyncs", "continued") == 0


async def test_a_subscription_lost_while_the_room_is_read_is_read_again(
    room: RoomInRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, lost, told = RoomLog.newest, Feed.lost, asyncio.Event()
    looks: list[LogView] = []

    async def look(log: RoomLog, name: RoomId, keep: Retention) -> LogView:
        looks.append(await read(log, name, keep))
        if len(looks) == 1:
            room.publish_unheard("1")
            room.server.command("CLIENT", "KILL", "TYPE", "pubsub")
            await told.wait()
        return looks[-1]

    def tell(feed: Feed, channel: str) -> None:
        lost(feed, channel)
        told.set()

    monkeypatch.setattr(RoomLog, "newest", look)
    monkeypatch.setattr(Feed, "lost", tell)
    async with followers_at(room.server.url) as (node,):
        assert (len(looks), node.notes.at.seq) == (2, 1)


# What cannot be read


async def test_junk_on_the_feed_hurts_nobody(room: RoomInRedis) -> None:
    async with followers_at(room.server.url) as (node,):
        await fill(node, 3)
        for junk in (b"", b"junk", b"M", b"M1 junk", b"M9 junk", b"E1 junk", b"\xff\x00", b"P1 x"):
            assert room.send(junk) == 1
        await fill(node, 3)
        await node.notes.reaches(6)
        assert (node.notes.told, node.notes.ids()) == ([], room.ids())
        assert node.counted("unreadable_records", "junk") == 3
        assert node.counted("unreadable_records", "newer") == 1


@pytest.mark.parametrize("way", ["after", "before"])
async def test_a_page_of_what_cannot_be_read_is_passed_over(room: RoomInRedis, way: str) -> None:
    async with followers_at(room.server.url) as (node,):
        await fill(node, 2)
        for seq in range(3, 8):
            room.append(b"M9 of a later version", seq)
    async with broker_at(room.server.url) as node:  # that has not heard them
        await fill(node, 2)
        ask = PageRequest(after=2, limit=2) if way == "after" else PageRequest(before=8, limit=2)
        page = await node.broker.page(CHAT, ask, KEEP)
        assert [message.seq for message in page.messages] == [8 if way == "after" else 2]
        assert page.more


async def test_junk_in_the_log_is_a_gap_and_no_endless_loop(
    room: RoomInRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once(monkeypatch)
    async with followers_at(room.server.url) as (node,):
        await fill(node, 3)
        await node.notes.reaches(3)
        room.append(b"M9 of another version", 4)
        room.publish_unheard("5")
        await node.broker.check()
        await node.notes.reaches(5)
        assert node.notes.told == [Recovery(Outcome.GAP, first=5)]
        await fill(node, 2)
        await node.notes.reaches(7)
        assert len(node.notes.told) == 1
    async with followers_at(room.server.url) as (fresh,):
        timeline = fresh.broker.timeline(CHAT)
        assert timeline is not None
        assert (timeline.first, timeline.lacks(fresh.notes.at._replace(seq=0))) == (5, None)
    async with broker_at(room.server.url) as outsider:
        page = await outsider.broker.page(CHAT, PageRequest(), KEEP)
        assert [message.seq for message in page.messages] == [1, 2, 3, 5, 6, 7]


async def test_junk_at_the_end_of_the_log_is_a_gap(
    room: RoomInRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once(monkeypatch)
    async with followers_at(room.server.url) as (node,):
        await fill(node, 3)
        await node.notes.reaches(3)
        room.append(b"junk", 4)
        await node.broker.check()
        await node.notes.reaches(4)
        assert node.notes.told == [Recovery(Outcome.GAP, first=5)]
        await fill(node, 1)
        await node.notes.reaches(5)


@pytest.mark.parametrize(("gone", "first"), [(3, 4), (5, 6)])
async def test_a_message_that_somebody_took_out_of_the_log_is_a_gap(
    room: RoomInRedis, monkeypatch: pytest.MonkeyPatch, gone: int, first: int
) -> None:
    at_once(monkeypatch)
    async with followers_at(room.server.url) as (node,):
        await fill(node, 2)
        await node.notes.reaches(2)
        for number in (3, 4, 5):
            room.publish_unheard(str(number))
        room.server.command("XDEL", room.keys.log, f"{gone}-0")
        await node.broker.check()
        await node.notes.reaches(5)
        assert node.notes.told == [Recovery(Outcome.GAP, first=first)]
        await fill(node, 1)
        await node.notes.reaches(6)
    async with followers_at(room.server.url) as (fresh,):
        timeline = fresh.broker.timeline(CHAT)
        assert timeline is not None
        assert (timeline.first, timeline.top) == (first, 6)


async def test_a_flood_of_what_cannot_be_read_is_looked_at_now_and_then(
    room: RoomInRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "UNREADABLE_PAUSE", 3600.0)
    async with followers_at(room.server.url) as (node,):
        await fill(node, 1)
        await node.notes.reaches(1)
        for _ in range(100):
            room.send(MESSAGE_HEAD + b" junk")
        await fill(node, 1)
        await node.notes.reaches(2)
        await until(lambda: node.counted("unreadable_records", "junk") == 100)
        await until(lambda: node.counted("feed_resyncs", "continued") == 1)
        await node.settled()
        assert node.counted("feed_resyncs", "continued") == 1


async def test_a_damaged_room_is_unavailable_and_the_others_are_not(room: RoomInRedis) -> None:
    async with broker_at(room.server.url) as node:
        await node.publish("x")
        room.server.command("HSET", room.keys.meta, "lineage", "junk")
        with pytest.raises(Unavailable):
            await node.follow()
        with pytest.raises(Unavailable):
            await node.broker.page(CHAT, PageRequest(), KEEP)
        await node.broker.subscribe(RoomId("other"), KEEP)
        assert node.broker.timeline(CHAT) is None


# Whatever happens


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_is_lost_everybody_believes_the_same_in_the_end(
    start_redis: StartRedis, seed: int
) -> None:
    chance = random.Random(seed)
    server = start_redis()
    room, numbers = RoomInRedis(server), itertools.count(1)
    async with proxied(server, 2) as (proxy, nodes):
        faults: list[Callable[[], object]] = [
            proxy.drop,
            lambda: server.command("CLIENT", "KILL", "TYPE", "pubsub"),
            lambda: room.send(b"M1 junk"),
            lambda: room.publish_unheard(str(next(numbers))),
            lambda: room.forget("log"),
            lambda: proxy.lose_reply(to=b"EVALSHA"),
            server.pause,
            server.resume,
        ]
        receipts = []
        for _ in range(60):
            receipts += [node.submit(str(next(numbers))) for node in nodes for _ in range(5)]
            if chance.random() < 0.3:
                chance.choice(faults)()
            await asyncio.sleep(0.01)
            server.resume()
        proxy.heal()
        for receipt in receipts:
            await receipt.outcome()
        for node in nodes:
            await node.healthy()
        await nodes[0].settled()
        last = nodes[0].notes.at
        await nodes[1].notes.until(lambda: nodes[1].notes.at == last)
        kept = room.ids()
        for node in nodes:
            believed = node.notes.ids()
            assert {seq: believed[seq] for seq in kept} == kept
            assert set(node.notes.outcomes) <= {"ok", "gap"}
        one, other = (node.notes.ids() for node in nodes)
        assert {seq: one[seq] for seq in one.keys() & other.keys()} == {
            seq: other[seq] for seq in one.keys() & other.keys()
        }


# What this node holds


async def test_a_node_begins_with_the_newest_and_reaches_back(room: RoomInRedis) -> None:
    async with broker_at(room.server.url) as speaker, broker_at(room.server.url) as node:
        await fill(speaker, 500)
        await node.follow()
        timeline = node.broker.timeline(CHAT)
        assert timeline is not None
        assert (timeline.first, timeline.floor) == (501 - NEWEST, 0)
        seq = timeline.lacks(node.notes.at._replace(seq=250))
        assert seq == 250
        await asyncio.gather(*(node.broker.reach(CHAT, seq) for _ in range(10)))
        assert timeline.first <= 251
        assert timeline.recover(node.notes.at._replace(seq=250)).recovery.outcome is Outcome.OK
        assert timeline.lacks(node.notes.at._replace(seq=250)) is None


async def test_what_is_said_while_reaching_back_is_not_lost(room: RoomInRedis) -> None:
    async with broker_at(room.server.url) as speaker, broker_at(room.server.url) as node:
        keep = Retention(300, 600.0)
        await fill(speaker, 300, keep)
        await node.follow(keep=keep)
        reaching = asyncio.create_task(node.broker.reach(CHAT, 0))
        await fill(speaker, 250, keep)
        await reaching
        await node.notes.reaches(550)
        await node.broker.reach(CHAT, 0)
        timeline = node.broker.timeline(CHAT)
        assert timeline is not None
        assert (timeline.first, timeline.floor) == (251, 250)
        assert not node.notes.told


async def test_a_log_that_is_gone_is_asked_for_once(room: RoomInRedis) -> None:
    async with broker_at(room.server.url) as speaker, broker_at(room.server.url) as node:
        await fill(speaker, 200)
        await node.follow()
        room.forget("log")
        timeline = node.broker.timeline(CHAT)
        assert timeline is not None
        assert timeline.lacks(node.notes.at._replace(seq=5)) == 5
        await node.broker.reach(CHAT, 5)
        assert timeline.lacks(node.notes.at._replace(seq=5)) is None
        assert timeline.recover(node.notes.at._replace(seq=5)).recovery == Recovery(
            Outcome.GAP, first=timeline.first
        )


async def test_reaching_back_into_another_log_is_refused(room: RoomInRedis) -> None:
    async with broker_at(room.server.url) as speaker, broker_at(room.server.url) as node:
        await fill(speaker, 200)
        await node.follow()
        room.forget("meta")
        with pytest.raises(Unavailable):
            await node.broker.reach(CHAT, 5)
        with pytest.raises(Unavailable):
            await node.broker.reach(RoomId("not subscribed"), 5)


async def test_leaving_while_reaching_back_is_an_error(room: RoomInRedis) -> None:
    async with broker_at(room.server.url) as speaker, broker_at(room.server.url) as node:
        await fill(speaker, 200)
        await node.follow()
        reaching = asyncio.create_task(node.broker.reach(CHAT, 0))
        await asyncio.sleep(0)
        node.broker.unsubscribe(CHAT)
        with pytest.raises(Unavailable):
            await reaching


async def test_what_all_rooms_hold_is_bounded_and_read_again_when_needed(
    room: RoomInRedis,
) -> None:
    rooms = [RoomId(f"room{number}") for number in range(5)]
    data = "x" * 1000
    async with broker_at(room.server.url, max_bytes=50_000) as node:
        for name in rooms:
            await node.broker.subscribe(name, KEEP)
        for name in rooms:
            for _ in range(15):
                await node.publish(data, name)
        await node.notes.until(lambda: all(len(node.notes.seqs(name)) == 15 for name in rooms))
        timelines = [node.broker.timeline(name) for name in rooms]
        held = [0 if timeline is None else timeline.bytes for timeline in timelines]
        assert 0 < sum(held) <= 50_000
        assert (held[0], held[-1] > 0) == (0, True)  # the one used the longest ago, and the last
        first = timelines[0]
        assert first is not None
        assert first.lacks(first.position._replace(seq=3)) == 3
        await node.broker.reach(rooms[0], 3)
        replay = first.recover(first.position._replace(seq=3))
        assert (replay.recovery.outcome, len(replay.messages)) == (Outcome.OK, 12)
        assert [
            m.seq for m in (await node.broker.page(rooms[1], PageRequest(), KEEP)).messages
        ] == [*range(1, 16)]


async def test_one_log_larger_than_all_may_hold_can_be_read(room: RoomInRedis) -> None:
    async with broker_at(room.server.url, max_bytes=10_000) as node:
        for _ in range(30):
            await node.publish("x" * 1000)
        await node.follow()
        await node.broker.reach(CHAT, 0)
        timeline = node.broker.timeline(CHAT)
        assert timeline is not None
        assert timeline.recover(timeline.position._replace(seq=0)).recovery.outcome is Outcome.OK


async def test_nothing_is_held_of_a_room_that_was_left(room: RoomInRedis) -> None:
    async with broker_at(room.server.url) as node:
        await node.follow()
        await node.publish("x")
        await node.notes.reaches(1)
        node.broker.unsubscribe(CHAT)
        assert node.broker.timeline(CHAT) is None
        with room.server.client() as client:
            await until(lambda: not client.pubsub_channels("hubbub:*chat*"))
            await until(lambda: dict(client.pubsub_numsub(room.keys.feed))[room.keys.feed] == 0)


async def test_what_was_acknowledged_is_in_the_next_page(room: RoomInRedis) -> None:
    """Also when it has not come back over the feed so far."""
    async with redis_proxy(room.server.port) as proxy, followers_at(proxy.url) as (node,):
        await fill(node, 3)
        await node.notes.reaches(3)
        proxy.deafen()
        await node.publish("x")
        page = await node.broker.page(CHAT, PageRequest(), KEEP)
        assert [message.seq for message in page.messages] == [1, 2, 3, 4]


async def test_a_room_that_is_only_listened_to_stays_what_it_is(
    room: RoomInRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds_module, "RENEWAL", -1.0)
    async with followers_at(room.server.url) as (node,):
        room.server.command("PEXPIRE", room.keys.meta, 1000_000)
        await node.broker.check()
        assert int(room.server.command("PTTL", room.keys.meta)) > 2_000_000_000
        assert node.notes.told == []


# Where Redis hides who it is


async def test_where_info_is_hidden_the_nodes_agree_on_a_term(
    redis_server: RedisServer, redis_url: str
) -> None:
    redis_server.command("ACL", "SETUSER", "shy", *rules().split(), ">secret", "-info")
    url = redis_url.replace("redis://", "redis://shy:secret@")
    async with broker_at(url) as one, broker_at(url) as other:
        await until(lambda: not (one.broker.notices_losses or other.broker.notices_losses))
        await one.follow()
        await other.follow()
        for node in (one, other, one, other):
            await node.publish("x")
        for node in (one, other):
            await node.notes.reaches(4)
            assert (node.notes.told, list(node.notes.ids())) == ([], [1, 2, 3, 4])
        assert one.notes.at == other.notes.at


async def test_where_nobody_knows_the_command_info(start_redis: StartRedis) -> None:
    server = start_redis('rename-command INFO ""')
    async with followers_at(server.url, server.url) as (one, other):
        await until(lambda: not (one.broker.notices_losses or other.broker.notices_losses))
        for node in (one, other):
            await node.publish("x")
        for node in (one, other):
            await node.notes.reaches(2)


async def test_whoever_comes_before_a_term_is_agreed_on_waits_for_it(
    start_redis: StartRedis,
) -> None:
    node = RedisBrokerNode(start_redis('rename-command INFO ""').url)
    async with running(node.store, node.channels):
        await node.healthy()
        receipts = node.submit("early")
        following = asyncio.ensure_future(node.follow())
        await asyncio.wait({following}, timeout=0.1)
        assert not node.broker.healthy
        assert not following.done()
        assert not receipts.all
        async with running(node.broker):
            await following
            await receipts.published()
            await until(lambda: node.broker.healthy)


async def test_a_term_that_was_made_up_ends_with_the_connections(start_redis: StartRedis) -> None:
    """Somebody else may answer from then on, who does not know the end of the log."""
    server = start_redis('rename-command INFO ""')
    async with followers_at(server.url) as (node,):
        await until(lambda: not node.broker.notices_losses)
        before = await node.publish("x")
        term = server.command("GET", "hubbub:term")
        server.command("CLIENT", "KILL", "TYPE", "normal")
        await until(lambda: server.command("GET", "hubbub:term") != term)
        after = await node.publish("y")
        assert before.position is not None
        assert after.position is not None
        assert (after.position.seq, after.position.epoch) == (2, before.position.epoch)
        assert after.position.term != before.position.term
        await node.notes.reaches(2)
        assert node.notes.told == []


async def test_a_doubt_of_one_node_is_no_quarrel_where_info_is_hidden(
    start_redis: StartRedis,
) -> None:
    """Who has lost no connection does not know of the new name at once."""
    server = start_redis('rename-command INFO ""')
    room = RoomInRedis(server)

    def terms() -> int:
        return len(str(server.command("HGET", room.keys.meta, "lineage")).split(","))

    async with proxied(server) as (proxy, (one,)), followers_at(server.url) as (other,):
        await one.publish("x")
        agreed = server.command("GET", "hubbub:term")
        assert terms() == 1
        proxy.drop()
        await until(lambda: server.command("GET", "hubbub:term") != agreed)
        await one.healthy()
        for number in range(10):
            for node in (one, other):
                await node.publish(str(number))
        assert terms() == 2
        for node in (one, other):
            await node.notes.reaches(21)
            assert node.notes.told == []


async def test_a_name_that_another_node_made_up_is_taken_over_where_info_is_hidden(
    start_redis: StartRedis,
) -> None:
    server = start_redis('rename-command INFO ""')
    async with followers_at(server.url) as (node,):
        await until(lambda: not node.broker.notices_losses)
        before = await node.publish("x")
        server.command("SET", "hubbub:term", "7-x")
        assert before.position is not None

        async def in_force() -> str:
            after = await node.publish("y")
            assert after.position is not None
            return after.position.term

        async with asyncio.timeout(20):
            while await in_force() == before.position.term:
                pass
        assert server.command("HGET", RoomInRedis(server).keys.meta, "reign") == "7-x"


async def test_a_log_that_became_shorter_is_told_where_info_is_hidden(
    start_redis: StartRedis,
) -> None:
    pair = Pair(start_redis, 'rename-command INFO ""')
    async with proxied(pair.master) as (proxy, (node,)):
        await fill(node, 5)
        await until(lambda: len(RoomInRedis(pair.replica).ids()) == 5)
        pair.cut_off()
        await fill(node, 3)
        await node.notes.reaches(8)
        pair.fail_over(proxy)
        await node.notes.until(lambda: bool(node.notes.told))
        assert node.notes.told == [Recovery(Outcome.REWOUND, valid_to=5)]


async def test_where_info_is_not_hidden_nothing_is_made_up(room: RoomInRedis) -> None:
    async with followers_at(room.server.url) as (node,):
        await node.settled()
        assert node.broker.notices_losses
        assert room.server.command("EXISTS", "hubbub:term") == 0
