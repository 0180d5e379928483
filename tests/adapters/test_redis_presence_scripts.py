"""Every branch of the presence scripts, on a real Redis, without hubbub around them."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from adapters.redis import presence_scripts as scripts
from adapters.redis.presence_records import Page, Record, Said, decode, decode_page
from adapters.redis.store import Script
from tests.redis_server import RedisServer

WHO, USERS, GRACE, FEED = "{room}:who", "{room}:users", "{room}:grace", "{room}:feed"
LEASES, DEAD = "{nodes}:leases", "{nodes}:dead"
MINUTE = 60_000  # ms

pytestmark = pytest.mark.redis


class Room:
    """The scripts of one room as methods, and what they tell."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self._feed = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._feed.subscribe(FEED)
        self._feed.get_message(timeout=5.0)

    def run(self, script: Script, *args: str | bytes | int) -> Any:
        return self.client.eval(script.source, 3, WHO, USERS, GRACE, "PUBLISH", FEED, *args)

    def seat(
        self,
        user: str,
        sessions: int = 1,
        *,
        node: str = "n1",
        former: str = "",
        known: bytes = b"",
        info: str = "null",
        newer: bool = True,
        most: int | str = "",
        grace: int = 0,
    ) -> Said:
        flag = int(newer)
        return Said(
            *self.run(scripts.SEAT, node, former, known, user, sessions, info, flag, most, grace)
        )

    def read(self, cursor: str = "0", size: int = 100, limit: int | str = "") -> Page:
        return decode_page(self.run(scripts.READ, cursor, size, limit))

    def seats(self) -> dict[str, dict[str, int]]:
        return {str(entry.user): entry.seats for entry in self.read().entries}

    def restore(
        self,
        *users: tuple[str, int],
        known: bytes = b"old",
        told: int = 0,
        node: str = "n1",
        former: str = "",
        window: int = MINUTE,
    ) -> list[Any]:
        flat = [word for user, sessions in users for word in (user, sessions, "null")]
        reply: list[Any] = self.run(
            scripts.RESTORE, node, former, known, told, window, MINUTE, *flat
        )
        return reply

    def expire(self, most: int = 10) -> int:
        return int(self.run(scripts.EXPIRE, "n1", most))

    def sweep(self, node: str) -> None:
        cursor: str | bytes = "0"
        while (cursor := self.run(scripts.SWEEP, node, cursor, 10)) != b"0":
            pass

    def told(self) -> list[Record]:
        """What was told on the feed since the last time."""
        self.client.publish(FEED, "end")
        records: list[Record] = []
        while True:
            message = self._feed.get_message(timeout=5.0)
            assert message is not None
            if message["data"] == b"end":
                return records
            records.append(decode(message["data"]))

    def events(self) -> list[tuple[str, str, int, int]]:
        """Kind, user, sessions and version of what was told since the last time."""
        return [(r.kind.decode(), r.user, r.sessions, r.version) for r in self.told()]

    def pass_time(self, ms: int) -> None:
        users: Any = self.client.zrange(GRACE, 0, -1)
        for user in users:
            self.client.zincrby(GRACE, -ms, user)


@pytest.fixture
def client(redis_server: RedisServer, redis_url: str) -> Iterator[redis.Redis]:
    with redis_server.client(decode_responses=False) as client:
        yield client


@pytest.fixture
def room(client: redis.Redis) -> Room:
    return Room(client)


# Seats


def test_the_first_seat_of_a_user_is_a_join(room: Room) -> None:
    said = room.seat("ann", info='{"a b":"c"}')
    assert (said.happened, said.revision, said.version) == (b"joined", 1, 1)
    (record,) = room.told()
    assert record == Record(said.life, 1, 1, b"J", 1, 1, record.user, b'{"a b":"c"}')
    page = room.read()
    assert (page.life, page.revision, page.version, page.users) == (said.life, 1, 1, 1)
    assert [(entry.user, entry.info, entry.seats) for entry in page.entries] == [
        ("ann", b'{"a b":"c"}', {"n1": 1})
    ]


def test_each_further_seat_is_told_and_raises_no_version(room: Room) -> None:
    room.seat("ann")
    assert room.seat("ann", 2).happened == b"seated"
    assert room.seat("ann", 3, node="n2").happened == b"seated"
    assert room.events() == [("J", "ann", 1, 1), ("S", "ann", 2, 1), ("S", "ann", 5, 1)]
    assert room.seats() == {"ann": {"n1": 2, "n2": 3}}


def test_saying_it_again_changes_and_tells_nothing(room: Room) -> None:
    room.seat("ann")
    room.seat("ann", 2, node="n2")
    room.told()
    for again in (room.seat("ann"), room.seat("ann", 2, node="n2")):
        assert (again.happened, again.revision) == (b"seated", 2)
    assert room.told() == []


