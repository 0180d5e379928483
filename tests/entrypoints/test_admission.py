"""How many connections there may be, and whom each counts for."""

import random
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from entrypoints.settings_sections import LimitSettings
from entrypoints.ws.admission import Admission, ConnectionLimits, counted_address
from entrypoints.ws.gate import RETRY_AFTER

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
        with suppress(failure), doorkeeper.inside(scope()), doorkeeper.unknown(scope()):
            assert doorkeeper.full(scope()) is not None
            raise failure
    assert doorkeeper.full(scope()) is None


# At once

AT_ONCE = ConnectionLimits(MANY, MANY, MANY, per_second=10, burst=5)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def shared(unknown: int = MANY, per_second: float = 0.0, burst: float = 1.0) -> ConnectionLimits:
    """Limits of which one address has its ordinary share."""
    return ConnectionLimits(MANY, MANY // 10, unknown, per_second, burst)


def rush(doorkeeper: Admission, whom: dict[str, Any]) -> str | None:
    """As what somebody is counted who comes too soon."""
    full = doorkeeper.rushed(whom)
    return None if full is None else full.cause


def test_so_many_come_at_once_and_then_at_a_rate() -> None:
    clock = Clock()
    doorkeeper = Admission(AT_ONCE, clock)
    crowd = [scope(f"192.0.2.{number}") for number in range(8)]
    assert [rush(doorkeeper, one) for one in crowd] == 5 * [None] + 3 * ["rush"]
    clock.now += 0.2
    assert [rush(doorkeeper, one) for one in crowd] == 2 * [None] + 6 * ["rush"]
    clock.now += 60
    assert [rush(doorkeeper, one) for one in crowd] == 5 * [None] + 3 * ["rush"]


def test_of_this_machine_any_number_come_at_once_and_take_nothing_of_the_others() -> None:
    limits = ConnectionLimits(MANY, MANY, MANY, per_second=1, burst=1)
    doorkeeper = Admission(limits, Clock())
    for _ in range(100):
        assert rush(doorkeeper, scope("127.0.0.1")) is None
    assert rush(doorkeeper, scope()) is None
    assert rush(doorkeeper, scope("127.0.0.1", x_forwarded_for="192.0.2.1")) == "rush"


def test_a_rate_of_zero_is_none() -> None:
    doorkeeper = admission()
    assert {rush(doorkeeper, scope()) for _ in range(10_000)} == {None}


def test_of_one_address_a_quarter_come_at_once_and_then_at_a_tenth_of_the_rate() -> None:
    clock = Clock()
    doorkeeper = Admission(shared(per_second=100, burst=40), clock)
    greedy = scope("192.0.2.1")
    assert [rush(doorkeeper, greedy) for _ in range(12)] == 10 * [None] + 2 * ["address_rush"]
    clock.now += 0.2
    assert [rush(doorkeeper, greedy) for _ in range(4)] == 2 * [None] + 2 * ["address_rush"]


def test_who_comes_without_end_is_refused_and_takes_nothing_of_the_others() -> None:
    """All that is left of what may come at once is still there for them, to the last one."""
    doorkeeper = Admission(shared(per_second=0.001, burst=40), Clock())
    assert [rush(doorkeeper, scope()) for _ in range(1000)].count(None) == 10
    others = [scope(f"198.51.100.{number}") for number in range(31)]
    assert [rush(doorkeeper, one) for one in others] == 30 * [None] + ["rush"]


def test_a_whole_ipv6_network_has_one_share() -> None:
    doorkeeper = Admission(shared(per_second=0.001, burst=40), Clock())
    found = [rush(doorkeeper, scope(f"2001:db8::{number:x}")) for number in range(20)]
    assert found == 10 * [None] + 10 * ["address_rush"]
    assert rush(doorkeeper, scope("2001:db8:0:1::1")) is None


def test_the_clients_of_a_proxy_have_a_share_each() -> None:
    """The address of a request is its client's by now, where the proxy is known."""
    doorkeeper = Admission(shared(per_second=0.001, burst=4), Clock())
    clients = [scope(f"192.0.2.{number}", x_forwarded_for="...") for number in (1, 1, 2, 2)]
    found = [rush(doorkeeper, client) for client in clients]
    assert found == 2 * [None, "address_rush"]


def test_somebody_may_always_come() -> None:
    """However small a share would be."""
    doorkeeper = Admission(shared(unknown=1, per_second=0.001, burst=1), Clock())
    assert doorkeeper.full(scope()) is None
    assert rush(doorkeeper, scope()) is None


@pytest.mark.parametrize(("people", "tries"), [(300, 1), (800, 2)])
def test_an_office_that_comes_back_at_once_is_soon_in(people: int, tries: int) -> None:
    """By the limits of a server that was told none, and from one address: each as clients do, at a
    random moment at first and then when it was told to."""
    clock, settings = Clock(), LimitSettings()
    limits = ConnectionLimits(
        settings.connections,
        settings.connections_per_address,
        settings.unauthenticated,
        settings.handshakes_per_second,
        settings.handshakes_burst,
    )
    doorkeeper, chance = Admission(limits, clock), random.Random(7)
    waiting = [clock.now + chance.uniform(0.5, 2) for _ in range(people)]
    for _ in range(tries):
        assert waiting
        refused = []
        for clock.now in sorted(waiting):
            if rush(doorkeeper, scope()):
                refused.append(clock.now + chance.randint(RETRY_AFTER, 3 * RETRY_AFTER))
        waiting = refused
    assert not waiting


@pytest.mark.parametrize("total", [1000, 500])
def test_an_address_that_may_have_all_connections_has_all_of_the_rest(total: int) -> None:
    """A proxy that hides its clients."""
    limits = ConnectionLimits(total, 1000, unknown=4, per_second=10, burst=5)
    doorkeeper = Admission(limits, Clock())
    assert [rush(doorkeeper, scope()) is None for _ in range(6)] == 5 * [True] + [False]
    with ExitStack() as waiting:
        for _ in range(4):
            assert doorkeeper.full(scope()) is None
            waiting.enter_context(doorkeeper.unknown(scope()))
        assert why_not(doorkeeper, scope())[0] == "unauthenticated"


def test_only_so_many_addresses_are_remembered() -> None:
    """Those that have not come for the longest time are forgotten, and begin afresh."""
    doorkeeper = Admission(shared(per_second=0.001, burst=4), Clock())
    greedy, other = scope("192.0.2.1"), scope("192.0.2.2")
    for one in (greedy, other):
        rush(doorkeeper, one)
    for number in range(9_999):
        assert rush(doorkeeper, greedy) == "address_rush"
        rush(doorkeeper, scope(f"10.0.{number // 256}.{number % 256}"))
    assert rush(doorkeeper, greedy) == "address_rush"
    assert rush(doorkeeper, other) == "rush"  # of all, and not of its own any more


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
    with doorkeeper.unknown(scope()):
        assert doorkeeper.full(scope()) is None
        with doorkeeper.unknown(scope()):
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
    with doorkeeper.unknown(scope()):
        assert doorkeeper.full(scope()) is not None
        assert doorkeeper.full(bringing) is None


def test_an_address_has_a_quarter_of_the_places_for_those_without_a_token() -> None:
    doorkeeper = Admission(shared(unknown=8))
    with ExitStack() as waiting:
        for _ in range(2):
            assert doorkeeper.full(scope("192.0.2.1")) is None
            waiting.enter_context(doorkeeper.unknown(scope("192.0.2.1")))
        cause, reason = why_not(doorkeeper, scope("192.0.2.1"))
        assert cause == "address_unauthenticated"
        assert "without a token" in reason
        assert "this address" in reason
        assert doorkeeper.full(scope("192.0.2.1", query="token=x.y.z")) is None
        assert doorkeeper.full(scope("192.0.2.2")) is None
    assert doorkeeper.full(scope("192.0.2.1")) is None


def test_this_machine_may_have_all_places_for_those_without_a_token() -> None:
    doorkeeper = Admission(shared(unknown=8))
    with ExitStack() as waiting:
        for _ in range(8):
            assert doorkeeper.full(scope("127.0.0.1")) is None
            waiting.enter_context(doorkeeper.unknown(scope("127.0.0.1")))
        assert why_not(doorkeeper, scope("127.0.0.1"))[0] == "unauthenticated"
