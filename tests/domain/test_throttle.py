"""How often somebody may do something, and who does not listen."""

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.throttle import PATIENCE, PAUSE, Throttle, TokenBucket

RATES = st.floats(0.01, 10_000)
BURSTS = st.integers(1, 300)
STARTS = st.floats(0, 1e7)


def taken_at_once(bucket: TokenBucket, now: float) -> int:
    return next(taken for taken in count() if bucket.take(now) > 0)


def test_a_burst_and_no_more_is_let_through_at_once() -> None:
    assert taken_at_once(TokenBucket(rate=100, burst=200), now=5.0) == 200


def test_a_refusal_says_when_there_will_be_a_token() -> None:
    bucket = TokenBucket(rate=4, burst=1)
    assert bucket.take(10.0) == 0.0
    assert bucket.take(10.0) == pytest.approx(0.25)
    assert bucket.take(10.1) == pytest.approx(0.15)
    assert bucket.take(10.25) == 0.0


def test_a_refusal_takes_nothing() -> None:
    bucket = TokenBucket(rate=1, burst=1)
    bucket.take(0.0)
    for _ in range(100):
        assert bucket.take(0.5) == pytest.approx(0.5)
    assert bucket.take(1.0) == 0.0


def test_tokens_come_back_at_the_rate() -> None:
    bucket = TokenBucket(rate=10, burst=20)
    assert taken_at_once(bucket, 0.0) == 20
    assert taken_at_once(bucket, 0.5) == 5


def test_a_rest_fills_the_bucket_and_does_not_overfill_it() -> None:
    bucket = TokenBucket(rate=10, burst=20)
    assert taken_at_once(bucket, 0.0) == 20
    assert taken_at_once(bucket, 3600.0) == 20


def test_a_rate_of_nothing_is_off() -> None:
    bucket = TokenBucket(rate=0, burst=0)
    assert all(bucket.take(now) == 0.0 for now in (5.0, 5.0, 4.0, 5.0) * 100)


@pytest.mark.parametrize(
    ("rate", "burst"), [(-1, 1), (float("nan"), 1), (1, 0), (1, 0.5), (1, float("nan"))]
)
def test_a_bucket_that_could_never_work_is_refused(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        TokenBucket(rate, burst)


@settings(deadline=None, max_examples=50)
@given(rate=RATES, burst=BURSTS, start=STARTS)
def test_waiting_exactly_as_long_as_told_is_enough(rate: float, burst: int, start: float) -> None:
    bucket = TokenBucket(rate, burst)
    taken_at_once(bucket, start)
    now = start
    for _ in range(5):
        now += bucket.take(now)
        assert bucket.take(now) == 0.0


@settings(deadline=None, max_examples=50)
@given(rate=RATES, burst=BURSTS, start=STARTS, gaps=st.lists(st.floats(0, 10), max_size=50))
def test_never_more_than_the_burst_and_the_rate(
    rate: float, burst: int, start: float, gaps: list[float]
) -> None:
    bucket = TokenBucket(rate, burst)
    now, taken = start, 0
    for gap in [0.0, *gaps]:
        now += gap
        taken += sum(bucket.take(now) == 0.0 for _ in range(20))
        assert taken <= burst + (now - start) * rate + 0.1


def refuse(throttle: Throttle, start: float, end: float, every: float) -> bool:
    """Be refused from start to end; returns what the last refusal says."""
    ignored = False
    for step in range(round((end - start) / every) + 1):
        ignored = throttle.refused(start + step * every)
    return ignored


def test_a_throttle_refuses_as_a_bucket_does() -> None:
    throttle = Throttle(rate=4, burst=2)
    assert [throttle.take(1.0) for _ in range(3)] == pytest.approx([0.0, 0.0, 0.25])


def test_refusals_without_a_pause_for_long_are_ignored_ones() -> None:
    throttle = Throttle(rate=1, burst=1)
    assert not refuse(throttle, 1.0, 1.0 + PATIENCE - 0.5, every=0.5)
    assert throttle.refused(1.0 + PATIENCE)


def test_the_longest_gap_that_is_no_pause() -> None:
    assert refuse(Throttle(rate=1, burst=1), 1.0, 1.0 + PATIENCE, every=PAUSE)


def test_a_pause_ends_the_streak() -> None:
    throttle = Throttle(rate=1, burst=1)
    refuse(throttle, 1.0, 10.0, every=0.5)
    assert not refuse(throttle, 11.5, 11.5 + 9.5, every=0.5)


def test_one_refusal_now_and_then_is_never_ignoring() -> None:
    assert not refuse(Throttle(rate=1, burst=1), 1.0, 1000.0, every=1.5)


def test_a_streak_is_over_when_nothing_more_comes() -> None:
    throttle = Throttle(rate=1, burst=1)
    assert refuse(throttle, 1.0, 20.0, every=0.5)
    assert throttle.refused(20.0 + PAUSE)
    assert not throttle.refused(20.0 + PAUSE + PAUSE + 0.5)


def test_what_gets_through_in_between_does_not_end_a_streak() -> None:
    throttle = Throttle(rate=10, burst=10)
    through = 0
    ignored = False
    for step in range(100 * 11):
        now = step / 100
        if throttle.take(now):
            ignored = throttle.refused(now)
        else:
            through += 1
    assert through == pytest.approx(10 + 110, abs=1)
    assert ignored


def test_a_throttle_that_is_off_refuses_nobody() -> None:
    throttle = Throttle(rate=0, burst=0)
    assert not any(throttle.take(float(now)) for now in range(100))
