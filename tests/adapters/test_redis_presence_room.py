"""Which seats of a node are to be spoken of again, and who waits for what; without Redis."""

import asyncio

import pytest

from adapters.redis.keyspace import Keyspace
from adapters.redis.presence_records import CAME, Entry, Page, Record
from adapters.redis.presence_replica import Loaded, Loading
from adapters.redis.presence_room import AttendedRoom, Seat
from domain.errors import Unavailable
from domain.identifiers import SessionId, UserId
from tests.contract.conftest import CHAT

ANN, BOB = UserId("ann"), UserId("bob")
LIFE, NODE = b"n1-1.2", "n1"


@pytest.fixture
def room() -> AttendedRoom:
    return AttendedRoom(CHAT, Keyspace().room(CHAT))


def sit(room: AttendedRoom, user: UserId = ANN, session: str = "1", held: int = 1) -> Seat:
    """Sit down, and let Redis know."""
    seat, _ = room.sit(user, SessionId(session), b"null")
    seat.held = held
    return seat


def page(revision: int = 0, **seats: dict[str, int]) -> Page:
    """Users and their seats by node."""
    entries = [
        Entry(UserId(user), b'"theirs"', sum(held.values()), held) for user, held in seats.items()
    ]
    return Page(LIFE, revision, 0, len(entries), "0", entries)


def loaded(room: AttendedRoom, page: Page) -> Loaded:
    """Begin to read, and read."""
    loading = room.begin_loading(0.0)
    loading.add(page)
    found = loading.finish()
    assert found is not None
    return found


def came(revision: int, user: UserId = ANN) -> Record:
    return Record(LIFE, revision, revision, CAME, 1, 1, user, b"null")


# Seats


def test_sitting_twice_is_sitting_once(room: AttendedRoom) -> None:
    seat, new = room.sit(ANN, SessionId("1"), b"old")
    again, newer = room.sit(ANN, SessionId("1"), b"new")
    assert (again, new, newer) == (seat, True, False)
    assert (seat.sessions, seat.info) == ({"1"}, b"new")


def test_who_does_not_sit_does_not_rise(room: AttendedRoom) -> None:
    sit(room)
    assert room.rise(BOB, SessionId("1"), clean=True) is None
    assert room.rise(ANN, SessionId("2"), clean=True) is None
    assert room.rise(ANN, SessionId("1"), clean=False) is room.seats[ANN]
    assert room.rise(ANN, SessionId("1"), clean=True) is None
    assert not room.seats[ANN].clean


def test_a_seat_is_forgotten_once_redis_knows_that_it_is_empty(room: AttendedRoom) -> None:
    seat = sit(room)
    room.tidy(ANN, seat)
    assert (room.seats, room.unsettled) == ({ANN: seat}, set())
    room.rise(ANN, SessionId("1"), clean=True)
    seat.calls = 1
    room.tidy(ANN, seat)
    assert (room.seats, room.unsettled) == ({ANN: seat}, set())
    seat.calls, seat.held = 0, None
    room.tidy(ANN, seat)
    assert room.unsettled == {ANN}
    seat.held = 0
    room.tidy(ANN, seat)
    assert room.seats == {}


def test_a_seat_that_redis_has_otherwise_is_spoken_of_again(room: AttendedRoom) -> None:
    sit(room, ANN)
    sit(room, BOB)
    room.compare(page(ann={NODE: 1, "n2": 5}, bob={"n2": 5}), NODE, "")
    assert room.unsettled == {BOB}
    room.compare(page(ann={NODE: 2}), NODE, "")
    assert room.unsettled == {ANN, BOB}


def test_a_seat_under_the_former_name_is_spoken_of_again(room: AttendedRoom) -> None:
    sit(room, ANN)
    room.compare(page(ann={"old": 1}), NODE, "old")
    assert room.unsettled == {ANN}


def test_a_seat_that_no_page_shows_is_spoken_of_again(room: AttendedRoom) -> None:
    sit(room, ANN)
    sit(room, BOB)
    room.compare_absent({BOB})
    assert room.unsettled == {ANN}


