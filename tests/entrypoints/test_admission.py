"""How many connections there may be, and whom each counts for."""

from contextlib import ExitStack, suppress
from typing import Any

import pytest

from entrypoints.ws.admission import Admission, ConnectionLimits, counted_address

MANY = 1_000_000
HERE = ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"]
FORWARDED = ["x-forwarded-for", "forwarded", "x-real-ip"]


def scope(address: str | None = "192.0.2.1", /, query: str = "", **headers: str) -> dict[str, Any]:
    """An upgrade request from an address; underscores in names of headers stand for hyphens."""
    return {
        "type": "websocket",
        "path": "/v1/ws",
        "client": None if address is None else (address, 50_000),
        "headers": [
            (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
        ],
        "query_string": query.encode(),
        "subprotocols": [],
    }


def admission(total: int = MANY, per_address: int = MANY, unknown: int = MANY) -> Admission:
    return Admission(ConnectionLimits(total, per_address, unknown))


def why_not(doorkeeper: Admission, whom: dict[str, Any]) -> tuple[str, str]:
    """What is counted and what is told when there is no room."""
    full = doorkeeper.full(whom)
    assert full is not None
    return full.cause, full.reason


# In all


def test_so_many_are_let_in_and_no_more() -> None:
    doorkeeper = admission(total=3)
    with ExitStack() as inside:
        for number in range(3):
            assert doorkeeper.full(scope(f"192.0.2.{number}")) is None
            inside.enter_context(doorkeeper.inside(scope(f"192.0.2.{number}")))
        for address in ("192.0.2.9", "127.0.0.1", None):  # there is no exception here
            assert why_not(doorkeeper, scope(address)) == ("connections", "over capacity")
    assert doorkeeper.full(scope()) is None


def test_whoever_goes_makes_room_for_one() -> None:
    doorkeeper = admission(total=2)
    with doorkeeper.inside(scope()):
        for _ in range(5):
            with doorkeeper.inside(scope()):
                assert doorkeeper.full(scope()) is not None
            assert doorkeeper.full(scope()) is None


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_a_connection_that_fails_is_not_counted_any_more(failure: type[BaseException]) -> None:
    doorkeeper = admission(total=1, per_address=1, unknown=1)
    for _ in range(3):
        with suppress(failure), doorkeeper.inside(scope()), doorkeeper.unknown():
            assert doorkeeper.full(scope()) is not None
            raise failure
    assert doorkeeper.full(scope()) is None


# At once


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_so_many_come_at_once_and_then_at_a_rate() -> None:
    clock = Clock()
    limits = ConnectionLimits(MANY, MANY, MANY, per_second=10, burst=5)
    doorkeeper = Admission(limits, clock)
    crowd = [scope(f"192.0.2.{number}") for number in range(8)]
    assert [doorkeeper.rushed(one) for one in crowd] == 5 * [False] + 3 * [True]
    clock.now += 0.2
    assert [doorkeeper.rushed(one) for one in crowd] == 2 * [False] + 6 * [True]
    clock.now += 60
    assert [doorkeeper.rushed(one) for one in crowd] == 5 * [False] + 3 * [True]


def test_of_this_machine_any_number_come_at_once_and_take_nothing_of_the_others() -> None:
    limits = ConnectionLimits(MANY, MANY, MANY, per_second=1, burst=1)
    doorkeeper = Admission(limits, Clock())
    assert not any(doorkeeper.rushed(scope("127.0.0.1")) for _ in range(100))
    assert not doorkeeper.rushed(scope())
    assert doorkeeper.rushed(scope("127.0.0.1", x_forwarded_for="192.0.2.1"))


def test_a_rate_of_zero_is_none() -> None:
    doorkeeper = admission()
    assert not any(doorkeeper.rushed(scope()) for _ in range(10_000))


# From one address


def test_an_address_has_so_many_and_others_have_theirs() -> None:
    doorkeeper = admission(per_address=2)
    with ExitStack() as inside:
        for _ in range(2):
            assert doorkeeper.full(scope("192.0.2.1")) is None
            inside.enter_context(doorkeeper.inside(scope("192.0.2.1")))
        assert why_not(doorkeeper, scope("192.0.2.1")) == (
            "address",
            "too many connections from this address",
        )
        assert doorkeeper.full(scope("192.0.2.2")) is None
        assert doorkeeper.full(scope("2001:db8::1")) is None
        with doorkeeper.inside(scope("192.0.2.2")), doorkeeper.inside(scope("192.0.2.2")):
            assert doorkeeper.full(scope("192.0.2.2")) is not None
        assert doorkeeper.full(scope("192.0.2.2")) is None
        assert doorkeeper.full(scope("192.0.2.1")) is not None
    assert doorkeeper.full(scope("192.0.2.1")) is None


@pytest.mark.parametrize("address", ["192.0.2.1", "10.0.0.1"])
def test_addresses_of_others_are_counted(address: str) -> None:
    assert counted_address(scope(address)) == address
    assert counted_address(scope(address, x_forwarded_for="192.0.2.9")) == address


def test_nonsense_for_an_address_counts_as_one() -> None:
    """A proxy passes on what it was told, and who tells it something new each time is one."""
    said = ["unknown", "_hidden", "", "192.0.2.1; x", "1.2.3.4.5", "x" * 10_000, "\udcff", "::1::"]
    assert len({counted_address(scope(text)) for text in said}) == 1


def test_a_whole_ipv6_network_counts_as_one_address() -> None:
    assert counted_address(scope("2001:db8::1")) == "2001:db8::/64"
    assert counted_address(scope("2001:db8::ffff:1")) == "2001:db8::/64"
    assert counted_address(scope("2001:db8:0:1::1")) == "2001:db8:0:1::/64"
    assert counted_address(scope("fe80::1%eth0")) == "fe80::/64"


def test_an_old_address_seen_by_a_listener_for_both_kinds_is_the_same() -> None:
    assert counted_address(scope("::ffff:192.0.2.1")) == "192.0.2.1"


@pytest.mark.parametrize("address", HERE)
def test_this_machine_may_have_any_number(address: str) -> None:
    assert counted_address(scope(address)) is None
    doorkeeper = admission(per_address=1)
    with doorkeeper.inside(scope(address)), doorkeeper.inside(scope(address)):
        assert doorkeeper.full(scope(address)) is None


@pytest.mark.parametrize("address", HERE)
@pytest.mark.parametrize("header", FORWARDED)
def test_who_speaks_for_somebody_else_is_not_this_machine(address: str, header: str) -> None:
    """A proxy of ours that hides where its clients are: all of them count as one address."""
    proxied = scope(address, **{header: "for=192.0.2.1"})
    assert counted_address(proxied) == address.removeprefix("::ffff:")
    doorkeeper = admission(per_address=1)
    with doorkeeper.inside(proxied):
        assert doorkeeper.full(proxied) is not None
        assert doorkeeper.full(scope(address)) is None
    assert doorkeeper.full(proxied) is None


def test_without_an_address_there_is_nobody_to_count_for() -> None:
    """A Unix socket."""
    doorkeeper = admission(total=3, per_address=1)
    with doorkeeper.inside(scope(None)), doorkeeper.inside(scope(None)):
        assert doorkeeper.full(scope(None)) is None
        with doorkeeper.inside(scope(None)):
            assert why_not(doorkeeper, scope(None)) == ("connections", "over capacity")


# Without a token


def test_so_many_may_have_yet_to_show_a_token() -> None:
    doorkeeper = admission(unknown=2)
    with doorkeeper.unknown():
        assert doorkeeper.full(scope()) is None
        with doorkeeper.unknown():
            cause, reason = why_not(doorkeeper, scope())
            assert cause == "unauthenticated"
            assert "without a token" in reason
        assert doorkeeper.full(scope()) is None


@pytest.mark.parametrize(
    "bringing",
    [
        scope(query="token=x.y.z"),
        scope(authorization="Bearer x.y.z"),
        {**scope(), "subprotocols": ["hubbub.v1", "bearer.x.y.z"]},
    ],
)
def test_who_brings_a_token_does_not_wait_for_those_who_bring_none(bringing: Any) -> None:
    doorkeeper = admission(unknown=1)
    with doorkeeper.unknown():
        assert doorkeeper.full(scope()) is not None
        assert doorkeeper.full(bringing) is None
