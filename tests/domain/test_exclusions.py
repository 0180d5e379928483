"""Who is kept out although the credential is good."""

import pytest

from domain.errors import Forbidden, TokenRevoked
from domain.exclusions import REMEMBERED, Exclusions
from domain.grants import OPEN_GRANTS, Identity
from domain.identifiers import RoomId, UserId
from domain.orders import Block, Enter, Kick, RevokeToken, RevokeTokens, SendAway, Unblock

ANN, BOB = UserId("ann"), UserId("bob")
NOW = 1.7e9


def by_token(
    user: UserId = ANN, token_id: str | None = None, issued_at: float | None = None
) -> Identity:
    return Identity(user, OPEN_GRANTS, b"null", NOW + 60, token_id, issued_at)


def test_a_revoked_token_lets_nobody_in_and_others_do() -> None:
    exclusions = Exclusions()
    exclusions.note(RevokeToken("t1", NOW + 60), NOW)
    with pytest.raises(TokenRevoked):
        exclusions.check(by_token(token_id="t1"), NOW)
    exclusions.check(by_token(token_id="t2"), NOW)
    exclusions.check(by_token(), NOW)


@pytest.mark.parametrize(
    ("issued_at", "revoked"), [(NOW - 1, True), (None, True), (NOW, False), (NOW + 1, False)]
)
def test_tokens_of_a_user_are_revoked_up_to_a_moment(
    issued_at: float | None, revoked: bool
) -> None:
    exclusions = Exclusions()
    exclusions.note(RevokeTokens(ANN, NOW), NOW)
    exclusions.check(by_token(BOB, issued_at=issued_at), NOW)
    if revoked:
        with pytest.raises(TokenRevoked):
            exclusions.check(by_token(issued_at=issued_at), NOW)
    else:
        exclusions.check(by_token(issued_at=issued_at), NOW)


def test_an_earlier_moment_takes_nothing_back() -> None:
    exclusions = Exclusions()
    exclusions.note(RevokeTokens(ANN, NOW), NOW)
    exclusions.note(RevokeTokens(ANN, NOW - 100), NOW)
    with pytest.raises(TokenRevoked):
        exclusions.check(by_token(issued_at=NOW - 50), NOW)


def test_who_came_without_a_token_has_none_to_revoke() -> None:
    exclusions = Exclusions()
    exclusions.note(RevokeTokens(ANN, NOW), NOW)
    exclusions.check(Identity(ANN, OPEN_GRANTS), NOW)


def test_a_block_ends_by_itself() -> None:
    exclusions = Exclusions()
    exclusions.note(Block(ANN, NOW + 10), NOW)
    with pytest.raises(Forbidden):
        exclusions.check(Identity(ANN, OPEN_GRANTS), NOW + 9)
    exclusions.check(Identity(ANN, OPEN_GRANTS), NOW + 10)
    exclusions.check(Identity(BOB, OPEN_GRANTS), NOW)


def test_a_block_is_lifted() -> None:
    exclusions = Exclusions()
    exclusions.note(Block(ANN, NOW + 10), NOW)
    exclusions.note(Unblock(ANN), NOW)
    exclusions.note(Unblock(BOB), NOW)
    exclusions.check(Identity(ANN, OPEN_GRANTS), NOW)


def test_kicks_invitations_and_goodbyes_keep_nobody_out() -> None:
    exclusions = Exclusions()
    exclusions.note(Kick(RoomId("chat"), ANN), NOW)
    exclusions.note(Enter(RoomId("chat"), ANN), NOW)
    exclusions.note(SendAway(ANN), NOW)
    exclusions.check(by_token(), NOW)
    assert not len(exclusions)


def test_what_does_not_matter_any_more_is_forgotten() -> None:
    exclusions = Exclusions()
    for number in range(5_000):
        exclusions.note(RevokeToken(f"old-{number}", NOW + 1), NOW + number)
    exclusions.note(RevokeTokens(ANN, NOW), NOW)
    for number in range(5_000):
        exclusions.note(RevokeToken(f"new-{number}", NOW + 3 * REMEMBERED), NOW + 2 * REMEMBERED)
    assert len(exclusions) <= 2 * 5_000
    with pytest.raises(TokenRevoked):
        exclusions.check(by_token(token_id="new-0"), NOW + 2 * REMEMBERED)
