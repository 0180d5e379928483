"""Entering a room to read: by the tag of a log, and without being a member."""

import asyncio

import pytest

from application.join_room import Joined
from domain.bookmark import Bookmark, log_tag
from domain.identifiers import RoomId
from domain.options import RoomOptions
from domain.position import Position
from domain.timeline import Outcome
from tests.application.conftest import Client, FaultyBroker, House, turn, types

CHAT = RoomId("chat")


async def read(
    client: Client, position: Position | Bookmark | None = None, **how: bool
) -> tuple[Outcome, list[int]]:
    """Join, and return the outcome and the seqs of what was missed."""
    told: list[Joined] = []
    await client.house.join(client.session, CHAT, told.append, position=position, **how)
    (joined,) = told
    return joined.replay.recovery.outcome, [message.seq for message in joined.replay.messages]


async def test_a_reader_is_no_member_and_nobody_is_told() -> None:
    house = House(("chat", RoomOptions(max_members=1)))
    bob = await house.member("bob")
    reader = house.client("ann")
    told: list[Joined] = []
    await house.join(reader.session, CHAT, told.append, attends=False)
    assert told[0].snapshot is None
    assert (await house.presence.snapshot(CHAT)).count == 1
    bob.say("hello")
    reader.session.lost(1006)
    bob.leave()
    assert types(bob.frames) == ["message"]
    bob.session.lost(1000)
    assert house.is_empty()


async def test_a_reader_hears_what_is_said() -> None:
    house = House()
    bob = await house.member("bob")
    reader = house.client("ann")
    assert await read(reader, attends=False) == (Outcome.NONE, [])
    bob.say("hello")
    house.hub.fan_out.flush()
    assert [frame["data"] for frame in reader.frames] == ["hello"]


async def test_a_reader_who_is_gone_meanwhile_leaves_nothing() -> None:
    broker = FaultyBroker()
    house = House(broker=broker)
    reader = house.client("ann")
    broker.gate.clear()
    told: list[Joined] = []
    joining = asyncio.create_task(house.join(reader.session, CHAT, told.append, attends=False))
    await turn()
    reader.session.lost(1006)
    broker.gate.set()
    await joining
    assert told == []
    assert house.is_empty()


@pytest.mark.parametrize("again", [False, True])
async def test_a_bookmark_is_as_good_as_a_position(again: bool) -> None:
    house = House()
    bob = await house.member("bob")
    for number in range(5):
        bob.say(number)
    timeline = house.broker.timeline(CHAT)
    assert timeline is not None
    tag = log_tag(timeline.log)
    reader = house.client("ann")
    if again:
        await read(reader)
    assert await read(reader, Bookmark(3, tag)) == (Outcome.OK, [4, 5])


async def test_a_bookmark_of_another_log_is_a_reset() -> None:
    house = House()
    bob = await house.member("bob")
    bob.say("hello")
    for mark in (Bookmark(0, "?"), Bookmark(1, log_tag("another.log"))):
        assert await read(house.client("ann"), mark) == (Outcome.RESET, [])


async def test_a_bookmark_of_an_earlier_term_still_holds() -> None:
    broker = FaultyBroker()
    house = House(broker=broker)
    bob = await house.member("bob")
    for number in range(5):
        bob.say(number)
    before = broker.timeline(CHAT)
    assert before is not None
    tag = log_tag(before.log)
    broker.deafen()
    broker.fall_back(3)
    broker.notice()
    for number in range(2):
        bob.say(number)
    assert await read(house.client("ann"), Bookmark(2, tag)) == (Outcome.OK, [3, 4, 5])
    assert await read(house.client("ann"), Bookmark(5, tag)) == (Outcome.REWOUND, [4, 5])
