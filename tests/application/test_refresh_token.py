"""A newer token for a session that is there."""

import pytest

from adapters.jwt_authenticator import JwtAuthenticator, hmac_key
from application.disconnects import TOKEN_EXPIRED
from application.refresh_token import RefreshToken
from domain.errors import Forbidden, HubbubError, TokenExpired, TokenInvalid
from domain.grants import Grants
from domain.identifiers import RoomId
from tests.application.conftest import Client, House, pass_time, turn, types
from tests.tokens import SECRET, token


def refresher(house: House) -> RefreshToken:
    return RefreshToken(JwtAuthenticator([hmac_key(SECRET.encode())]), house.leave, house.wall)


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


async def test_a_session_that_is_over_stays_so() -> None:
    ann = House().client("ann", expires_in=60.0)
    ann.session.lost(1000)
    assert await refresh(ann, token("ann")) is None
    await pass_time(1000.0)
    assert ann.transport.disconnect is None
