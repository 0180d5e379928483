"""Orders: what this node does to the users they are about."""

import asyncio
from typing import Any

import pytest

from adapters.tokens.authenticator import JwtAuthenticator
from adapters.tokens.keys import hmac_key
from application.carry_out import KICKED
from application.refresh_token import RefreshToken
from application.session import SessionLimits
from domain.errors import Forbidden, NotGranted, RoomFull, TokenRevoked, TooManyRooms
from domain.grants import OPEN_GRANTS, Grants, Identity
from domain.identifiers import RoomId, UserId
from domain.options import RoomOptions
from domain.orders import Block, Enter, Kick, Order, RevokeToken, RevokeTokens, SendAway, Unblock
from entrypoints.wire.tutorial import TextRoom
from tests.application.conftest import Client, House, SlowPresence, pass_time, turn, types
from tests.tokens import SECRET, token

ANN, CHAT = UserId("ann"), RoomId("chat")


def holder(house: House, token_id: str, issued_at: float | None = None) -> Client:
    """A session of ann's, opened with a token."""
    client = house.client("ann", expires_in=600.0)
    identity = client.session.identity
    client.session.identity = Identity(
        identity.user, identity.grants, identity.info, identity.expires_at, token_id, issued_at
    )
    return client


def refresher(house: House) -> RefreshToken:
    authenticator = JwtAuthenticator([hmac_key(SECRET.encode())])
    return RefreshToken(authenticator, house.presence, house.leave, house.exclusions, house.wall)


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


# Putting into rooms


async def invitee(house: House, user: str = "ann", **how: Any) -> Client:
    client = house.client(user, **how)
    client.opens_to_invitations()
    return client


async def test_all_sessions_of_a_user_are_put_into_a_room_whatever_their_grants() -> None:
    house = House()
    first, second = [await invitee(house, grants=Grants({})) for _ in range(2)]
    bob = await house.member("bob")
    await house.control.give(Enter(CHAT, ANN))
    await turn()
    bob.say("hello")
    await turn()
    for client in (first, second):
        assert types(client.frames)[0] == "joined"
        assert client.heard() == ["hello"]
    assert types(bob.frames) == ["join", "message"]


async def test_nothing_happens_to_others_to_members_and_at_doors_into_one_room() -> None:
    house = House()
    bob, member = await invitee(house, "bob"), await invitee(house)
    await member.join()
    member.take()
    at_a_door = await house.member("ann", "news", dialect=TextRoom())
    await house.control.give(Enter(CHAT, ANN))
    await turn()
    assert bob.frames == member.frames == at_a_door.frames == []
    assert list(at_a_door.session.memberships) == ["news"]


async def test_who_was_put_in_stays_in_with_a_newer_token_until_taken_out() -> None:
    house = House()
    ann = await invitee(house, grants=Grants({}))
    await house.control.give(Enter(CHAT, ANN))
    await turn()
    await refresher(house)(ann.session, token("ann", rooms={"news": ["join"]}))
    assert list(ann.session.memberships) == ["chat"]
    assert await ann.join() is not None  # to learn what it missed
    await house.control.give(Kick(CHAT, ANN))
    assert list(ann.session.memberships) == []
    with pytest.raises(NotGranted):
        await ann.join()


async def test_a_kick_overtakes_no_invitation() -> None:
    """Orders count in the order given, although entering takes its time."""
    house = House(presence=SlowPresence())
    assert isinstance(house.presence, SlowPresence)
    ann = await invitee(house)
    house.presence.gate.clear()
    await house.control.give(Enter(CHAT, ANN))
    await turn()
    await house.control.give(Kick(CHAT, ANN))
    house.presence.gate.set()
    await asyncio.gather(*ann.tasks)
    assert list(ann.session.memberships) == []
    assert ann.refused == [NotGranted]
    assert (await house.presence.snapshot(CHAT)).count == 0


async def test_the_rules_of_rooms_and_connections_hold_for_invitations() -> None:
    house = House(("small", RoomOptions(max_members=1)), limits=SessionLimits(rooms=1))
    await house.member("bob", "small")
    ann = await invitee(house)
    for room in ("small", "chat", "news"):
        await house.control.give(Enter(RoomId(room), ANN))
        await asyncio.gather(*ann.tasks)
    assert ann.refused == [RoomFull, TooManyRooms]
    assert list(ann.session.memberships) == ["chat"]
