"""Orders: who may give which."""

import pytest

from adapters.memory.control import MemoryControl
from application.give_order import GiveOrder
from application.ports.control import ControlListener
from domain.errors import Forbidden, HubbubError, NotGranted
from domain.grants import ALL_GRANTS, OPEN_GRANTS, Backend, Caller, Grants, Identity
from domain.identifiers import RoomId, UserId
from domain.orders import (
    Block,
    Enter,
    Kick,
    Order,
    RevokeToken,
    RevokeTokens,
    SendAway,
    Unblock,
)

ANN, CHAT, ANNS = UserId("ann"), RoomId("chat"), RoomId("@ann")
IN_A_ROOM: list[Order] = [Enter(CHAT, ANN), Kick(CHAT, ANN)]
EVERYWHERE: list[Order] = [SendAway(ANN), RevokeTokens(ANN, 1.0), Block(ANN, 1.0), Unblock(ANN)]
OF_A_TOKEN: list[Order] = [RevokeToken("t", 1.0)]


class Notes(ControlListener):
    def __init__(self) -> None:
        self.orders: list[Order] = []

    def ordered(self, order: Order, given_at: float | None) -> None:
        self.orders.append(order)


async def outcome(caller: Caller, order: Order) -> type[HubbubError] | None:
    """What it is refused with; the order is carried out, or it is not."""
    control, notes = MemoryControl(), Notes()
    control.attach(notes)
    try:
        await GiveOrder(control)(caller, order)
    except HubbubError as error:
        assert notes.orders == []
        return type(error)
    assert notes.orders == [order]
    return None


@pytest.mark.parametrize("order", IN_A_ROOM + EVERYWHERE + OF_A_TOKEN)
async def test_who_may_do_everything_and_who_nothing_of_this(order: Order) -> None:
    assert await outcome(Backend("app", ALL_GRANTS), order) is None
    assert await outcome(Identity(UserId("op"), ALL_GRANTS), order) is None
    assert await outcome(Identity(ANN, OPEN_GRANTS), order) is NotGranted
    assert await outcome(Backend("app", Grants({"*": ["publish", "join"]})), order) is NotGranted


@pytest.mark.parametrize("order", IN_A_ROOM)
async def test_in_a_room_it_takes_the_grant_to_manage_that_room(order: Order) -> None:
    assert await outcome(Backend("app", Grants({"chat": ["manage"]})), order) is None
    assert await outcome(Backend("app", Grants({"news": ["manage"]})), order) is NotGranted
    assert await outcome(Backend("app", Grants({"@*": ["manage"]})), order) is NotGranted


@pytest.mark.parametrize("order", EVERYWHERE)
async def test_everywhere_it_takes_the_grant_to_manage_the_personal_room(order: Order) -> None:
    assert await outcome(Backend("app", Grants({"@ann": ["manage"]})), order) is None
    assert await outcome(Backend("app", Grants({"@bob": ["manage"]})), order) is NotGranted
    assert await outcome(Backend("app", Grants({"*": ["manage"]})), order) is NotGranted


@pytest.mark.parametrize("order", OF_A_TOKEN)
async def test_a_token_may_be_anybody_s(order: Order) -> None:
    assert await outcome(Backend("app", Grants({"@*": ["manage"]})), order) is None
    assert await outcome(Backend("app", Grants({"@ann": ["manage"]})), order) is NotGranted


@pytest.mark.parametrize("order", [Enter(ANNS, UserId("bob")), Kick(ANNS, ANN)])
async def test_nobody_is_put_into_or_taken_out_of_a_personal_room(order: Order) -> None:
    assert await outcome(Backend("app", ALL_GRANTS), order) is Forbidden
