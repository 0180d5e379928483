"""What runs beside the connections, and what becomes of the node when it breaks."""

import asyncio

import pytest

from adapters.memory.presence import MemoryPresence
from adapters.tokens.authenticator import JwtAuthenticator
from domain.identifiers import RoomId
from domain.options import RoomOptions
from domain.timeline import PageRequest
from tests.application.conftest import House, pass_time, turn


class BrokenPresence(MemoryPresence):
    async def run(self) -> None:
        await asyncio.sleep(1.0)
        raise LookupError("a bug")


class KeylessAuthenticator(JwtAuthenticator):
    @property
    def healthy(self) -> bool:
        return False


async def test_graces_end_while_it_runs() -> None:
    house = House()
    async with house.running():
        ann = await house.member("ann")
        ann.session.lost(1006)
        await pass_time(11.0)
        assert (await house.presence.snapshot(RoomId("chat"))).count == 0


async def test_logs_expire_while_it_runs() -> None:
    house = House(("*", RoomOptions(history_ttl=60.0)))
    async with house.running():
        house.client().say("hi")
        await pass_time(70.0)
        page = await house.broker.page(RoomId("chat"), PageRequest(), RoomOptions().keep)
        assert page.messages == []


async def test_it_says_whether_it_runs() -> None:
    node = House().node
    assert not node.running
    task = asyncio.create_task(node.run())
    await turn()
    assert node.running
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert (node.running, node.failed) == (False, False)


async def test_it_is_ready_while_it_runs() -> None:
    house = House()
    assert not house.node.ready
    async with house.running():
        await turn()
        assert house.node.ready
        house.node.draining = True
        assert not house.node.ready


async def test_it_is_not_ready_while_good_tokens_cannot_be_told_from_bad_ones() -> None:
    house = House(authenticator=KeylessAuthenticator([]))
    async with house.running():
        await turn()
        assert house.node.running
        assert not house.node.ready


async def test_a_bug_in_the_background_ends_it() -> None:
    house = House(presence=BrokenPresence())
    with pytest.raises(ExceptionGroup) as failure:
        await house.node.run()
    assert failure.group_contains(LookupError)
    assert (house.node.running, house.node.failed) == (False, True)
    assert len(asyncio.all_tasks()) == 1
