"""Paging through a room's log."""

import pytest

from domain.errors import BadName, NotGranted
from domain.grants import DEFAULT_GRANTS, OPEN_GRANTS, Grants, Identity
from domain.identifiers import RoomId, UserId
from domain.timeline import PageRequest
from tests.application.conftest import House

ANN = Identity(UserId("ann"), DEFAULT_GRANTS)


async def test_the_newest_come_first_and_then_what_was_before() -> None:
    house = House()
    ann = house.client("ann")
    for number in range(1, 6):
        ann.say(number)
    newest = await house.history(ANN, "chat", PageRequest(limit=2))
    assert ([message.seq for message in newest.messages], newest.more) == ([4, 5], True)
    before = await house.history(ANN, "chat", PageRequest(before=4, limit=9))
    assert ([message.seq for message in before.messages], before.more) == ([1, 2, 3], False)


async def test_reading_needs_no_membership_and_makes_no_room_live() -> None:
    house = House()
    house.client("ann").say("hi")
    page = await house.history(ANN, "chat", PageRequest())
    assert [message.data for message in page.messages] == [b'"hi"']
    assert house.hub.find(RoomId("chat")) is None


async def test_reading_takes_a_grant() -> None:
    writer = Identity(UserId("ann"), Grants({"*": ["join", "publish", "members"]}))
    with pytest.raises(NotGranted):
        await House().history(writer, "chat", PageRequest())


async def test_a_personal_room_is_read_by_its_owner_alone() -> None:
    house = House()
    house.client("bob").say("psst", "@ann")
    page = await house.history(ANN, "@ann", PageRequest())
    assert len(page.messages) == 1
    with pytest.raises(NotGranted):
        await house.history(Identity(UserId("bob"), OPEN_GRANTS), "@ann", PageRequest())


async def test_a_bad_name_is_refused() -> None:
    with pytest.raises(BadName):
        await House().history(ANN, "a b", PageRequest())
