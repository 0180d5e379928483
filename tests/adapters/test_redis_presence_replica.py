"""What a node makes of pages and of a feed, without either."""

import random

import pytest

from adapters.redis.presence_records import (
    CAME,
    SEATED,
    WENT,
    BadRecord,
    Entry,
    Page,
    Record,
    decode,
    decode_page,
)
from adapters.redis.presence_replica import Gap, Loaded, Loading, Replica
from domain.identifiers import RoomId, UserId
from domain.member import ChangeKind, Member, PresenceChange

CHAT = RoomId("chat")
LIFE, OTHER = b"n1-1.2", b"n2-3.4"
JOIN, LEAVE = ChangeKind.JOIN, ChangeKind.LEAVE


class Truth:
    """A room as Redis would have it: what it tells, and pages of it."""

    def __init__(self, life: bytes = LIFE) -> None:
        self.life = life
        self.revision = 0
        self.version = 0
        self.users: dict[str, int] = {}

    def came(self, user: str) -> Record:
        self.users[user] = 1
        self.version += 1
        return self._record(CAME, user, 1)

    def went(self, user: str) -> Record:
        del self.users[user]
        self.version += 1
        return self._record(WENT, user, 0)

    def seated(self, user: str, sessions: int) -> Record:
        self.users[user] = sessions
        return self._record(SEATED, user, sessions)

    def page(self, *users: str, cursor: str = "0") -> Page:
        """A page of these users, or of all."""
        shown = users or tuple(self.users)
        entries = [
            Entry(UserId(user), b"null", self.users[user], {"n1": self.users[user]})
            for user in shown
            if user in self.users
        ]
        life = self.life if self.revision else b""
        return Page(life, self.revision, self.version, len(self.users), cursor, entries)

    def _record(self, kind: bytes, user: str, sessions: int) -> Record:
        self.revision += 1
        users = len(self.users)
        name = UserId(user)
        return Record(self.life, self.revision, self.version, kind, users, sessions, name, b"null")


def read(replica: Replica, *pages: Page, heard: tuple[Record, ...] = ()) -> list[PresenceChange]:
    """Load pages; the feed said `heard` before the first one came."""
    loading = Loading()
    for record in heard:
        loading.hear(record)
    for page in pages:
        loading.add(page)
    loaded = loading.finish()
    assert loaded is not None
    return list(replica.adopt(loaded))


def told(changes: list[PresenceChange]) -> list[tuple[str, str, int]]:
    return [(change.kind, change.user, change.version) for change in changes]


def users(replica: Replica) -> dict[str, int]:
    members = replica.snapshot().members
    assert members is not None
    assert list(members) == sorted(members)
    return {member.user: member.sessions for member in members}


@pytest.fixture
def truth() -> Truth:
    return Truth()


@pytest.fixture
def replica(truth: Truth) -> Replica:
    """One that has read the empty room."""
    replica = Replica(CHAT)
    assert read(replica, truth.page()) == []
    return replica


# Following the feed


def test_joins_and_leaves_are_told_and_nothing_else(truth: Truth, replica: Replica) -> None:
    ann = UserId("ann")
    assert replica.apply(truth.came("ann")) == PresenceChange(JOIN, CHAT, ann, b"null", 1, 1)
    assert replica.apply(truth.seated("ann", 2)) is None
    assert users(replica) == {"ann": 2}
    assert replica.apply(truth.went("ann")) == PresenceChange(LEAVE, CHAT, ann, b"null", 0, 2)
    assert (users(replica), replica.version) == ({}, 2)


def test_what_the_pages_showed_is_not_told_again(truth: Truth) -> None:
    record = truth.came("ann")
    replica = Replica(CHAT)
    assert read(replica, truth.page()) == []
    assert replica.apply(record) is None
    assert users(replica) == {"ann": 1}


def test_a_hole_is_noticed(truth: Truth, replica: Replica) -> None:
    truth.came("ann")
    with pytest.raises(Gap):
        replica.apply(truth.came("bob"))


def test_another_life_is_noticed(truth: Truth, replica: Replica) -> None:
    replica.apply(truth.came("ann"))
    other = Truth(OTHER)
    with pytest.raises(Gap):
        replica.apply(other.came("bob"))
    with pytest.raises(Gap):
        replica.apply(other.came("cid"))
    assert users(replica) == {"ann": 1}


