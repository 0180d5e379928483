"""The end of a connection: every room is left, and how it ended decides between now and later."""

import pytest

from application.disconnects import SLOW, Disconnect
from domain.identifiers import RoomId
from tests.application.conftest import House, pass_time, turn, types

CLEAN = [1000, 1005]
UNCLEAN = [1001, 1006, 1009, 1011, 1012, 3000, 4000, 4001, 4003, 4099, 4100, 4102, 4200, 4999]
OURS_CLEAN = [4000, 4003, 4099]
OURS_UNCLEAN = [4100, 4102, 4103, 4200]


async def test_every_room_is_left() -> None:
    house = House()
    ann, bob = await house.member("ann", "chat"), await house.member("bob", "chat")
    await ann.join("news")
    await ann.join("@ann")
    ann.session.lost(1000)
    assert ann.session.memberships == {}
    assert [house.hub.find(RoomId(room)) is None for room in ("chat", "news", "@ann")] == [
        False, True, True
    ]  # fmt: skip
    bob.session.lost(1000)
    assert house.is_empty()


@pytest.mark.parametrize("code", CLEAN)
async def test_a_goodbye_is_told_at_once(code: int) -> None:
    house = House()
    ann, bob = await house.member("ann"), await house.member("bob")
    ann.take()
    bob.session.lost(code)
    await turn()
    assert types(ann.frames) == ["leave"]


@pytest.mark.parametrize("code", UNCLEAN)
async def test_a_loss_is_told_after_the_grace(code: int) -> None:
    house = House()
    async with house.running():
        ann, bob = await house.member("ann"), await house.member("bob")
        ann.take()
        bob.session.lost(code)
        await pass_time(9.5)
        assert ann.frames == []
        await pass_time(1.0)
        assert types(ann.frames) == ["leave"]


@pytest.mark.parametrize("code", OURS_CLEAN)
async def test_whom_we_send_away_for_good_leaves_at_once(code: int) -> None:
    house = House()
    ann, bob = await house.member("ann"), await house.member("bob")
    ann.take()
    bob.session.end(Disconnect(code, "enough"))
    await turn()
    assert types(ann.frames) == ["leave"]


@pytest.mark.parametrize("code", OURS_UNCLEAN)
async def test_whom_we_expect_back_has_the_grace(code: int) -> None:
    house = House()
    async with house.running():
        ann, bob = await house.member("ann"), await house.member("bob")
        ann.take()
        bob.session.end(Disconnect(code, "later"))
        await pass_time(9.5)
        assert ann.frames == []
        await pass_time(1.0)
        assert types(ann.frames) == ["leave"]


async def test_a_return_within_the_grace_is_seen_by_nobody() -> None:
    house = House()
    async with house.running():
        ann, bob = await house.member("ann"), await house.member("bob")
        ann.take()
        bob.session.lost(1006)
        await pass_time(9.0)
        again = await house.client("bob").join()
        await pass_time(30.0)
    assert ann.frames == []
    assert again is not None
    assert again.newcomer is False


async def test_another_tab_keeps_the_user_in() -> None:
    house = House()
    ann, tab = await house.member("ann"), await house.member("bob")
    await house.member("bob")
    ann.take()
    tab.session.lost(1000)
    await turn()
    assert ann.frames == []


async def test_ends_are_counted_by_code() -> None:
    house = House()
    for code in (1000, 1000):
        house.client().session.lost(code)
    house.client().session.end(SLOW)
    assert house.counted("disconnects", 'code="1000"') == 2
    assert house.counted("disconnects", 'code="4102"') == 1


async def test_codes_that_a_client_invents_are_counted_together() -> None:
    house = House()
    for code in (*range(3000, 3050), *range(4090, 4140)):
        house.client().session.lost(code)
    assert house.counted("disconnects", 'code="other"') == 100
