"""Every branch of the broker's scripts, on a real Redis and without our client."""

import itertools
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from importlib.resources import files
from typing import Any

import pytest
import redis
from redis.client import PubSub

from adapters.redis.keyspace import Keyspace
from adapters.redis.records import Decoder, Record, kept, tail
from domain.identifiers import RoomId, UserId
from domain.message import Draft
from domain.options import Retention
from tests.redis_server import RedisServer, StartRedis

pytestmark = pytest.mark.redis

CHAT = RoomId("chat")
KEEP = Retention(100, 600.0)
NOTHING_KNOWN = ("", 0, "")  # of a room
META_TTL = 30 * 86_400_000
KEY_TTL = 300_000
SCRIPTS = files("adapters.redis") / "scripts"
PUBLISH, READ, TERM = (
    (SCRIPTS / f"{name}.lua").read_text() for name in ("publish", "read", "term")
)


def decode(payload: bytes) -> Record:
    return Decoder(CHAT).decode(payload)


class Room:
    """The scripts on one room, and what becomes of its keys."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.client: Any = server.client(decode_responses=False)
        self.keys = Keyspace().room(CHAT)
        self.ids = map("m{}".format, itertools.count(1))

    def publish(
        self,
        data: str = "x",
        *,
        key: str | None = None,
        digest: str = "d1",
        keep: Retention = KEEP,
        id_: str | None = None,
        again: tuple[str, int, str] | None = None,
        term: str = "",
        script: str = PUBLISH,
    ) -> Any:
        """`again`: epoch, top and term known at the first attempt."""
        message_id = id_ or next(self.ids)
        draft = Draft(CHAT, UserId("ann"), data.encode())
        keys = [self.keys.meta, self.keys.log]
        keys += [] if key is None else [self.keys.publish_key("ann", key)]
        optional: list[str | int] = [term, "" if key is None else digest, *(again or ())]
        return self.client.eval(
            script, len(keys), *keys, "PUBLISH", self.keys.feed,
            tail(draft, message_id, 1.0, kept(keep)), keep.size, int(keep.ttl * 1000),
            *(optional if optional != ["", ""] else ()),
        )  # fmt: skip

    def read(
        self,
        way: str = "up",
        at: int = 0,
        count: int = 100,
        size: int = 10**6,
        *,
        seed: str = "",
        term: str = "",
    ) -> Any:
        arguments: list[str | int] = [way, at, count, size, seed, 1000, term]
        return self.client.eval(READ, 2, self.keys.meta, self.keys.log, *arguments)

    def meta(self) -> dict[str, str]:
        found: Any = self.client.hgetall(self.keys.meta)
        return {name.decode(): value.decode() for name, value in found.items()}

    def log(self) -> list[Record]:
        entries: Any = self.client.xrange(self.keys.log)
        records = [decode(fields[b"m"]) for _, fields in entries]
        assert [f"{record.message.seq}-0".encode() for record in records] == [e[0] for e in entries]
        return records

    def state(self) -> dict[bytes, Any]:
        """Every key with its value."""
        return {name: self.client.dump(name) for name in sorted(self.client.keys())}

    @contextmanager
    def subscribed(self) -> Iterator[PubSub]:
        with self.client.pubsub(ignore_subscribe_messages=True) as feed:
            feed.subscribe(self.keys.feed)
            assert feed.get_message(timeout=20) is None
            yield feed


def heard(feed: PubSub) -> Record:
    message = feed.get_message(timeout=20)
    assert message is not None
    return decode(message["data"])


def place(answer: Any) -> tuple[str, int, str]:
    """Where a message is, as somebody knows it who heard of it."""
    _, epoch, term, seq = answer
    return epoch.decode(), seq, term.decode()


def seqs(records: list[Record]) -> list[int]:
    return [record.message.seq for record in records]


@pytest.fixture
def room(redis_server: RedisServer, redis_url: str) -> Room:
    return Room(redis_server)


def replication_id(server: RedisServer) -> str:
    return str(server.command("INFO", "replication")["master_replid"])


def term_of(reign: str, beginning: str) -> str:
    return sha1(f"{reign}{beginning}".encode(), usedforsecurity=False).hexdigest()[:16]


# Numbering


def test_the_first_message_founds_the_room(room: Room) -> None:
    reign = replication_id(room.server)
    term = term_of(reign, "m1")
    status, epoch, named, seq = room.publish()
    assert (status, named, seq) == (b"OK", term.encode(), 1)
    assert len(epoch) == 32
    assert room.meta() == {
        "epoch": epoch.decode(),
        "seq": "1",
        "term": term,
        "start": "1",
        "previous": "",
        "reign": reign,
        "lineage": f"{term}:0",
    }
    (record,) = room.log()
    found = (record.epoch, record.term, record.start, record.previous)
    assert found == (epoch.decode(), term, 1, "")
    assert record.message.opens_log


def test_numbers_are_consecutive_and_the_life_goes_on(room: Room) -> None:
    replies = [room.publish() for _ in range(5)]
    assert [reply[3] for reply in replies] == [1, 2, 3, 4, 5]
    assert len({(reply[1], reply[2]) for reply in replies}) == 1
    assert seqs(room.log()) == [1, 2, 3, 4, 5]
    assert room.meta()["seq"] == "5"


def test_what_is_stored_is_what_is_sent(room: Room) -> None:
    with room.subscribed() as feed:
        room.publish("a")
        room.publish("b", key="k")
        assert [heard(feed), heard(feed)] == room.log()
        room.publish("b", key="k")
        room.publish("c")
        assert heard(feed).message.data == b"c"


def test_every_room_has_an_epoch_of_its_own(room: Room) -> None:
    first = room.publish()[1]
    room.client.flushall()
    assert room.publish(id_="other")[1] != first


def test_the_log_keeps_the_newest(room: Room) -> None:
    for _ in range(250):
        room.publish(keep=Retention(100, 600.0))
    assert seqs(room.log()) == list(range(151, 251))
    room.publish(keep=Retention(3, 600.0))
    assert seqs(room.log()) == [249, 250, 251]


def test_a_log_may_keep_nothing(room: Room) -> None:
    for _ in range(3):
        reply = room.publish(keep=Retention(0, 600.0))
    assert (reply[3], room.log(), room.meta()["seq"]) == (3, [], "3")
    assert room.read()[1:4:2] == [3, 3]


def test_lifetimes_run_from_the_last_message(room: Room) -> None:
    room.publish(key="k", keep=Retention(100, 5.0))
    room.publish(keep=Retention(100, 60.0))
    log, meta, key = (
        room.client.pttl(name)
        for name in (room.keys.log, room.keys.meta, room.keys.publish_key("ann", "k"))
    )
    assert 55_000 < log <= 60_000
    assert META_TTL - 5_000 < meta <= META_TTL
    assert KEY_TTL - 5_000 < key <= KEY_TTL


# Keys (step 1)


def test_a_key_numbers_once(room: Room) -> None:
    first = room.publish(key="k")
    before = room.state()
    again = room.publish(key="k")
    assert again == [b"USED", *first[1:], b"m1", 1]
    assert room.state() == before


def test_a_key_with_other_data_is_a_conflict(room: Room) -> None:
    room.publish(key="k")
    before = room.state()
    assert room.publish(key="k", digest="d2") == [b"CONFLICT"]
    assert room.state() == before


def test_a_key_names_the_place_where_the_message_went(room: Room) -> None:
    first = room.publish(key="k")
    for _ in range(3):
        room.publish()
    assert room.publish(key="k")[1:4] == first[1:]


@pytest.mark.parametrize("said_since", [0, 1])
def test_a_key_of_another_life_does_not_count(room: Room, said_since: int) -> None:
    first = room.publish(key="k")
    room.client.delete(room.keys.meta)
    for _ in range(said_since):
        room.publish()
    again = room.publish(key="k", id_="again")
    assert (again[0], again[3], again[1] == first[1]) == (b"OK", 1 + said_since, False)
    assert room.publish(key="k") == [b"USED", *again[1:], b"again", 1]


# Lives (step 2)


def test_without_meta_another_life_begins_without_the_old_messages(room: Room) -> None:
    first = room.publish()
    room.publish()
    room.client.delete(room.keys.meta)
    again = room.publish()
    assert (again[3], again[1] == first[1]) == (1, False)
    assert seqs(room.log()) == [1]


def test_without_the_log_the_count_goes_on(room: Room) -> None:
    first = room.publish()
    room.client.delete(room.keys.log)
    again = room.publish()
    assert (again[1], again[3], seqs(room.log())) == (first[1], 2, [2])


# Terms (steps 3 and 5)


def under(reign: str) -> str:
    """The script as it would run under another store."""
    found = "string.match(info, 'master_replid:(%x+)')"
    assert PUBLISH.count(found) == 1
    return PUBLISH.replace(found, f"'{reign}'")


def test_another_store_begins_a_term(room: Room) -> None:
    for reign in "aab":
        room.publish(script=under(reign))
    with room.subscribed() as feed:
        status, epoch, term, seq = room.publish(script=under("c"))
        record = heard(feed)
    a, b, c = term_of("a", "m1"), term_of("b", "m3"), term_of("c", "m4")
    assert (status, term, seq) == (b"OK", c.encode(), 4)
    assert (record.start, record.previous, record.message.opens_log) == (4, b, True)
    assert [(r.term, r.start, r.previous) for r in room.log()] == [
        (a, 1, ""), (a, 1, ""), (b, 3, a), (c, 4, b),
    ]  # fmt: skip
    assert room.meta()["lineage"] == f"{a}:0,{b}:2,{c}:3"
    assert (room.meta()["epoch"], room.meta()["reign"]) == (epoch.decode(), "c")


def test_a_store_that_a_room_comes_back_to_begins_another_term(room: Room) -> None:
    """What it numbered the first time may have been lost elsewhere meanwhile."""
    terms = [room.publish(script=under(reign))[2] for reign in "aaba"]
    assert len(set(terms)) == 3
    assert [entry.split(":")[1] for entry in room.meta()["lineage"].split(",")] == ["0", "2", "3"]


def test_sixteen_terms_are_remembered(room: Room) -> None:
    for reign in "0123456789abcdef01":
        room.publish(script=under(reign))
    lineage = room.meta()["lineage"].split(",")
    assert [entry.split(":")[1] for entry in lineage] == [str(n) for n in range(2, 18)]
    assert lineage[0].split(":")[0] == term_of("2", "m3")


def test_a_restarted_store_begins_a_term(start_redis: StartRedis) -> None:
    server = start_redis("appendonly yes", "appendfsync always")
    room = Room(server)
    first = room.publish()
    server.stop()
    server.start()
    room = Room(server)
    again = room.publish(id_="again")
    assert (again[1], again[3]) == (first[1], 2)
    assert again[2] != first[2]
    assert room.log()[1].previous == first[2].decode()


def hide_info(server: RedisServer) -> Any:
    """A user who may not ask for INFO, as some operators have it."""
    server.command("ACL", "SETUSER", "shy", "on", "nopass", "~*", "&*", "+@all", "-info")
    return server.client(decode_responses=False, username="shy", password="x")


def test_where_info_is_hidden_the_given_term_counts(room: Room) -> None:
    room.client = hide_info(room.server)
    for term in ("made-up", "made-up", "another"):
        room.publish(term=term)
    lineage = f"{term_of('made-up', 'm1')}:0,{term_of('another', 'm3')}:2"
    assert (room.meta()["lineage"], room.meta()["reign"]) == (lineage, "another")


def test_under_an_older_name_nothing_new_begins(room: Room) -> None:
    """Somebody who has not heard of the newest one yet, or makes up none with numbers."""
    room.client = hide_info(room.server)
    for term in ("9-a", "10-b", "9-a", "unnumbered", "10-b", "11-c"):
        room.publish(term=term)
    assert [entry.split(":")[1] for entry in room.meta()["lineage"].split(",")] == ["0", "1", "5"]
    assert room.meta()["reign"] == "11-c"


@pytest.mark.parametrize("what", ["publish", "read"])
def test_without_any_term_nothing_is_done(room: Room, what: str) -> None:
    room.client = hide_info(room.server)
    with pytest.raises(redis.ResponseError, match="NOTERM"):
        room.publish(term="") if what == "publish" else room.read(seed="s")
    assert room.state() == {}


# All or nothing (step 4)


@pytest.mark.parametrize("before", [0, 3])
def test_without_memory_nothing_is_done(start_redis: StartRedis, before: int) -> None:
    room = Room(start_redis("maxmemory-policy noeviction"))
    for _ in range(before):
        room.publish(key="k", digest="d1")
    room.client.script_load(PUBLISH)
    state = room.state()
    room.client.config_set("maxmemory", 1)
    for key in (None, "k2"):
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            room.publish(key=key)
    assert room.state() == state
    room.client.config_set("maxmemory", 0)
    assert room.publish()[3] == (before and 1) + 1


def test_a_message_that_cannot_be_stored_takes_no_number(room: Room) -> None:
    room.publish()
    room.client.set(room.keys.log, "no stream")
    state = room.state()
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        room.publish(key="k")
    assert room.state() == state


@pytest.mark.parametrize("what", ["publish", "read"])
def test_without_enough_replicas_nothing_is_done(start_redis: StartRedis, what: str) -> None:
    room = Room(start_redis("min-replicas-to-write 1"))
    with pytest.raises(redis.ResponseError, match="NOREPLICAS"):
        room.publish() if what == "publish" else room.read(seed="s")
    assert room.state() == {}


def test_where_writing_is_refused_reading_goes_on(room: Room) -> None:
    room.publish("a")
    room.client.config_set("min-replicas-to-write", 1)
    try:
        assert room.read(seed="s")[1] == 1
    finally:
        room.client.config_set("min-replicas-to-write", 0)


def test_subscribers_hear_of_nothing_that_was_not_done(start_redis: StartRedis) -> None:
    room = Room(start_redis("maxmemory-policy noeviction"))
    room.publish("a")
    with room.subscribed() as feed:
        room.client.config_set("maxmemory", 1)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            room.publish("b")
        room.client.config_set("maxmemory", 0)
        room.publish("c")
        assert (heard(feed).message.seq, room.meta()["seq"]) == (2, "2")


# Sent again, because no reply came


def own(number: int) -> str:
    """The id that a publisher gives to one of its messages."""
    return f"the-one-node{number:x}"


LOST, NOT_DONE = own(0x1F), own(0x20)


def test_what_was_done_is_not_done_again(room: Room) -> None:
    known = place(room.publish())
    done = room.publish(id_=LOST)
    for _ in range(3):
        room.publish()
    before = room.state()
    assert room.publish(id_=LOST, again=known) == [b"USED", *done[1:], LOST.encode(), 1]
    assert room.state() == before


def test_what_was_not_done_is_done(room: Room) -> None:
    known = place(room.publish())
    room.publish()
    assert room.publish(id_=LOST, again=known)[::3] == [b"OK", 3]


def test_what_is_sent_again_is_found_far_below(room: Room) -> None:
    keep = Retention(1000, 600.0)
    known = place(room.publish(keep=keep))
    done = room.publish(id_=LOST, keep=keep)
    for _ in range(350):
        room.publish(keep=keep)
    assert room.publish(id_=LOST, again=known, keep=keep)[:4] == [b"USED", *done[1:]]
    assert room.publish(id_=NOT_DONE, again=known, keep=keep)[3] == 353


@pytest.mark.parametrize("keep", [Retention(2, 600.0), Retention(0, 600.0)])
def test_what_may_have_been_done_and_trimmed_is_unknown(room: Room, keep: Retention) -> None:
    known = place(room.publish())
    room.publish(id_=LOST)
    for _ in range(3):
        room.publish(keep=keep)
    before = room.state()
    assert room.publish(id_=LOST, again=known) == [b"UNKNOWN"]
    assert room.publish(id_=NOT_DONE, again=known) == [b"UNKNOWN"]
    assert room.state() == before


def test_what_somebody_may_have_taken_out_of_the_log_is_unknown(room: Room) -> None:
    room.publish()
    room.publish(id_=LOST)
    room.publish()
    room.client.xdel(room.keys.log, "2-0")
    assert room.publish(id_=LOST, again=NOTHING_KNOWN) == [b"UNKNOWN"]


def test_with_nothing_numbered_since_it_was_not_done(room: Room) -> None:
    keep = Retention(0, 600.0)
    known = place(room.publish(keep=keep))
    assert room.publish(id_=LOST, again=known, keep=keep)[::3] == [b"OK", 2]


@pytest.mark.parametrize("then", ["b", "bc"])
def test_what_a_store_did_that_went_on_from_less_is_not_done_again(room: Room, then: str) -> None:
    """Somebody had heard of ten messages, of which the next store had three only."""
    for _ in range(3):
        epoch, _, term = place(room.publish(script=under("a")))
    done = room.publish(id_=LOST, script=under("b"))
    for reign in then:
        room.publish(script=under(reign))
    again = room.publish(id_=LOST, again=(epoch, 10, term), script=under(then[-1]))
    assert again == [b"USED", *done[1:], LOST.encode(), 1]
    assert room.publish(id_=NOT_DONE, again=(epoch, 10, term), script=under(then[-1]))[0] == b"OK"


def test_with_a_term_that_is_not_known_the_whole_log_is_looked_through(room: Room) -> None:
    epoch = place(room.publish())[0]
    done = room.publish(id_=LOST)
    assert room.publish(id_=LOST, again=(epoch, 10, "lost"))[:4] == [b"USED", *done[1:]]


def test_a_message_heard_of_in_a_later_term_is_above_its_beginning(room: Room) -> None:
    keep = Retention(1, 600.0)
    room.publish(script=under("a"), keep=keep)
    known = place(room.publish(script=under("b"), keep=keep))
    assert room.publish(id_=NOT_DONE, again=known, script=under("b"), keep=keep)[::3] == [b"OK", 3]


def test_without_a_known_top_the_whole_log_is_looked_through(room: Room) -> None:
    done = room.publish(id_=LOST)
    room.publish()
    assert room.publish(id_=LOST, again=NOTHING_KNOWN)[:4] == [b"USED", *done[1:]]
    assert room.publish(id_=NOT_DONE, again=NOTHING_KNOWN)[0] == b"OK"


def test_in_another_life_the_known_top_means_nothing(room: Room) -> None:
    known = place(room.publish())
    room.client.flushall()
    done = room.publish(id_=LOST)
    assert room.publish(id_=LOST, again=known)[:4] == [b"USED", *done[1:]]


def test_what_was_lost_with_its_log_is_done_again(room: Room) -> None:
    known = place(room.publish())
    room.publish(id_=LOST)
    room.client.flushall()
    assert room.publish(id_=LOST, again=known)[::3] == [b"OK", 1]


def test_somebody_s_data_is_not_taken_for_an_id(room: Room) -> None:
    known = place(room.publish())
    room.publish(f'" {LOST} "')
    assert room.publish(id_=LOST, again=known)[::3] == [b"OK", 3]


def counting() -> str:
    """The script, keeping count of the messages it reads in search of one."""
    reading = re.compile(r"local entries = redis\.call\('XREVRANGE'.*\n")
    assert len(reading.findall(PUBLISH)) == 1
    return reading.sub(lambda line: f"{line[0]}redis.call('INCRBY', 'read', #entries)\n", PUBLISH)


@pytest.mark.parametrize("others", [0, 2])
def test_many_sent_again_are_found_by_few_looks(room: Room, others: int) -> None:
    """After a silence everything is sent again that was under way, in its order. Looked for one
    after the other, each would take as long as all before it."""
    keep = Retention(10_000, 600.0)
    known = place(room.publish(keep=keep))
    done = []
    for number in range(300):
        done.append(room.publish(id_=own(number), keep=keep))
        for _ in range(others):
            room.publish(keep=keep)
    again = [
        room.publish(id_=own(number), again=known, keep=keep, script=counting())
        for number in range(400)
    ]
    assert [reply[:4] for reply in again[:300]] == [[b"USED", *reply[1:]] for reply in done]
    assert [reply[0] for reply in again[300:]] == [b"OK"] * 100
    assert int(room.client.get("read")) <= 64 * len(again)


@pytest.mark.parametrize("data", ["x", "x" * 60_000])
def test_what_would_take_long_to_find_is_unknown(room: Room, data: str) -> None:
    keep = Retention(10_000, 600.0)
    for _ in range(700 if len(data) == 1 else 200):
        room.publish(data, keep=keep)
    before = room.state()
    assert room.publish(id_=LOST, again=NOTHING_KNOWN, keep=keep) == [b"UNKNOWN"]
    assert room.state() == before


def test_a_log_of_five_hundred_is_looked_through(room: Room) -> None:
    keep = Retention(500, 600.0)
    for _ in range(500):
        room.publish(keep=keep)
    assert room.publish(id_=LOST, again=NOTHING_KNOWN, keep=keep)[::3] == [b"OK", 501]


def test_an_earlier_one_of_the_same_publisher_shows_that_it_was_not_done(room: Room) -> None:
    """Also where what is below it is gone."""
    known = place(room.publish())
    for number in range(5):
        room.publish(id_=own(number), keep=Retention(2, 600.0))
    assert room.publish(id_=own(5), again=known)[::3] == [b"OK", 7]
    assert room.publish(id_=own(1), again=known) == [b"UNKNOWN"]


def test_what_somebody_took_out_elsewhere_does_not_matter(room: Room) -> None:
    known = place(room.publish())
    done = [room.publish(id_=own(number)) for number in range(6)]
    room.client.xdel(room.keys.log, "3-0")
    assert room.publish(id_=own(5), again=known)[:4] == [b"USED", *done[5][1:]]
    assert room.publish(id_=own(6), again=known)[0] == b"OK"
    assert room.publish(id_=own(1), again=known) == [b"UNKNOWN"]


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_sent_again_is_there_once(room: Room, seed: int) -> None:
    """Several publish, some of it is refused, the log forgets, and the end of what one of them sent
    was never done. All that it may have to send again is sent again."""
    chance = random.Random(seed)
    small = PUBLISH.replace("local CHUNK = 64", "local CHUNK = 8")
    for life in range(6):
        room.client.flushall()
        keep = Retention(chance.choice([3, 20, 1000]), 600.0)
        known, done = dict[int, tuple[str, int, str]](), dict[int, Any]()
        top = place(room.publish(keep=keep))
        for number in sorted(chance.sample(range(120), chance.randint(1, 60))):
            for _ in range(chance.choice([0, 0, 1, 12])):
                top = place(room.publish(keep=keep))
            known[number] = chance.choice([top, known.get(number - 1, top), NOTHING_KNOWN])
            if chance.random() < 0.8:
                done[number] = room.publish(id_=own(number), keep=keep)
        last = max(done, default=-1)
        for number in [n for n in known if n in done or n > last]:
            there = {record.message.id: record for record in room.log()}
            told = room.publish(id_=own(number), again=known[number], keep=keep, script=small)
            if own(number) in there:
                assert told[:4] == [b"USED", *done[number][1:]], (life, number)
                continue
            kept = [r.message.seq for r in there.values()][:1] or [int(room.meta()["seq"]) + 1]
            earlier = any(
                id_.startswith(own(0)[:12]) and int(id_[12:], 16) < number for id_ in there
            )
            sure = earlier or kept[0] - 1 <= known[number][1]
            assert told[0] == (b"OK" if sure else b"UNKNOWN"), (life, number)
            assert not (sure and number in done)


def test_with_a_key_the_key_decides(room: Room) -> None:
    done = room.publish(key="k", id_="lost")
    for _ in range(3):
        room.publish(keep=Retention(1, 600.0))
    again = room.publish(key="k", id_="lost", again=NOTHING_KNOWN)
    assert again == [b"USED", *done[1:], b"lost", 1]
    assert room.publish(key="other", id_="new", again=NOTHING_KNOWN)[0] == b"OK"


# Reading


def entries(reply: Any) -> list[int]:
    found = [decode(record).message.seq for record in reply[5][1::2]]
    assert found == reply[5][::2]
    return found


def test_reading_does_not_make_a_room(room: Room) -> None:
    assert (room.read(), room.state()) == ([], {})


def test_entering_makes_a_room(room: Room) -> None:
    term = term_of(replication_id(room.server), "s")
    epoch, top, lineage, floor, left, found = room.read(seed="s")
    assert (len(epoch), top, lineage, floor, left, found) == (
        32,
        0,
        f"{term}:0".encode(),
        0,
        -2,
        [],
    )
    assert room.read(seed="other")[0] == epoch
    assert META_TTL - 5_000 < room.client.pttl(room.keys.meta) <= META_TTL
    assert room.publish()[1:] == [epoch, term.encode(), 1]
    assert (room.log()[0].previous, room.log()[0].start) == ("", 1)


def test_entering_renews_the_lifetime_and_reading_does_not(room: Room) -> None:
    room.publish()
    room.client.pexpire(room.keys.meta, 1000_000)
    room.read()
    assert room.client.pttl(room.keys.meta) <= 1000_000
    room.read(seed="s")
    assert room.client.pttl(room.keys.meta) > 1000_000


def test_entering_a_room_without_meta_leaves_nothing_of_the_life_before(room: Room) -> None:
    epoch = room.publish()[1]
    room.client.delete(room.keys.meta)
    reply = room.read(seed="s")
    assert (reply[0] == epoch, reply[1:2], reply[5]) == (False, [0], [])
    assert not room.client.exists(room.keys.log)


@pytest.mark.parametrize(
    ("way", "at", "count", "expected"),
    [
        ("up", 0, 100, list(range(41, 91))),
        ("up", 40, 3, [41, 42, 43]),
        ("up", 60, 3, [61, 62, 63]),
        ("up", 60, 35, list(range(61, 91))),
        ("up", 60, 0, []),
        ("up", 90, 3, []),
        ("up", 1000, 3, []),
        ("down", 10**14, 3, [90, 89, 88]),
        ("down", 50, 3, [49, 48, 47]),
        ("down", 42, 3, [41]),
        ("down", 41, 3, []),
        ("down", 1, 3, []),
        ("down", 0, 3, []),
        ("down", 10**14, 100, list(range(90, 40, -1))),
    ],
)
def test_a_part_of_the_log_is_read(
    room: Room, way: str, at: int, count: int, expected: list[int]
) -> None:
    for _ in range(90):
        room.publish(keep=Retention(50, 600.0))
    reply = room.read(way, at, count)
    assert (reply[1], reply[3], entries(reply)) == (90, 40, expected)
    assert 590_000 < reply[4] <= 600_000


@pytest.mark.parametrize(("way", "at"), [("up", 0), ("down", 100)])
def test_a_look_is_bounded_in_bytes(room: Room, way: str, at: int) -> None:
    for _ in range(4):
        room.publish("x" * 1000)
    assert len(entries(room.read(way, at, size=2500))) == 2
    assert len(entries(room.read(way, at, size=1))) == 1


def test_an_evicted_log_keeps_nothing(room: Room) -> None:
    room.publish()
    room.publish()
    room.client.delete(room.keys.log)
    assert room.read(seed="s")[1:] == [2, room.meta()["lineage"].encode(), 2, -2, []]


# Made-up terms


def test_where_info_is_hidden_who_comes_first_names_the_term(room: Room) -> None:
    def agree(over: str, new: str) -> Any:
        return room.client.eval(TERM, 1, Keyspace().term, over, new)

    assert agree("", "a") == b""
    assert room.state() == {}
    room.client = hide_info(room.server)
    assert [
        agree("", "a"), agree("", "b"), agree("1-a", "c"), agree("1-a", "d"), agree("2-c", "e"),
    ] == [b"1-a", b"1-a", b"2-c", b"2-c", b"3-e"]  # fmt: skip


def test_a_name_older_than_the_one_that_is_over_is_over_too(room: Room) -> None:
    """A store that took over may not have heard of the newest one."""
    room.client = hide_info(room.server)
    room.client.set(Keyspace().term, "2-c")
    over = ["3-d", "unnumbered"]
    agreed = [room.client.eval(TERM, 1, Keyspace().term, name, "new") for name in over]
    assert agreed == [b"4-new", b"4-new"]