def test_a_room_that_was_empty_gets_its_life_from_the_first_record(replica: Replica) -> None:
    other = Truth(OTHER)
    other.came("ann")
    with pytest.raises(Gap):
        replica.apply(other.came("bob"))
    other = Truth(OTHER)
    assert replica.apply(other.came("ann")) is not None
    assert replica.life == OTHER


def test_somebody_put_back_whom_nobody_here_knew_is_no_join_of_this_version(
    truth: Truth, replica: Replica
) -> None:
    with pytest.raises(Gap):
        replica.apply(truth.seated("ann", 1))
    assert not users(replica)


def test_a_crowded_room_is_not_listed(truth: Truth, replica: Replica) -> None:
    for user in ("cid", "ann", "bob"):
        replica.apply(truth.came(user))
    assert replica.snapshot(2).members is None
    listed = replica.snapshot(3)
    assert listed.members == tuple(Member(UserId(u), b"null", 1) for u in ("ann", "bob", "cid"))
    assert replica.snapshot(3).members is listed.members
    replica.apply(truth.went("bob"))
    replica.apply(truth.came("abe"))
    assert list(users(replica)) == ["abe", "ann", "cid"]


# Reading


def test_what_happened_while_it_was_read_is_told(truth: Truth) -> None:
    truth.came("ann")
    page = truth.page()
    changes = read(Replica(CHAT), page, heard=(truth.came("bob"), truth.went("ann")))
    assert told(changes) == [(JOIN, "bob", 2), (LEAVE, "ann", 3)]


def test_what_happened_between_two_pages_is_told(truth: Truth) -> None:
    truth.came("ann")
    first = truth.page("ann", cursor="7")
    heard = (truth.came("bob"), truth.seated("ann", 2), truth.went("ann"))
    replica = Replica(CHAT)
    changes = read(replica, first, truth.page("bob"), heard=heard)
    assert told(changes) == [(JOIN, "bob", 2), (LEAVE, "ann", 3)]
    assert users(replica) == {"bob": 1}


def test_what_happened_before_the_page_is_not_told(truth: Truth) -> None:
    replica = Replica(CHAT)
    heard = (truth.came("ann"), truth.came("bob"))
    assert read(replica, truth.page(), heard=heard) == []
    assert users(replica) == {"ann": 1, "bob": 1}


def test_reading_again_tells_the_difference(truth: Truth, replica: Replica) -> None:
    for user in ("ann", "bob"):
        replica.apply(truth.came(user))
    truth.went("ann")
    truth.came("cid")
    truth.seated("bob", 5)
    changes = read(replica, truth.page())
    assert told(changes) == [(LEAVE, "ann", 4), (JOIN, "cid", 4)]
    assert {change.count for change in changes} == {2}
    assert users(replica) == {"bob": 5, "cid": 1}
    assert replica.apply(truth.went("cid")) is not None


def test_reading_the_same_again_tells_nothing(truth: Truth, replica: Replica) -> None:
    replica.apply(truth.came("ann"))
    assert read(replica, truth.page()) == []


def test_a_hole_in_what_was_heard_is_noticed(truth: Truth) -> None:
    loading = Loading()
    loading.add(truth.page())
    truth.came("ann")
    loading.hear(truth.came("bob"))
    with pytest.raises(Gap):
        loading.finish()


def test_pages_of_two_lives_are_no_room(truth: Truth) -> None:
    truth.came("ann")
    loading = Loading()
    loading.add(truth.page(cursor="7"))
    other = Truth(OTHER)
    other.came("bob")
    with pytest.raises(Gap):
        loading.add(other.page())


def test_pages_of_several_moments_wait_for_the_feed(truth: Truth) -> None:
    truth.came("ann")
    truth.came("bob")
    loading = Loading()
    loading.add(truth.page("ann", cursor="7"))
    assert loading.finish() is None
    records = [truth.went("ann"), truth.came("cid")]
    loading.add(truth.page("bob"))
    assert loading.finish() is None
    loading.hear(records[0])
    assert loading.finish() is None
    loading.hear(records[1])
    loaded = loading.finish()
    assert loaded is not None
    assert (set(loaded.members), loaded.revision, loaded.version) == ({"bob", "cid"}, 4, 4)