def test_a_seat_that_only_redis_knows_of_is_given_up(room: AttendedRoom) -> None:
    room.compare(page(ann={NODE: 1}, bob={"n2": 1}), NODE, "")
    assert room.unsettled == set(room.seats) == {ANN}
    assert (room.seats[ANN].sessions, room.seats[ANN].held) == (set(), 1)


def test_what_is_on_its_way_is_not_compared(room: AttendedRoom) -> None:
    sit(room, ANN, held=0).calls = 1
    room.compare(page(ann={NODE: 7}), NODE, "")
    room.compare_absent(set())
    assert room.unsettled == set()
    assert room.seats[ANN].held == 0


def test_who_just_left_for_good_is_not_put_back(room: AttendedRoom) -> None:
    list(room.adopt(loaded(room, page(ann={NODE: 1}, bob={NODE: 1}, cid={"n2": 1}))))
    for user in (ANN, BOB, UserId("dan")):
        sit(room, user)
    room.rise(ANN, SessionId("1"), clean=True)
    room.rise(BOB, SessionId("1"), clean=False)
    assert sorted(room.to_restore()) == [
        ("bob", 0, b"null"),
        ("cid", 0, b'"theirs"'),
        ("dan", 1, b"null"),
    ]


# What is expected of the feed


def test_a_feed_that_stands_still_is_noticed(room: AttendedRoom) -> None:
    room.adopt(loaded(room, page()))
    assert room.expect(LIFE, 3, now=10.0)
    assert not room.overdue(10.5, patience=1.0)
    room.hear(came(1))
    assert not room.overdue(11.0, patience=1.0)
    assert not room.overdue(11.9, patience=1.0)
    assert room.overdue(12.0, patience=1.0)


def test_a_feed_that_came_is_not_waited_for(room: AttendedRoom) -> None:
    room.adopt(loaded(room, page()))
    room.expect(LIFE, 1, now=10.0)
    assert room.lags
    room.hear(came(1))
    assert not room.lags
    assert not room.overdue(99.0, patience=1.0)
    assert not room.expect(LIFE, 1, now=99.0)


def test_what_was_expected_before_a_reading_is_in_it(room: AttendedRoom) -> None:
    """Even when Redis lost it meanwhile."""
    room.adopt(loaded(room, page()))
    room.expect(LIFE, 5, now=10.0)
    room.adopt(loaded(room, page()))
    assert not room.lags


async def test_who_waits_is_woken_by_the_feed(room: AttendedRoom) -> None:
    room.adopt(loaded(room, page()))
    waiting = [asyncio.create_task(room.told(LIFE, revision, 0.0)) for revision in (1, 2)]
    await asyncio.sleep(0)
    room.hear(came(1))
    await waiting[0]
    assert not waiting[1].done()
    room.hear(came(2, BOB))
    await waiting[1]
    assert not room.lags


async def test_who_waits_is_woken_by_a_reading_begun_since(room: AttendedRoom) -> None:
    loading = room.begin_loading(0.0)
    waiting = asyncio.create_task(room.told(b"another life", 9, 0.0))
    await asyncio.sleep(0)
    _finish(room, loading)
    assert room.lags
    room.adopt(loaded(room, page()))
    await waiting
    assert not room.lags


def _finish(room: AttendedRoom, loading: Loading) -> None:
    loading.add(page())
    found = loading.finish()
    assert found is not None
    room.adopt(found)


async def test_who_waits_too_long_is_disappointed(room: AttendedRoom) -> None:
    waiting = [asyncio.create_task(room.told(LIFE, 1, since)) for since in (1.0, 2.0, 3.0)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    room.give_up(2.0)
    with pytest.raises(Unavailable):
        await waiting[1]
    assert room.lags
    room.give_up(3.0)
    with pytest.raises(Unavailable):
        await waiting[2]
    assert not room.lags
