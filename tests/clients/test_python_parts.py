"""The Python client's judgements: when to come back, how fast to send, whether anybody is there."""

from collections.abc import Iterator

import pytest
from hubbub_client.backoff import Backoff, Ending
from hubbub_client.clock import Moment
from hubbub_client.credentials import Credentials
from hubbub_client.link import endpoint
from hubbub_client.liveness import Liveness, Verdict
from hubbub_client.pace import Pace

# Coming back


@pytest.mark.parametrize(
    ("code", "final"),
    [
        *((code, True) for code in (1000, 1007, 1009, 4000, 4001, 4003, 4004, 4050, 4099)),
        *((code, False) for code in (1001, 1005, 1006, 1008, 1011, 1012, 3001)),
        *((code, False) for code in (4100, 4101, 4102, 4199, 4200, 4299, 4300)),
    ],
)
def test_the_range_of_a_code_is_the_verdict(code: int, final: bool) -> None:
    assert Ending(code, "").final is final


def test_waits_are_random_below_a_ceiling_that_doubles() -> None:
    backoff = Backoff()
    for tries, ceiling in ((0, 2.0), (1, 4.0), (2, 8.0), (3, 16.0), (4, 20.0), (5000, 20.0)):
        waits = [backoff.wait(tries) for _ in range(300)]
        assert min(waits) >= 0.5
        assert max(waits) <= ceiling
        assert max(waits) - min(waits) > (ceiling - 0.5) / 2


def test_a_server_that_restarts_is_returned_to_when_it_says() -> None:
    backoff = Backoff()
    assert backoff.after(Ending(4200, "", reconnect_after=1.25)) == 1.25
    # A second time in a row is a try like any other.
    assert backoff.after(Ending(4200, "", reconnect_after=0.0)) >= 0.5


def test_a_connection_that_lasted_begins_the_row_afresh() -> None:
    backoff = Backoff()
    for _ in range(10):
        backoff.after(Ending(1006, ""))
    assert backoff.after(Ending(4200, "", lived=5.0)) == 0.0
    assert backoff.after(Ending(1006, "", lived=5.0)) <= 2.0


def test_what_the_server_advises_is_the_least() -> None:
    assert Backoff().after(Ending(1006, "HTTP 503", reconnect_after=30.0)) == 30.0


@pytest.mark.parametrize(("floor", "ceiling"), [(2, 1), (-1, 1)])
def test_an_impossible_backoff_is_refused(floor: float, ceiling: float) -> None:
    with pytest.raises(ValueError, match="not possible"):
        Backoff(floor, ceiling)


# How fast


def test_a_burst_and_then_the_rate() -> None:
    pace, now, sent = Pace(rate=10, burst=10), 100.0, []
    while now < 105:
        wait = pace.wait(now)
        if wait:
            now += wait
        else:
            pace.sent(now)
            sent.append(now)
    assert sent.count(100.0) == 8  # a part of the burst is left for what arrives in clumps
    assert len(sent) == pytest.approx(8 + 5 * 10, abs=1)


def test_no_rate_is_no_limit() -> None:
    pace = Pace(rate=0, burst=1)
    for _ in range(1000):
        pace.sent(1.0)
    assert pace.wait(1.0) == 0.0


def test_who_is_told_to_wait_waits() -> None:
    pace = Pace(rate=1000, burst=1000)
    pace.hold(7.0)
    assert pace.wait(5.0) == 2.0
    assert pace.wait(7.0) == 0.0


# Whether anybody is there


def at(steady: float, wall: float | None = None) -> Moment:
    return Moment(steady, 1e9 + (steady if wall is None else wall))


def test_silence_beyond_the_ping_interval_is_the_end() -> None:
    liveness = Liveness(ping_interval=25, grace=10, now=at(0))
    assert liveness.look(at(34.9), 0.0, None) is Verdict.ALIVE
    assert liveness.look(at(35.1), 0.0, None) is Verdict.DEAD
    assert liveness.look(at(35.1), 1.0, None) is Verdict.ALIVE


def test_who_waits_for_an_answer_asks_after_a_while() -> None:
    liveness = Liveness(ping_interval=25, grace=10, now=at(0))
    assert liveness.look(at(4.9), 0.0, at(0)) is Verdict.ALIVE
    assert liveness.look(at(5.1), 0.0, at(0)) is Verdict.ASK
    assert liveness.look(at(6), 0.0, at(0)) is Verdict.ALIVE  # once is enough
    assert liveness.look(at(10.2), 0.0, at(0)) is Verdict.DEAD


