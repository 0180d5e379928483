"""Pings on time, and a peer that gives no sign of life is found out."""

import pytest

from domain.heartbeat import Heartbeat, Verdict

INTERVAL, TIMEOUT = 25.0, 10.0
NEVER = float("inf")


def heartbeat(interval: float = INTERVAL, timeout: float = TIMEOUT) -> Heartbeat:
    """The first ping is due at 100 + interval."""
    return Heartbeat(interval, timeout, now=100.0, fraction=1.0)


@pytest.mark.parametrize("fraction", [0.5, 0.75, 1.0])
def test_the_first_ping_comes_after_a_part_of_the_interval(fraction: float) -> None:
    beat = Heartbeat(INTERVAL, TIMEOUT, now=100.0, fraction=fraction)
    due = 100.0 + INTERVAL * fraction
    assert beat.next_at == due
    assert beat.tick(due - 0.1, heard=False) is Verdict.WAIT
    assert beat.next_at == due
    assert beat.tick(due, heard=False) is Verdict.PING


def test_after_a_ping_an_answer_is_due_in_time() -> None:
    beat = heartbeat()
    assert beat.tick(125.0, heard=False) is Verdict.PING
    assert beat.next_at == 135.0
    assert beat.tick(134.9, heard=False) is Verdict.WAIT
    assert beat.next_at == 135.0
    assert beat.tick(135.0, heard=False) is Verdict.DEAD


def test_a_peer_that_was_heard_lives_until_the_next_ping_at_least() -> None:
    beat = heartbeat()
    beat.tick(125.0, heard=False)
    assert beat.tick(135.0, heard=True) is Verdict.WAIT
    assert beat.next_at == 150.0
    assert beat.tick(150.0, heard=False) is Verdict.PING
    assert beat.next_at == 160.0


def test_a_sign_of_life_noticed_early_counts() -> None:
    beat = heartbeat()
    beat.tick(125.0, heard=False)
    assert beat.tick(126.0, heard=True) is Verdict.WAIT
    assert beat.next_at == 150.0
    assert beat.tick(135.0, heard=False) is Verdict.WAIT


def test_what_was_heard_before_a_ping_is_no_answer_to_it() -> None:
    beat = heartbeat()
    assert beat.tick(125.0, heard=True) is Verdict.PING
    assert beat.tick(135.0, heard=False) is Verdict.DEAD


def test_pings_keep_coming_to_a_busy_peer() -> None:
    beat = heartbeat()
    pings = 0
    for second in range(101, 301):
        pings += beat.tick(float(second), heard=True) is Verdict.PING
    assert pings == 200 // INTERVAL


def test_death_is_final() -> None:
    beat = heartbeat()
    beat.tick(125.0, heard=False)
    assert beat.tick(135.0, heard=False) is Verdict.DEAD
    assert beat.next_at == NEVER
    assert beat.tick(136.0, heard=True) is Verdict.DEAD
    assert beat.tick(200.0, heard=False, can_answer=False) is Verdict.DEAD


def test_a_late_look_pings_once_and_counts_from_then() -> None:
    beat = heartbeat()
    assert beat.tick(225.0, heard=False) is Verdict.PING
    assert beat.next_at == 235.0
    assert beat.tick(235.0, heard=True) is Verdict.WAIT
    assert beat.next_at == 250.0


def test_a_late_look_at_a_peer_that_answered_goes_on_with_the_next_ping() -> None:
    beat = heartbeat()
    beat.tick(125.0, heard=False)
    assert beat.tick(170.0, heard=True) is Verdict.PING
    assert beat.next_at == 180.0


def test_silence_where_no_answer_can_come_is_not_death() -> None:
    beat = heartbeat()
    assert beat.tick(125.0, heard=False) is Verdict.PING
    assert beat.tick(135.0, heard=False, can_answer=False) is Verdict.WAIT
    assert beat.next_at == 150.0
    assert beat.tick(150.0, heard=False, can_answer=False) is Verdict.PING
    assert beat.next_at == 175.0


def test_answers_are_due_again_once_they_can_come() -> None:
    beat = heartbeat()
    assert beat.tick(125.0, heard=False, can_answer=False) is Verdict.PING
    assert beat.tick(150.0, heard=False) is Verdict.PING
    assert beat.tick(160.0, heard=False) is Verdict.DEAD


def test_a_timeout_above_the_interval_runs_from_the_first_unanswered_ping() -> None:
    beat = heartbeat(interval=10.0, timeout=25.0)
    assert beat.tick(110.0, heard=False) is Verdict.PING
    assert beat.next_at == 120.0
    assert beat.tick(120.0, heard=False) is Verdict.PING
    assert beat.tick(130.0, heard=False) is Verdict.PING
    assert beat.next_at == 135.0
    assert beat.tick(135.0, heard=False) is Verdict.DEAD


def test_a_timeout_above_the_interval_starts_anew_after_a_sign_of_life() -> None:
    beat = heartbeat(interval=10.0, timeout=25.0)
    beat.tick(110.0, heard=False)
    assert beat.tick(120.0, heard=True) is Verdict.PING
    assert beat.tick(130.0, heard=False) is Verdict.PING
    assert beat.tick(140.0, heard=False) is Verdict.PING
    assert beat.tick(145.0, heard=False) is Verdict.DEAD


def test_an_interval_of_nothing_is_off() -> None:
    beat = heartbeat(interval=0.0, timeout=0.0)
    assert beat.next_at == NEVER
    assert beat.tick(1e9, heard=False) is Verdict.WAIT
    assert beat.next_at == NEVER


@pytest.mark.parametrize(
    ("interval", "timeout", "fraction"),
    [
        (-1.0, 10.0, 1.0),
        (float("nan"), 10.0, 1.0),
        (25.0, 0.0, 1.0),
        (25.0, -1.0, 1.0),
        (25.0, float("nan"), 1.0),
        (25.0, 10.0, 0.4),
        (25.0, 10.0, 1.1),
        (25.0, 10.0, float("nan")),
    ],
)
def test_nonsense_is_refused(interval: float, timeout: float, fraction: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        Heartbeat(interval, timeout, 0.0, fraction)