def test_newer_info_takes_the_place_of_older(room: Room) -> None:
    room.seat("ann", info='"old"')
    room.seat("ann", info='"new"')
    room.seat("ann", 2, info='"none of this"', newer=False)
    assert [record.info for record in room.told()] == [b'"old"', b'"new"', b'"new"']
    assert room.read().entries[0].info == b'"new"'


def test_info_is_kept_whatever_stands_in_it(room: Room) -> None:
    info = '{"x":"n1:7,n2:8|| J \\u0000"}'
    room.seat("ann", info=info)
    room.seat("ann", 1, node="n2", newer=False)
    room.seat("ann", 0, node="n1")
    assert {record.info for record in room.told()} == {info.encode()}
    entry = room.read().entries[0]
    assert (entry.info, entry.seats) == (info.encode(), {"n2": 1})


def test_a_user_leaves_with_the_last_seat(room: Room) -> None:
    room.seat("ann")
    room.seat("ann", node="n2")
    room.told()
    assert room.seat("ann", 0).happened == b"seated"
    assert room.seat("ann", 0, node="n2").happened == b"left"
    assert room.events() == [("S", "ann", 1, 1), ("L", "ann", 0, 2)]


def test_nothing_to_take_out(room: Room) -> None:
    assert room.seat("ann", 0) == Said(b"absent", b"", 0, 0)
    room.seat("ann", node="n2")
    room.told()
    assert room.seat("ann", 0).happened == b"absent"
    assert room.seat("ann", 0, grace=MINUTE).happened == b"absent"
    assert room.told() == []


def test_a_seat_under_the_former_name_is_taken_over(room: Room) -> None:
    room.seat("ann", 2, node="old")
    room.seat("bob", 1, node="old")
    room.told()
    room.seat("ann", 3, node="new", former="old")
    room.seat("bob", 0, node="new", former="old")
    assert room.seats() == {"ann": {"new": 3}}
    assert room.events() == [("S", "ann", 3, 2), ("L", "bob", 0, 3)]


def test_in_another_life_nothing_is_done(room: Room) -> None:
    assert room.seat("ann", known=b"gone") == Said(b"other", b"", 0, 0)
    life = room.seat("ann").life
    room.told()
    assert room.seat("ann", 0, known=b"gone") == Said(b"other", life, 1, 1)
    assert room.seat("ann", 2, known=life).happened == b"seated"
    assert room.events() == [("S", "ann", 2, 1)]


def test_a_full_room(room: Room) -> None:
    room.seat("ann", most=2)
    room.seat("bob", most=2)
    room.told()
    assert room.seat("cid", most=2).happened == b"full"
    assert room.seat("bob", 1, node="n2", most=2).happened == b"seated"
    room.seat("ann", 0)
    assert room.seat("cid", most=2).happened == b"joined"
    assert [kind for kind, *_ in room.events()] == ["S", "L", "J"]


def test_a_life_is_another_one_after_everything_was_lost(room: Room) -> None:
    first = room.seat("ann").life
    room.client.flushall()
    second = room.seat("ann")
    assert second.life != first
    assert (second.revision, second.version) == (1, 1)


# Grace


def test_a_loss_keeps_the_user_for_the_grace(room: Room) -> None:
    room.seat("ann")
    assert room.seat("ann", 0, grace=MINUTE).happened == b"graced"
    assert room.events() == [("J", "ann", 1, 1), ("S", "ann", 0, 1)]
    left = room.expire()
    assert 0 < left <= MINUTE
    room.pass_time(MINUTE)
    assert room.expire() == -1
    assert room.events() == [("L", "ann", 0, 2)]
    assert room.read().users == 0


def test_a_loss_with_a_seat_left_is_no_loss(room: Room) -> None:
    room.seat("ann")
    room.seat("ann", node="n2")
    assert room.seat("ann", 0, grace=MINUTE).happened == b"seated"
    assert room.client.zcard(GRACE) == 0


def test_a_return_ends_the_grace_without_a_join(room: Room) -> None:
    room.seat("ann")
    room.seat("ann", 0, grace=MINUTE)
    assert room.seat("ann", node="n2").happened == b"seated"
    room.pass_time(MINUTE)
    assert room.expire() == -1
    assert room.events() == [("J", "ann", 1, 1), ("S", "ann", 0, 1), ("S", "ann", 1, 1)]


def test_saying_the_loss_again_does_not_prolong_the_grace(room: Room) -> None:
    room.seat("ann")
    room.seat("ann", 0, grace=MINUTE)
    ends = room.client.zscore(GRACE, "ann")
    assert room.seat("ann", 0, grace=2 * MINUTE).happened == b"graced"
    assert room.client.zscore(GRACE, "ann") == ends