def test_any_sign_of_life_is_an_answer() -> None:
    liveness = Liveness(ping_interval=25, grace=10, now=at(0))
    assert liveness.look(at(5.1), 0.0, at(0)) is Verdict.ASK
    assert liveness.look(at(10.2), 7.0, at(0)) is Verdict.ALIVE
    assert liveness.look(at(12.1), 7.0, at(0)) is Verdict.ASK


def test_a_machine_that_has_slept_asks_at_once() -> None:
    """Its steady clock stood still, so nobody seems to have been silent."""
    liveness = Liveness(ping_interval=25, grace=10, now=at(0))
    assert liveness.look(at(1), 0.5, None) is Verdict.ALIVE
    assert liveness.look(at(2, wall=3602), 0.5, None) is Verdict.ASK
    assert liveness.look(at(7.5, wall=3607.5), 0.5, None) is Verdict.DEAD


def test_a_server_without_pings_is_not_expected_to_send_any() -> None:
    liveness = Liveness(ping_interval=0, grace=10, now=at(0))
    assert liveness.look(at(1e6), 0.0, None) is Verdict.ALIVE


# Tokens


async def test_a_token_is_used_until_four_fifths_of_its_life() -> None:
    tokens = iter(["first", "second"])
    credentials = Credentials(lambda: next(tokens))
    assert await credentials.token(at(0)) == "first"
    credentials.lasts(100.0, at(0))
    assert credentials.refresh_in(at(30)) == 50.0
    assert await credentials.token(at(79)) == "first"
    assert await credentials.token(at(80)) == "second"


async def test_sleep_counts_in_the_life_of_a_token() -> None:
    tokens = iter(["first", "second"])
    credentials = Credentials(lambda: next(tokens))
    await credentials.token(at(0))
    credentials.lasts(3600.0, at(0))
    assert await credentials.token(at(5, wall=8 * 3600)) == "second"


async def test_a_token_may_be_fetched_by_a_coroutine() -> None:
    async def fetch() -> str:
        return "fetched"

    assert await Credentials(fetch).token(at(0)) == "fetched"


async def test_a_token_that_is_given_is_all_there_is() -> None:
    credentials = Credentials("given")
    credentials.lasts(10.0, at(0))
    credentials.forget()
    assert await credentials.token(at(100)) == "given"
    assert not credentials.renewable
    assert credentials.refresh_in(at(0)) is None


async def test_a_failed_fetch_leaves_nothing_behind() -> None:
    answers: Iterator[str | ValueError] = iter(["first", ValueError("no network"), "third"])

    def fetch() -> str:
        answer = next(answers)
        if isinstance(answer, ValueError):
            raise answer
        return answer

    credentials = Credentials(fetch)
    await credentials.token(at(0))
    with pytest.raises(ValueError, match="no network"):
        await credentials.renew()
    assert await credentials.token(at(0)) == "third"


async def test_the_source_has_timeouts_of_its_own() -> None:
    async def fetch() -> str:
        raise TimeoutError("the issuer is slow")

    with pytest.raises(TimeoutError, match="the issuer is slow"):
        await Credentials(fetch).token(at(0))


# Addresses


@pytest.mark.parametrize(
    ("url", "user", "found"),
    [
        ("ws://localhost:8000/v1/ws", None, "ws://localhost:8000/v1/ws"),
        ("http://localhost:8000", None, "ws://localhost:8000/v1/ws"),
        ("https://rooms.example.com/", None, "wss://rooms.example.com/v1/ws"),
        ("wss://rooms.example.com/behind/ws", None, "wss://rooms.example.com/behind/ws"),
        ("ws://[::1]:8000", "ann", "ws://[::1]:8000/v1/ws?user=ann"),
        ("ws://h?user=bob&x=", "ann", "ws://h/v1/ws?user=bob&x="),
        ("ws://h", "a@b", "ws://h/v1/ws?user=a%40b"),
    ],
)
def test_addresses(url: str, user: str | None, found: str) -> None:
    assert endpoint(url, user) == found


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://h", "ws://", "ws://h:port"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ValueError, match=r"address|[Pp]ort"):
        endpoint(url)
