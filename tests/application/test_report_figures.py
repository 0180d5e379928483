"""The figures of a node: for those who watch, once a second, and nobody else's to publish."""

import asyncio

import pytest

from application.report_figures import OPTIONS, ROOM, ReportFigures
from domain.errors import NotGranted
from domain.options import RoomOptions
from domain.timeline import PageRequest
from tests.application.conftest import House, LeapingLoop, pass_time


def reporting(used: list[float]) -> House:
    """A house whose node tells its figures; `used`: of the processor, in seconds."""
    house = House((ROOM, OPTIONS), ("noise", RoomOptions()))
    report = ReportFigures(house.hub, house.publish, house.metrics, "n1", lambda: used[0])
    house.node.beside = [report]
    return house


async def logged(house: House) -> int:
    return len((await house.broker.page(ROOM, PageRequest(), OPTIONS.keep)).messages)


async def test_a_member_is_told_once_a_second_what_the_node_does() -> None:
    used = [0.0]
    house = reporting(used)
    async with house.running():
        ann = await house.member("ann", ROOM)
        await pass_time(1.0)
        ann.transport.pushes.clear()
        for number in range(10):
            house.client("bob").say(number, "noise")
        used[0] += 0.25
        await pass_time(1.0)

        (frame,) = [frame for frame in ann.frames if frame["type"] == "message"]
        assert frame["from"] is None
        assert frame["data"] == {
            "node": "n1",
            "sessions": 11,
            "rooms": 1,
            "published": 11.0,  # the figures of the second before are one
            "delivered": 1.0,
            "cpu": 0.25,
            "lag": 0.0,
        }


async def test_nothing_is_published_while_nobody_watches() -> None:
    house = reporting([0.0])
    async with house.running():
        await house.member("ann", "other")
        await pass_time(5.0)
        assert await logged(house) == 0
        bea = await house.member("bea", ROOM)
        await pass_time(3.0)
        assert await logged(house) == 3
        bea.session.lost(1006)
        await pass_time(5.0)
        assert await logged(house) == 3


async def test_a_loop_that_was_held_up_is_told_as_lag() -> None:
    house = reporting([0.0])
    async with house.running():
        ann = await house.member("ann", ROOM)
        await pass_time(1.0)
        ann.transport.pushes.clear()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, LeapingLoop)
        loop.stand_still(1.2)
        await pass_time(0.1)
        (frame,) = [frame for frame in ann.frames if frame["type"] == "message"]
        assert frame["data"]["lag"] == pytest.approx(200, abs=1)


async def test_users_cannot_publish_figures() -> None:
    house = reporting([0.0])
    with pytest.raises(NotGranted):
        house.client("ann").say("x", ROOM)
