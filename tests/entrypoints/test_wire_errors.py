"""Every error has an HTTP status and a verdict for WebSockets, and both say the same."""

from collections.abc import Iterator

import pytest

from application.disconnects import Disconnect
from domain.errors import BadFrame, HubbubError, RateLimited, TokenExpired, Unauthenticated
from entrypoints.wire.errors import wire_of


def leaves(root: type[HubbubError]) -> Iterator[type[HubbubError]]:
    children = root.__subclasses__()
    if not children:
        yield root
    for child in children:
        yield from leaves(child)


LEAVES = sorted(leaves(HubbubError), key=lambda leaf: leaf.code)


def test_leaves_are_found() -> None:
    assert {BadFrame, RateLimited, TokenExpired} <= set(LEAVES)
    assert len({leaf.code for leaf in LEAVES}) == len(LEAVES)


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.code)
def test_every_error_has_a_row(leaf: type[HubbubError]) -> None:
    status, close = wire_of(leaf("why"))
    assert 400 <= status < 600
    assert close is None or close.reason == f"{leaf.code}: why"


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.code)
def test_the_close_code_tells_to_come_back_when_a_retry_may_help(leaf: type[HubbubError]) -> None:
    close = wire_of(leaf()).close
    if close is not None:
        assert (4100 <= close.code < 4300) == leaf.retry


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.code)
def test_the_status_blames_whom_the_error_blames(leaf: type[HubbubError]) -> None:
    status = wire_of(leaf()).status
    assert (status >= 500 or status == 429) == leaf.retry


@pytest.mark.parametrize("leaf", [*leaves(Unauthenticated)], ids=lambda leaf: leaf.code)
def test_no_identity_is_4001_and_401(leaf: type[HubbubError]) -> None:
    wire = wire_of(leaf("not today"))
    assert wire == (401, Disconnect(4001, f"{leaf.code}: not today"))


def test_an_advised_delay_is_kept() -> None:
    assert wire_of(RateLimited("slow down", retry_after=1.5)).close == Disconnect(
        4104, "rate_limited: slow down", 1.5
    )


def test_a_reason_fits_a_close_frame_and_stays_utf_8() -> None:
    close = wire_of(TokenExpired("é" * 200)).close
    assert close is not None
    assert 120 < len(close.reason.encode()) <= 123
    assert close.reason.startswith("token_expired: éé")


def test_without_words_the_code_is_the_reason() -> None:
    close = wire_of(TokenExpired()).close
    assert close is not None
    assert close.reason == "token_expired"