def test_graces_end_in_their_order_and_so_many_at_a_time(room: Room) -> None:
    for user, ends in (("ann", 3), ("bob", 1), ("cid", 2)):
        room.seat(user)
        room.seat(user, 0, grace=ends * MINUTE)
    room.pass_time(4 * MINUTE)
    room.told()
    assert room.expire(most=2) == 0
    assert room.events() == [("L", "bob", 0, 4), ("L", "cid", 0, 5)]
    assert room.expire(most=2) == -1
    assert room.events() == [("L", "ann", 0, 6)]


def test_who_has_a_seat_does_not_go_with_a_grace_that_was_forgotten(room: Room) -> None:
    room.seat("ann")
    room.client.zadd(GRACE, {"ann": 1, "nobody": 1})
    assert room.expire() == -1
    assert room.seats() == {"ann": {"n1": 1}}
    assert room.client.zcard(GRACE) == 0


# What is left behind


def test_an_empty_room_leaves_only_its_version_and_that_not_for_ever(room: Room) -> None:
    room.seat("ann")
    assert room.client.pttl(WHO) == -1
    room.seat("ann", 0)
    assert room.client.keys("*") == [WHO.encode()]
    assert 0 < room.client.pttl(WHO) <= 60 * MINUTE
    assert room.seat("bob").version == 3
    assert room.client.pttl(WHO) == -1


def test_a_room_that_nobody_could_enter_leaves_nothing(room: Room) -> None:
    room.seat("ann", most=0)
    room.seat("ann", 0)
    room.sweep("n1")
    room.expire()
    assert room.read() == Page(b"", 0, 0, 0, "0", [])
    assert room.client.keys("*") == []


def test_out_of_memory_nothing_is_half_done_and_leaving_works(room: Room) -> None:
    room.seat("ann")
    room.told()
    room.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            room.seat("bob")
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            room.seat("ann", 2)
        assert room.seats() == {"ann": {"n1": 1}}
        assert room.seat("ann", 0) == Said(b"left", room.read().life, 2, 2)
    finally:
        room.client.config_set("maxmemory", 0)
    assert room.events() == [("L", "ann", 0, 2)]


# Reading


def test_a_crowded_room_is_not_listed(room: Room) -> None:
    for user in ("ann", "bob", "cid"):
        room.seat(user)
    assert len(room.read(limit=3).entries) == 3
    page = room.read(limit=2)
    assert (page.users, page.version, page.cursor, page.entries) == (3, 3, "0", [])


def test_a_large_room_is_read_in_pages(room: Room) -> None:
    users = {f"user{number}" for number in range(700)}
    for user in users:
        room.seat(user)
    seen: list[str] = []
    page = room.read(size=100)
    pages = 1
    seen += [entry.user for entry in page.entries]
    while page.cursor != "0":
        page = room.read(page.cursor, size=100)
        pages += 1
        seen += [entry.user for entry in page.entries]
    assert set(seen) == users
    assert pages > 3


# Putting back


def test_what_redis_lost_is_put_back_without_a_join(room: Room) -> None:
    life, revision, version = room.restore(("ann", 2), ("bob", 0), told=57)
    assert (revision, version) == (2, 57)
    assert room.events() == [("S", "ann", 2, 57), ("S", "bob", 0, 57)]
    assert room.seats() == {"ann": {"n1": 2}, "bob": {}}
    assert 0 < room.expire() <= MINUTE
    assert room.seat("cid", known=life).version == 58


def test_two_nodes_put_back_what_they_hold(room: Room) -> None:
    room.restore(("ann", 1), ("bob", 0), told=57)
    room.restore(("ann", 0), ("bob", 1), told=57, node="n2")
    assert room.seats() == {"ann": {"n1": 1}, "bob": {"n2": 1}}
    assert room.client.zcard(GRACE) == 0
    assert room.read().version == 57
    assert [kind for kind, *_ in room.events()] == ["S", "S", "S"]


def test_putting_back_again_changes_nothing(room: Room) -> None:
    first = room.restore(("ann", 1), ("bob", 0), told=57)
    room.told()
    assert room.restore(("ann", 1), ("bob", 0), told=57) == first
    assert room.told() == []


def test_a_version_told_before_is_not_told_again_of_something_else(room: Room) -> None:
    room.restore(("ann", 1), told=57)
    room.restore(("bob", 1), told=58, node="n2")
    assert room.read().version == 59
    room.restore(("cid", 1), told=3, node="n3")
    assert room.read().version == 59


