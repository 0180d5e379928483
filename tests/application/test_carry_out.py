"""Orders: what this node does to the users they are about."""

from typing import Any

import pytest

from application.carry_out import KICKED
from domain.errors import Forbidden, TokenRevoked
from domain.grants import OPEN_GRANTS, Identity
from domain.identifiers import RoomId, UserId
from domain.orders import Block, Kick, Order, RevokeToken, RevokeTokens, SendAway, Unblock
from entrypoints.wire.tutorial import TextRoom
from tests.application.conftest import Client, House, pass_time, turn, types

ANN, CHAT = UserId("ann"), RoomId("chat")


def holder(house: House, token_id: str, issued_at: float | None = None) -> Client:
    """A session of ann's, opened with a token."""
    client = house.client("ann", expires_in=600.0)
    identity = client.session.identity
    client.session.identity = Identity(
        identity.user, identity.grants, identity.info, identity.expires_at, token_id, issued_at
    )
    return client


async def ends(client: Client) -> tuple[int, str] | None:
    """Code and reason of the close, if there was one."""
    await turn()
    disconnect = client.transport.disconnect
    return None if disconnect is None else (disconnect.code, disconnect.reason)


async def test_a_kick_takes_all_sessions_out_of_the_room_and_leaves_the_rest() -> None:
    house = House()
    first, second = await house.member("ann"), await house.member("ann")
    bob = await house.member("bob")
    await first.join("news")
    first.take()
    second.take()
    bob.take()
    await house.control.give(Kick(CHAT, ANN, "be nice"))
    bob.say("without ann")
    await turn()
    told = {"type": "removed", "room": "chat", "code": KICKED, "reason": "be nice"}
    assert first.frames == [told]
    assert second.frames == [told]
    assert types(bob.frames) == ["leave", "message"]
    assert list(first.session.memberships) == ["news"]
    assert await ends(first) is None
    assert await first.join("chat") is not None


async def test_a_kick_closes_a_door_into_that_one_room() -> None:
    house = House()
    ann = await house.member("ann", dialect=TextRoom())
    other = await house.member("ann", "news", dialect=TextRoom())
    await house.control.give(Kick(CHAT, ANN))
    assert await ends(ann) == (4003, "taken out of chat")
    assert await ends(other) is None


async def test_a_user_is_sent_away_and_may_come_back() -> None:
    house = House()
    ann, bob = await house.member("ann"), await house.member("bob")
    await house.control.give(SendAway(ANN, "x" * 200))
    assert await ends(ann) == (4003, "x" * 123)
    assert types(bob.frames) == ["leave"]
    house.exclusions.check(house.client("ann").session.identity, house.wall())


async def test_a_revoked_token_ends_what_it_opened_and_nothing_else() -> None:
    house = House()
    revoked, other = holder(house, "t1"), holder(house, "t2")
    await house.control.give(RevokeToken("t1", house.wall() + 600))
    assert await ends(revoked) == (4001, "token_revoked: this token was revoked")
    assert await ends(other) is None
    with pytest.raises(TokenRevoked):
        house.exclusions.check(revoked.session.identity, house.wall())


async def test_the_tokens_of_a_user_are_revoked_up_to_a_moment() -> None:
    house = House()
    now = house.wall()
    older, newer = holder(house, "t1", now - 10), holder(house, "t2", now + 10)
    await house.control.give(RevokeTokens(ANN, now))
    assert await ends(older) == (4001, "token_revoked: the tokens of this user were revoked")
    assert await ends(newer) is None


async def test_a_blocked_user_is_out_until_the_block_is_over() -> None:
    house = House()
    ann = await house.member("ann")
    await house.control.give(Block(ANN, house.wall() + 60))
    assert await ends(ann) == (4003, "forbidden: this user is blocked")
    again = Identity(ANN, OPEN_GRANTS)
    with pytest.raises(Forbidden):
        house.exclusions.check(again, house.wall())
    await house.control.give(Unblock(ANN))
    house.exclusions.check(again, house.wall())


@pytest.mark.parametrize("order", [SendAway(ANN), Kick(CHAT, ANN), Block(ANN, 4e9)])
async def test_an_order_that_was_missed_is_not_about_later_sessions(order: Order) -> None:
    house = House()
    before = await house.member("ann", dialect=TextRoom())
    await pass_time(1.0)
    given_at = house.wall()
    await pass_time(1.0)
    after = await house.member("ann", dialect=TextRoom())
    house.orders.ordered(order, given_at)
    assert await ends(before) is not None
    assert await ends(after) is None


@pytest.mark.parametrize(
    "order", [SendAway(ANN), Kick(CHAT, ANN), RevokeToken("t", 4e9), RevokeTokens(ANN, 4e9)]
)
async def test_orders_about_nobody_here_are_counted_and_harmless(order: Any) -> None:
    house = House()
    bob = await house.member("bob")
    await house.control.give(order)
    assert await ends(bob) is None
    assert bob.frames == []
    assert house.counted("orders", f'kind="{order.kind}"') == 1
