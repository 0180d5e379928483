"""The tree of errors and the drawing of it say the same."""

import re
from collections.abc import Iterator

import pytest

from domain import errors
from domain.errors import (
    Failure,
    HubbubError,
    OutcomeUnknown,
    RateLimited,
    Refusal,
    RoomFull,
    Unauthenticated,
)


def leaves(root: type[HubbubError]) -> Iterator[type[HubbubError]]:
    below = [kind for kind in root.__subclasses__() if kind.__module__ == errors.__name__]
    if not below:
        yield root
    for kind in below:
        yield from leaves(kind)


LEAVES = list(leaves(HubbubError))


def test_the_drawing_names_every_error_with_its_code() -> None:
    drawn = re.findall(r"── (\w+) +([a-z_]+)(?::|$)", errors.__doc__ or "", re.MULTILINE)
    assert drawn == [(kind.__name__, kind.code) for kind in LEAVES]


def test_codes_are_distinct_words() -> None:
    codes = [kind.code for kind in LEAVES]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch("[a-z]+(_[a-z]+)*", code) for code in codes)


def test_only_failures_and_too_much_at_once_may_succeed_unchanged() -> None:
    assert {kind for kind in LEAVES if kind.retry} == {RateLimited, *leaves(Failure)}


def test_nothing_that_is_refused_for_good_says_retry() -> None:
    assert not any(kind.retry for kind in leaves(Unauthenticated))
    assert not RoomFull.retry
    assert not Refusal.retry


def test_an_unknown_outcome_asks_to_be_retried() -> None:
    assert OutcomeUnknown("the connection broke").retry
    assert OutcomeUnknown.code == "unknown"


@pytest.mark.parametrize("kind", LEAVES)
def test_an_error_carries_its_text_and_when_to_come_back(kind: type[HubbubError]) -> None:
    error = kind("too fast", retry_after=1.5)
    assert (error.message, str(error), error.retry_after) == ("too fast", "too fast", 1.5)
    assert (kind().message, kind().retry_after) == ("", None)