def test_a_life_that_goes_on_takes_back_nobody_without_a_seat(room: Room) -> None:
    room.seat("ann", node="n2")
    room.restore(("bob", 0), ("cid", 1), told=57, window=0)
    assert room.seats() == {"ann": {"n2": 1}, "cid": {"n1": 1}}


def test_of_the_same_life_everybody_is_put_back(room: Room) -> None:
    life = room.seat("ann", node="n2").life
    room.restore(("bob", 0), known=life, told=4, window=0)
    assert room.seats() == {"ann": {"n2": 1}, "bob": {}}
    assert room.read().version == 5


def test_putting_back_under_a_new_name(room: Room) -> None:
    life = room.seat("ann", node="old").life
    room.restore(("ann", 1), known=life, node="new", former="old")
    assert room.seats() == {"ann": {"new": 1}}


# Clearing away


def test_a_dead_nodes_users_go_once(room: Room) -> None:
    room.seat("ann", node="dead")
    room.seat("bob", node="dead")
    room.seat("bob", node="n2")
    room.seat("cid", node="n2", info='"dead:1"')
    room.seat("dan", node="dead")
    room.seat("dan", 0, node="dead", grace=MINUTE)
    room.told()
    room.sweep("dead")
    told = {(kind, user, sessions) for kind, user, sessions, _ in room.events()}
    assert told == {("L", "ann", 0), ("S", "bob", 1)}
    assert room.read().version == 5
    room.sweep("dead")
    assert room.told() == []
    assert room.seats() == {"bob": {"n2": 1}, "cid": {"n2": 1}, "dan": {}}
    assert 0 < room.expire() <= MINUTE


def test_a_dead_node_in_a_large_room(room: Room) -> None:
    for number in range(700):
        room.seat(f"user{number}", node=f"n{number % 2}")
    room.told()
    room.sweep("n1")
    records = room.told()
    assert len({record.user for record in records}) == len(records) == 350
    assert [record.version for record in records] == list(range(701, 1051))
    assert {tuple(seats) for seats in room.seats().values()} == {("n0",)}


# Leases


class Nodes:
    """The script of leases as a method."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def renew(
        self, node: str, *, new: bool = False, judge: bool = True, claim: int = MINUTE
    ) -> list[bytes]:
        words = (LEASES, DEAD, node, MINUTE, int(new), int(judge), claim)
        reply: list[bytes] = self.client.eval(scripts.LEASE.source, 2, *words)
        return reply

    def pass_time(self, ms: int) -> None:
        for key in (LEASES, DEAD):
            names: Any = self.client.zrange(key, 0, -1)
            for node in names:
                self.client.zincrby(key, -ms, node)


@pytest.fixture
def nodes(client: redis.Redis) -> Nodes:
    return Nodes(client)


def test_a_lease_is_taken_once_and_renewed(nodes: Nodes) -> None:
    assert nodes.renew("n1") == [b"lost"]
    assert nodes.client.keys("*") == []
    assert nodes.renew("n1", new=True) == [b"held", b""]
    nodes.pass_time(MINUTE // 2)
    assert nodes.renew("n1") == [b"held", b""]
    nodes.pass_time(MINUTE // 2 + 1000)
    assert nodes.renew("n1") == [b"held", b""]


def test_a_lease_that_ended_is_not_taken_again(nodes: Nodes) -> None:
    nodes.renew("n1", new=True)
    nodes.pass_time(MINUTE)
    assert nodes.renew("n1") == [b"lost"]
    assert nodes.renew("n1b", new=True) == [b"held", b"n1"]
    assert nodes.renew("n1") == [b"lost"]


def test_a_dead_node_is_left_to_one_at_a_time(nodes: Nodes) -> None:
    for node in ("n1", "n2", "n3"):
        nodes.renew(node, new=True)
    nodes.pass_time(MINUTE // 2)
    nodes.renew("n2")
    nodes.renew("n3")
    nodes.pass_time(MINUTE // 2)
    assert nodes.renew("n2", claim=MINUTE // 4) == [b"held", b"n1"]
    assert nodes.renew("n3") == [b"held", b""]
    nodes.pass_time(MINUTE // 4)
    assert nodes.renew("n3") == [b"held", b"n1"]


def test_who_may_not_judge_learns_of_no_dead(nodes: Nodes) -> None:
    nodes.renew("n1", new=True)
    nodes.pass_time(MINUTE)
    assert nodes.renew("n2", new=True, judge=False) == [b"held", b""]
    assert nodes.client.zrange(LEASES, 0, -1) == [b"n1", b"n2"]
    assert nodes.renew("n2") == [b"held", b"n1"]
    assert nodes.client.zrange(LEASES, 0, -1) == [b"n2"]
