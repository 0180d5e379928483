"""Leaving gracefully: everybody is sent away, told when to come back, and not all at once."""

import asyncio

import pytest

from application.disconnects import NO_PONG
from application.drain import Drain
from domain.identifiers import RoomId
from tests.application.conftest import Client, House, pass_time, turn

WINDOW = 20.0
CHAT = RoomId("chat")


class Departure:
    """When a client was closed, in seconds since the beginning, and when it was told to return."""

    def __init__(self, closed: float, client: Client) -> None:
        disconnect = client.transport.disconnect
        assert disconnect is not None
        (farewell,) = client.transport.farewell
        assert farewell["type"] == "disconnect"
        assert (farewell["code"], disconnect.code) == (4200, 4200)
        assert farewell["reason"] == disconnect.reason
        assert farewell["reconnect_after"] == disconnect.reconnect_after
        self.closed = closed
        self.wait: float = farewell["reconnect_after"]

    @property
    def back(self) -> float:
        return self.closed + self.wait


async def departures(
    house: House, clients: list[Client], window: float = WINDOW, hurry_after: float | None = None
) -> list[Departure]:
    """Drain the house to its end; the departures in the order of the clients."""
    loop = asyncio.get_running_loop()
    start, hurry = loop.time(), asyncio.Event()
    moments = [loop.create_task(moment_of_close(client)) for client in clients]
    await turn()
    if hurry_after is not None:
        loop.call_later(hurry_after, hurry.set)
    await Drain(house.hub)(window, hurry)
    assert not house.hub.sessions
    done, _ = await asyncio.wait(moments, timeout=0)
    assert len(done) == len(moments)
    return [
        Departure(moment.result() - start, client)
        for moment, client in zip(moments, clients, strict=True)
    ]


async def moment_of_close(client: Client) -> float:
    await client.transport.run(lambda frame: None)
    return asyncio.get_running_loop().time()


def opened(house: House, number: int) -> list[Client]:
    return [house.client(f"user{each}") for each in range(number)]


@pytest.mark.parametrize(
    ("number", "span"),
    [
        (1, 1.02),
        (2, 1.04),
        (50, 2.0),
        (200, 5.0),
        (950, 20.0),
        (2000, 20.0),  # the window is the longest it may be
    ],
)
async def test_departures_and_returns_are_even_over_the_window(number: int, span: float) -> None:
    house = House()
    found = sorted(
        await departures(house, opened(house, number)), key=lambda departure: departure.closed
    )
    for index, departure in enumerate(found):
        assert departure.closed == pytest.approx(span / 2 * index / number)
        assert departure.back == pytest.approx(span * index / number, abs=0.001)
        assert 0 <= departure.wait <= span / 2
    assert house.counted("disconnects", 'code="4200"') == number


async def test_a_window_of_nothing_closes_all_at_once() -> None:
    house = House()
    found = await departures(house, opened(house, 100), window=0)
    assert {(departure.closed, departure.wait) for departure in found} == {(0, 0)}


async def test_nobody_is_first_or_last_by_when_it_came() -> None:
    house = House()
    found = await departures(house, opened(house, 200))
    closed = [departure.closed for departure in found]
    assert closed != sorted(closed)
    assert closed != sorted(closed, reverse=True)


async def test_without_anybody_it_is_over_at_once() -> None:
    house, loop = House(), asyncio.get_running_loop()
    start = loop.time()
    await Drain(house.hub)(WINDOW, asyncio.Event())
    assert loop.time() == start


async def test_in_a_hurry_the_rest_is_closed_at_once() -> None:
    house = House()
    found = await departures(house, opened(house, 500), hurry_after=1.0)
    early = [departure for departure in found if departure.closed < 1.0]
    late = [departure for departure in found if departure.closed >= 1.0]
    assert len(early) == pytest.approx(500 / 5.5, abs=1)
    assert {departure.closed for departure in late} == {1.0}
    # They come back one by one all the same.
    waits = sorted(departure.wait for departure in late)
    assert len(set(waits)) == len(waits)


async def test_in_a_hurry_from_the_beginning_all_are_closed_at_once() -> None:
    house, loop, hurry = House(), asyncio.get_running_loop(), asyncio.Event()
    clients = opened(house, 100)
    hurry.set()
    start = loop.time()
    await Drain(house.hub)(WINDOW, hurry)
    assert loop.time() == start
    assert [client.session.close_code for client in clients] == [4200] * 100


async def test_who_ends_meanwhile_is_not_told_again() -> None:
    house = House()
    gone, ended, left, *others = opened(house, 100)
    draining = asyncio.create_task(Drain(house.hub)(WINDOW, asyncio.Event()))
    gone.session.lost(1006)
    ended.session.end(NO_PONG)
    left.session.lost(1000)
    await draining
    assert [client.session.close_code for client in (gone, ended, left)] == [1006, 4103, 1000]
    assert gone.transport.disconnect is None
    assert house.counted("disconnects", 'code="4200"') == len(others)
    assert not house.hub.sessions


async def test_who_comes_in_meanwhile_is_told_too() -> None:
    """Somebody who was at the gate when it was shut, and whose token was looked at till now."""
    house = House()
    opened(house, 100)
    loop = asyncio.get_running_loop()
    start = loop.time()
    draining = asyncio.create_task(Drain(house.hub)(WINDOW, asyncio.Event()))
    await pass_time(0.5)
    late = await house.member("late")
    await draining
    assert not house.hub.sessions
    departure = Departure(loop.time() - start, late)
    assert departure.closed <= 1.5
    assert departure.back <= 3.0


async def test_what_was_said_before_is_sent_before_the_farewell() -> None:
    """Messages gathered in this turn, the newest of a conflating room, and the client's own."""
    house = House()
    ann, bob = await house.member("ann"), await house.member("bob")
    ann.take()
    ann.say("just now")
    bob.say("and this", echo=False)
    await Drain(house.hub)(0, asyncio.Event())
    ann.say("too late")
    await turn()
    assert (ann.heard(), bob.heard()) == (["just now", "and this"], ["just now"])
    assert not ann.transport.discarded
    farewell = {"type": "disconnect", "code": 4200, "reason": "restarting", "reconnect_after": 0.0}
    assert ann.transport.farewell == bob.transport.farewell == [farewell]


async def test_those_who_stay_longer_go_on_hearing_everything() -> None:
    house = House()
    clients = [await house.member(f"user{number}") for number in range(50)]
    for client in clients:
        client.take()
    speaker = house.client("speaker")
    draining = asyncio.create_task(Drain(house.hub)(WINDOW, asyncio.Event()))
    said = 0
    while not draining.done():
        speaker.say(said)
        said += 1
        await pass_time(0.005)
    lengths = set()
    for client in clients:
        heard = client.heard()
        assert heard == list(range(len(heard)))  # without a hole up to the farewell
        lengths.add(len(heard))
    assert len(lengths) == 50  # each had another moment


async def test_nobody_is_seen_to_leave_who_may_come_back() -> None:
    house = House()
    clients = [await house.member(f"user{number}") for number in range(3)]
    for client in clients:
        client.take()
    await Drain(house.hub)(WINDOW, asyncio.Event())
    assert all(client.of_type("leave") == [] for client in clients)
    snapshot = await house.presence.snapshot(CHAT)
    assert (snapshot.count, house.hub.find(CHAT)) == (3, None)