@pytest.mark.parametrize("seed", range(40))
def test_pages_taken_while_everything_changes_make_one_room(seed: int) -> None:
    """Each page shows its users as they are when it is taken; the feed is late by some records."""
    dice = random.Random(seed)
    truth, names = Truth(), [f"user{number}" for number in range(12)]
    for user in names[::2]:
        truth.came(user)
    replica, loading = Replica(CHAT), Loading()
    records: list[Record] = []
    for at in range(0, len(names), 3):
        last = at + 3 >= len(names)
        loading.add(truth.page(*names[at : at + 3], cursor="0" if last else "1"))
        for _ in range(dice.randrange(4)):
            user = dice.choice(names)
            if user not in truth.users:
                records.append(truth.came(user))
            elif dice.random() < 0.5:
                records.append(truth.went(user))
            else:
                records.append(truth.seated(user, dice.randrange(1, 5)))
        for _ in range(dice.randrange(3)):
            if records:
                loading.hear(records.pop(0))
    loaded = loading.finish()
    while loaded is None:
        loading.hear(records.pop(0))
        loaded = loading.finish()
    list(replica.adopt(loaded))
    for record in records:
        replica.apply(record)
    assert users(replica) == truth.users
    assert (replica.revision, replica.version) == (truth.revision, truth.version)


# Falling back


def test_a_later_state_continues_and_an_earlier_one_does_not(
    truth: Truth, replica: Replica
) -> None:
    replica.apply(truth.came("ann"))
    before = _loaded(truth.page())
    replica.apply(truth.came("bob"))
    assert not replica.continues(before)
    truth.came("cid")
    assert replica.continues(_loaded(truth.page()))
    other = Truth(OTHER)
    for number in range(9):
        other.came(f"user{number}")
    assert not replica.continues(_loaded(other.page()))
    assert Replica(CHAT).continues(before)


def test_what_is_told_with_versions_that_are_taken_for_old_cannot_be_told(truth: Truth) -> None:
    """Nobody asks who is there where no version is missing."""
    replica = Replica(CHAT)
    assert replica.can_tell(_loaded(truth.page()))
    truth.came("ann")
    read(replica, truth.page())
    for user in ("bob", "cid"):
        replica.apply(truth.came(user))
    other = Truth()
    for user in ("ann", "dan", "eve"):
        other.came(user)
    assert not replica.can_tell(_loaded(other.page())), "others came, to the same version"
    other.came("fay")
    assert not replica.can_tell(_loaded(other.page())), "and to the next one"
    other.came("gus")
    assert replica.can_tell(_loaded(other.page())), "one is missing"
    truth.came("hal")
    assert replica.can_tell(_loaded(truth.page())), "the next one, and nothing else"
    truth.went("hal")
    assert replica.can_tell(_loaded(truth.page())), "one is missing to whatever is told next"


def _loaded(page: Page) -> Loaded:
    loading = Loading()
    loading.add(page)
    loaded = loading.finish()
    assert loaded is not None
    return loaded


# What is read from Redis


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"P",
        b"P1",
        b"P2 life 1 1 J 1 1 ann null",
        b"P1 life 1 1 X 1 1 ann null",
        b"P1 life one 1 J 1 1 ann null",
        b"P1 life 1 1 J 1 1 \xff null",
        b"P1 life 1 1 J 1 1 ann",
        b"M" * 1000,
    ],
)
def test_junk_on_a_feed_is_told_apart(payload: bytes) -> None:
    with pytest.raises(BadRecord):
        decode(payload)


def test_a_record_is_read() -> None:
    record = decode(b'P1 n1-1.2 7 5 L 3 0 ann {"a": " b"}')
    assert record == Record(LIFE, 7, 5, WENT, 3, 0, UserId("ann"), b'{"a": " b"}')


@pytest.mark.parametrize(
    "reply",
    [
        None,
        [],
        [b"life", 1, 1, 1, b"0"],
        [b"life", 1, 1, 1, b"0", [b"ann"]],
        [b"life", 1, 1, 1, b"0", [b"ann", b"no bar"]],
        [b"life", 1, 1, 1, b"0", [b"\xff", b"n1:1|null"]],
        [b"life", 1, 1, 1, 0, []],
    ],
)
def test_junk_in_the_place_of_a_page_is_told_apart(reply: list[object]) -> None:
    with pytest.raises(BadRecord):
        decode_page(reply)


def test_a_page_is_read() -> None:
    page = decode_page([b"x", 2, 1, 2, b"0", [b"ann", b"n1:2,n2:1|{}", b"bob", b"|null"]])
    assert page == Page(
        b"x",
        2,
        1,
        2,
        "0",
        [Entry(UserId("ann"), b"{}", 3, {"n1": 2, "n2": 1}), Entry(UserId("bob"), b"null", 0, {})],
    )
