"""How often users may ask for something without a session."""

import pytest

from adapters.prometheus_metrics import PrometheusMetrics
from application.requests import RequestRates
from domain.errors import RateLimited
from domain.grants import ALL_GRANTS, DEFAULT_GRANTS, Backend, Caller, Identity
from domain.identifiers import UserId

ANN, BOB = (Identity(UserId(name), DEFAULT_GRANTS) for name in ("ann", "bob"))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def waits(rates: RequestRates, caller: Caller, *, publish: bool = False) -> float:
    """Seconds to wait; 0 for none."""
    try:
        (rates.admit_publish if publish else rates.admit_command)(caller)
    except RateLimited as refused:
        return refused.retry_after or 0.0
    return 0.0


def test_each_user_has_rates_of_their_own_for_both_kinds() -> None:
    clock = Clock()
    rates = RequestRates(PrometheusMetrics(), messages=(1, 1), commands=(1, 2), now=clock)
    assert [waits(rates, ANN) for _ in range(2)] == [0, 0]
    assert waits(rates, ANN) == pytest.approx(1, abs=0.01)
    assert waits(rates, BOB) == 0
    assert waits(rates, ANN, publish=True) == 0
    assert waits(rates, ANN, publish=True) == pytest.approx(1, abs=0.01)
    clock.now = 1.1
    assert waits(rates, ANN) == waits(rates, ANN, publish=True) == 0


def test_backends_have_none_and_a_rate_of_zero_is_none() -> None:
    strict = RequestRates(PrometheusMetrics(), messages=(1, 1), commands=(1, 1))
    assert not any(waits(strict, Backend("app", ALL_GRANTS)) for _ in range(10))
    off = RequestRates(PrometheusMetrics(), messages=(0, 1), commands=(0, 1))
    assert not any(waits(off, ANN) for _ in range(10))


def test_the_buckets_of_many_users_are_bounded() -> None:
    rates = RequestRates(PrometheusMetrics(), messages=(1, 1), commands=(1, 1), now=Clock())
    assert waits(rates, ANN) == 0
    for number in range(9_999):
        assert waits(rates, Identity(UserId(f"user{number}"), DEFAULT_GRANTS)) == 0
    assert waits(rates, ANN) > 0  # and so is the one seen last
    for number in range(10_000):
        waits(rates, Identity(UserId(f"other{number}"), DEFAULT_GRANTS))
    assert len(rates._users) == 10_000
    assert waits(rates, ANN) == 0
