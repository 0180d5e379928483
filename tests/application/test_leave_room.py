"""Leaving a room."""

from domain.identifiers import RoomId
from domain.options import PresenceMode, RoomOptions
from tests.application.conftest import House, turn, types

CHAT = RoomId("chat")


async def test_nothing_that_comes_after_is_sent() -> None:
    house = House()
    ann, bob = await house.member("ann"), await house.member("bob")
    ann.leave()
    bob.say("after")
    await turn()
    assert [frame for frame in ann.frames if frame["type"] == "message"] == []
    assert bob.heard() == ["after"]


async def test_a_leave_is_told_to_the_others_at_once() -> None:
    house = House()
    ann, bob = await house.member("ann"), await house.member("bob")
    ann.take()
    bob.leave()
    await turn()
    assert types(ann.frames) == ["leave"]
    assert (await house.presence.snapshot(CHAT)).count == 1


async def test_only_this_room_is_left() -> None:
    house = House()
    ann = await house.member("ann", "chat")
    await ann.join("news")
    ann.leave("chat")
    assert list(ann.session.memberships) == ["news"]
    ann.say("still in", "news")
    await turn()
    assert ann.heard("news") == ["still in"]


async def test_leaving_with_a_loss_keeps_the_place() -> None:
    house = House()
    ann = await house.member("ann")
    house.leave(ann.session.memberships[CHAT], clean=False)
    assert (await house.presence.snapshot(CHAT)).count == 1


async def test_a_room_without_presence_is_left_without_a_word() -> None:
    house = House(("*", RoomOptions(presence=PresenceMode.OFF)))
    ann, bob = await house.member("ann"), await house.member("bob")
    bob.leave()
    await turn()
    assert ann.frames == []
    assert CHAT not in bob.session.memberships


async def test_leaving_and_joining_again() -> None:
    house = House()
    ann, bob = await house.member("ann"), await house.member("bob")
    ann.leave()
    bob.say("missed")
    await ann.join(history=5)
    bob.say("heard")
    await turn()
    assert ann.heard() == ["missed", "heard"]
