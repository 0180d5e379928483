"""A newer token for a session that is there."""

import asyncio

import pytest

from adapters.tokens.authenticator import JwtAuthenticator
from adapters.tokens.keys import hmac_key
from application.disconnects import TOKEN_EXPIRED
from application.refresh_token import RefreshToken
from domain.errors import (
    Forbidden,
    HubbubError,
    NotGranted,
    TokenExpired,
    TokenInvalid,
    TokenRevoked,
)
from domain.grants import Grants
from domain.identifiers import RoomId, UserId
from domain.orders import RevokeTokens
from tests.application.conftest import Client, House, SlowPresence, pass_time, turn, types
from tests.tokens import SECRET, token


def refresher(house: House) -> RefreshToken:
    authenticator = JwtAuthenticator([hmac_key(SECRET.encode())])
    return RefreshToken(authenticator, house.presence, house.leave, house.exclusions, house.wall)


async def refresh(client: Client, fresh: str) -> float | None:
    return await refresher(client.house)(client.session, fresh)


async def test_the_session_lives_on() -> None:
    client = House().client("ann", expires_in=60.0)
    left = await refresh(client, token("ann", 600.0))
    assert left == pytest.approx(600.0, abs=2.0)
    await pass_time(500.0)
    assert client.transport.disconnect is None
    await pass_time(110.0)
    assert client.transport.disconnect == TOKEN_EXPIRED


async def test_a_shorter_token_counts_as_well() -> None:
    client = House().client("ann", expires_in=600.0)
    await refresh(client, token("ann", 60.0))
    await pass_time(70.0)
    assert client.transport.disconnect == TOKEN_EXPIRED


async def test_new_grants_count_at_once() -> None:
    house = House()
    ann = house.client("ann", grants=Grants({"chat": ["join"]}))
    await refresh(ann, token("ann", rooms={"news": ["join"]}))
    assert await ann.join("news") is not None


async def test_who_may_not_speak_any_more_is_refused_in_a_room_it_stays_in() -> None:
    house = House()
    ann = await house.member("ann", "chat")
    ann.say("granted")
    await refresh(ann, token("ann", rooms={"chat": ["join"]}))
    with pytest.raises(NotGranted):
        ann.say("not granted")
    await refresh(ann, token("ann", rooms={"chat": ["join", "publish"]}))
    ann.say("granted again")


async def test_rooms_that_are_not_granted_any_more_are_left_and_told() -> None:
    house = House()
    ann, bob = await house.member("ann", "chat"), await house.member("bob", "chat")
    await ann.join("news")
    await ann.join("@ann")
    ann.take()
    bob.take()
    await refresh(ann, token("ann", rooms={"news": ["join"]}))
    bob.say("without ann")
    await turn()
    (removed,) = ann.frames
    assert (removed["type"], removed["room"], removed["code"]) == ("removed", "chat", "not_granted")
    assert sorted(ann.session.memberships) == ["@ann", "news"]
    assert types(bob.frames) == ["leave", "message"]


@pytest.mark.parametrize(
    ("user", "left", "expected"),
    [("bob", 600.0, Forbidden), ("ann", -60.0, TokenExpired), ("a n n", 600.0, TokenInvalid)],
)
async def test_a_token_that_is_refused_changes_nothing(
    user: str, left: float, expected: type[HubbubError]
) -> None:
    house = House()
    ann = await house.member("ann", expires_in=60.0)
    before = ann.session.identity
    with pytest.raises(expected):
        await refresh(ann, token(user, left))
    assert ann.session.identity is before
    assert RoomId("chat") in ann.session.memberships
    await pass_time(66.0)
    assert ann.transport.disconnect == TOKEN_EXPIRED


async def test_what_others_see_of_the_user_is_renewed() -> None:
    house = House()
    ann = await house.member("ann")
    await refresh(ann, token("ann", info={"name": "Ann"}))
    snapshot = await house.presence.snapshot(RoomId("chat"))
    assert [(m.info, m.sessions) for m in snapshot.members or ()] == [(b'{"name":"Ann"}', 1)]


class Renewal:
    """A refresh of ann, who is in chat and news, that hangs where others are shown her info."""

    def __init__(self) -> None:
        self.presence = SlowPresence()
        self.house = House(presence=self.presence)

    async def begin(self, fresh: str, *rooms: str) -> tuple[Client, "asyncio.Task[float | None]"]:
        ann = self.house.client("ann")
        for room in rooms:
            await ann.join(room)
        await turn()
        ann.take()
        self.presence.gate.clear()
        task = asyncio.create_task(refresh(ann, fresh))
        while ann.session.identity.expires_at is None:
            await turn()
        return ann, task

    async def end(self, task: "asyncio.Task[float | None]") -> None:
        self.presence.gate.set()
        assert await task is not None


async def test_a_room_that_is_not_granted_any_more_is_left_without_waiting() -> None:
    renewal = Renewal()
    ann, task = await renewal.begin(token("ann", rooms={"chat": ["join"]}), "chat", "news")
    assert list(ann.session.memberships) == ["chat"]
    await renewal.end(task)
    assert types(ann.frames) == ["removed"]


async def test_a_room_that_is_left_meanwhile_is_not_entered_again() -> None:
    renewal = Renewal()
    bob = await renewal.house.member("bob", "news")
    ann, task = await renewal.begin(token("ann"), "chat", "news")
    bob.take()
    ann.leave("news")
    await renewal.end(task)
    await turn()
    assert types(bob.frames) == ["leave"]


async def test_a_session_that_is_lost_meanwhile_leaves_nothing_behind() -> None:
    renewal = Renewal()
    ann, task = await renewal.begin(token("ann"), "chat", "news")
    ann.session.lost(1000)
    await renewal.end(task)
    assert renewal.house.is_empty()
    for room in ("chat", "news"):
        assert (await renewal.presence.snapshot(RoomId(room))).count == 0


async def test_a_session_that_is_over_stays_so() -> None:
    ann = House().client("ann", expires_in=60.0)
    ann.session.lost(1000)
    assert await refresh(ann, token("ann")) is None
    await pass_time(1000.0)
    assert ann.transport.disconnect is None


async def test_a_revoked_token_refreshes_nothing() -> None:
    house = House()
    client = house.client("ann", expires_in=60.0)
    house.exclusions.note(RevokeTokens(UserId("ann"), house.wall() + 1000), house.wall())
    with pytest.raises(TokenRevoked):
        await refresh(client, token("ann", 600.0))
    await pass_time(70.0)
    assert client.transport.disconnect == TOKEN_EXPIRED
