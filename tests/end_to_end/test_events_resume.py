"""Event streams that break and go on by their last id: nothing is lost, nothing comes twice, and
what cannot be is told."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from pydantic import SecretStr

from entrypoints.settings import Settings
from tests.event_source import Event, EventParser, EventSource
from tests.peer import Peer
from tests.running_server import RunningServer, Serve, fit_for_tests

ROOMS = ["a", "b", "c"]
PLENTY: dict[str, Any] = {
    "rooms": [{"match": "*", "history_size": 5000}],
    "limits": {"messages_per_second": 0},
}


class Reader:
    """Somebody who comes back with the last id whenever the stream breaks. What a stream brought is
    noted as a page would see it."""

    def __init__(self, rooms: list[str], history: int = 0) -> None:
        self.rooms = rooms
        self.query = "&".join(f"room={room}" for room in rooms) + f"&history={history}"
        self.last_id = ""
        self.seqs: dict[str, list[int]] = {room: [] for room in rooms}
        self.told: list[tuple[str, str]] = []  # room and outcome of each joined and resync

    def note(self, event: Event) -> bool:
        """Take an event. Returns whether it was a message."""
        frame = event.frame
        if event.name in ("joined", "resync"):
            self.told.append((frame["room"], frame["recovery"]["outcome"]))
        elif event.name == "message":
            self.seqs[frame["room"]].append(frame["seq"])
        return event.name == "message"

    async def read(self, server: RunningServer, messages: int) -> None:
        """Read so many messages on one stream, and cut it."""
        source = await self.come(server)
        while messages:
            event = await source.next()
            assert event is not None
            messages -= self.note(event)
            self.last_id = event.id
        await source.close()

    async def read_until(self, server: RunningServer, tops: dict[str, int]) -> None:
        """Read on one stream until the last messages of all rooms are there."""
        source = await self.come(server)
        while any(self.seqs[room][-1:] != [top] for room, top in tops.items()):
            event = await source.next()
            assert event is not None
            self.note(event)
        await source.close()

    async def come(self, server: RunningServer, **options: Any) -> EventSource:
        return await server.events(self.query, self.last_id, **options)

    async def read_bytes(self, source: EventSource, size: int) -> None:
        """The same with bytes: what is behind them has been sent and never arrives."""
        parser = EventParser()
        parser.feed(f"id: {self.last_id}\n\n".encode() if self.last_id else b"")
        while size:
            part = (await source.part())[:size]
            assert part
            size -= len(part)
            for event in parser.feed(part):
                self.note(event)
        self.last_id = parser.last_id
        await source.close()

    def has_everything(self, top: int) -> bool:
        return all(seqs[-1:] == [top] for seqs in self.seqs.values())

    def saw_no_hole(self) -> bool:
        return all(outcome in ("none", "ok") for _, outcome in self.told)


async def talk(talker: Peer, rooms: list[str], count: int, at_once: int = 1) -> None:
    """Say something in every room in turn, so many times."""
    for start in range(0, count, at_once):
        for room in rooms:
            frames = [
                {"type": "publish", "room": room, "data": number, "echo": False}
                for number in range(start, min(start + at_once, count))
            ]
            await talker.send(*frames)
            for _ in frames:
                await talker.expect("ack")


async def test_cut_after_every_second_event(serve: Serve) -> None:
    server = await serve(**PLENTY)
    talker = await server.user("talker")
    reader = Reader(ROOMS)
    await (await reader.come(server)).joined(*ROOMS)  # the rooms live on, with this one in them
    first = await server.events(reader.query)
    reader.last_id = (await first.joined(*ROOMS))[-1].id
    await first.close()
    talking = asyncio.create_task(talk(talker, ROOMS, 40))
    while not reader.has_everything(40):
        await reader.read(server, 2)
    await talking
    assert reader.seqs == {room: list(range(1, 41)) for room in ROOMS}
    assert reader.saw_no_hole()
    assert len(reader.told) > 60


@pytest.mark.parametrize("seed", range(4))
async def test_cut_at_any_byte(serve: Serve, seed: int) -> None:
    """Many messages are written at once, and the cut goes through them."""
    chance = random.Random(seed)
    server = await serve(**PLENTY)
    rooms = ROOMS[: 1 + seed % 3]
    reader = Reader(rooms)
    first = await server.events(reader.query)
    reader.last_id = (await first.joined(*rooms))[-1].id
    talker = await server.user("talker")
    least = 1000 * len(rooms)  # as much as a stream begins with, and a little more
    for _ in range(10):
        source = await reader.come(server)
        await talk(talker, rooms, 25, at_once=25)  # that is 2,000 bytes for each room, and more
        await reader.read_bytes(source, chance.randrange(least, 2 * least))
    await first.close()
    await reader.read_until(server, dict.fromkeys(rooms, 250))
    assert reader.seqs == {room: list(range(1, 251)) for room in rooms}
    assert reader.saw_no_hole()


async def test_a_stream_may_get_further_rooms(serve: Serve) -> None:
    server = await serve(**PLENTY)
    talker = await server.user("talker")
    await talk(talker, ROOMS, 3)
    few = Reader(ROOMS[:2], history=100)
    await few.read(server, 6)
    await talk(talker, ROOMS, 2)
    more = Reader(ROOMS, history=100)
    more.last_id = few.last_id
    await more.read(server, 2 + 2 + 5)
    assert dict(more.told) == {"a": "ok", "b": "ok", "c": "none"}
    assert more.seqs == {"a": [4, 5], "b": [4, 5], "c": [1, 2, 3, 4, 5]}


async def test_what_is_not_kept_any_more_is_told_as_a_gap(serve: Serve) -> None:
    server = await serve(rooms=[{"match": "short", "history_size": 2}])
    talker = await server.user("talker")
    reader = Reader(["short", "long"], history=1)
    await talk(talker, reader.rooms, 1)
    await reader.read(server, 2)
    await talk(talker, reader.rooms, 5)
    source = await reader.come(server)
    await source.expect("connected")
    await source.expect("joined", room="short", recovery={"outcome": "gap", "first": 5})
    for seq in (5, 6):
        await source.expect("message", room="short", seq=seq)
    await source.expect("joined", room="long", recovery={"outcome": "ok"})
    for seq in range(2, 7):
        await source.expect("message", room="long", seq=seq)


async def test_another_server_without_the_log_says_reset(serve: Serve) -> None:
    before, after = await serve(), await serve()
    for server in (before, after):
        await talk(await server.user("talker"), ["r"], 3)
    reader = Reader(["r"], history=2)
    await reader.read(before, 2)
    await reader.read(after, 2)
    assert reader.told == [("r", "none"), ("r", "reset")]
    assert reader.seqs == {"r": [2, 3, 2, 3]}


async def test_a_slow_reader_is_cut_and_goes_on(serve: Serve) -> None:
    server = await serve(**PLENTY)
    talker = await server.user("talker")
    reader = Reader(["r"])
    slow = await reader.come(server)
    await slow.joined("r")
    top = 0
    while not server.metric("disconnects_total", "4102"):
        ack = await talker.ask("publish", room="r", data="x" * 20_000, echo=False)
        top = ack["seq"]
        assert top < 2000, "nobody is ever cut"
    assert server.sessions() == 1
    for _ in range(5):
        top = (await talker.ask("publish", room="r", data="missed", echo=False))["seq"]
    events = await slow.rest()
    assert (events[-1].name, events[-1].frame["code"]) == ("disconnect", 4102)
    for event in events[:-1]:
        assert reader.note(event)
    reader.last_id = slow.last_id
    await reader.read(server, top - len(events) + 1)
    assert reader.seqs == {"r": list(range(1, top + 1))}
    assert reader.told == [("r", "ok")]


async def test_a_slow_reader_of_history_gets_all_of_it(serve: Serve) -> None:
    """Page by page as it reads, while more is said: with its own places, apart from everybody."""
    server = await serve(**PLENTY)
    talker = await server.user("talker")
    for _ in range(120):
        await talker.ask("publish", room="a", data="x" * 60_000, echo=False)
    reader = Reader(["a", "b"], history=5000)
    server.narrow()
    slow = await reader.come(server)
    fast = await server.events("room=a&room=b")
    await fast.joined("a", "b")
    for seq in range(121, 141):
        await talker.ask("publish", room="a", data=seq, echo=False)
        await talker.ask("publish", room="b", data=seq, echo=False)
        await fast.expect("message", room="a", seq=seq)
        await fast.expect("message", room="b", seq=seq - 120)
    while len(reader.seqs["a"]) < 70:
        event = await slow.next()
        assert event is not None
        reader.note(event)
        reader.last_id = event.id
    await slow.close()
    await reader.read_until(server, {"a": 140, "b": 20})
    assert reader.seqs == {"a": list(range(1, 141)), "b": list(range(1, 21))}
    assert reader.saw_no_hole()


@pytest.fixture
async def nodes(redis_url: str) -> AsyncIterator[list[RunningServer]]:
    """Two of them over one Redis."""
    async with AsyncExitStack() as started:
        started.enter_context(fit_for_tests())
        found = []
        for _ in range(2):
            server = RunningServer(
                Settings(port=0, backend="redis", redis_url=SecretStr(redis_url), **PLENTY)
            )
            started.push_async_callback(server.stop)
            await server.start()
            found.append(server)
        yield found


async def test_cut_on_one_node_and_gone_on_with_on_another(nodes: list[RunningServer]) -> None:
    talker = await nodes[0].user("talker")
    reader = Reader(ROOMS)
    first = await nodes[0].events(reader.query)
    reader.last_id = (await first.joined(*ROOMS))[-1].id
    talking = asyncio.create_task(talk(talker, ROOMS, 20))
    turn = 0
    while not reader.has_everything(20):
        await reader.read(nodes[turn % 2], 2)
        turn += 1
    await talking
    assert reader.seqs == {room: list(range(1, 21)) for room in ROOMS}
    assert reader.saw_no_hole()
