"""How many connections there may be: in all, from one address, and yet to say who they are; and how
many may come at once.

What there is of the last two an address has a share in, and what is over it is refused before it
takes anything of the others'. Otherwise one of them could keep everybody else out.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import NamedTuple

from domain.throttle import TokenBucket
from entrypoints.ws.credentials import Scope, token_of

_UNREADABLE = "unreadable"  # one for all, or who writes nonsense would count as many
_FORWARDED = frozenset({b"x-forwarded-for", b"forwarded", b"x-real-ip"})
_SHARE_OF_RATE = 0.1
# Behind one address may be an office that comes back at once, and that may wait together then.
_SHARE_AT_ONCE = 0.25
_MAX_ADDRESSES = 10_000  # whose arrivals are remembered; the least recently seen are forgotten


class ConnectionLimits(NamedTuple):
    """Per node. `unknown` counts connections that have yet to hand in a token. A rate of 0 is no
    limit."""

    total: int
    per_address: int
    unknown: int
    per_second: float = 0.0
    burst: float = 1.0

    def of_an_address(self) -> "ConnectionLimits":
        """The part of them that one address may have. Where it may have more of all connections,
        as with a proxy that hides its clients, it has as much of the others."""
        at_least = min(1.0, self.per_address / self.total)
        at_once = max(_SHARE_AT_ONCE, at_least)
        return self._replace(
            unknown=math.ceil(self.unknown * at_once),
            per_second=self.per_second * max(_SHARE_OF_RATE, at_least),
            burst=max(1.0, self.burst * at_once),
        )


class Full(NamedTuple):
    """Why there is no room for one more: `cause` as it is counted, `reason` as it is told."""

    cause: str
    reason: str


class Admission:
    """Counts the connections of this node. One for all doors."""

    def __init__(
        self, limits: ConnectionLimits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._share = share = limits.of_an_address()
        self._clock = clock
        self._arrivals = TokenBucket(limits.per_second, limits.burst)
        self._arrivals_of = lru_cache(_MAX_ADDRESSES)(
            lambda address: TokenBucket(share.per_second, share.burst)
        )
        self._total = 0
        self._unknown = 0
        self._addresses: Counter[str] = Counter()
        self._unknown_at: Counter[str] = Counter()

    def full(self, scope: Scope) -> Full | None:
        """None where there is room."""
        if self._total >= self._limits.total:
            return Full("connections", "over capacity")
        address = counted_address(scope)
        if self._unknown and (full := self._full_of_unknown(address)) and token_of(scope) is None:
            return full
        if address is not None and self._addresses[address] >= self._limits.per_address:
            return Full("address", "too many connections from this address")
        return None

    def _full_of_unknown(self, address: str | None) -> Full | None:
        if self._unknown >= self._limits.unknown:
            reason = "over capacity: too many connections without a token yet"
            return Full("unauthenticated", reason)
        if address is not None and self._unknown_at[address] >= self._share.unknown:
            reason = "too many connections without a token yet from this address"
            return Full("address_unauthenticated", reason)
        return None

    def rushed(self, scope: Scope) -> Full | None:
        """Whether too many come at once. Counts this one if not, but for those of this machine."""
        address = counted_address(scope)
        if address is None:
            return None
        now = self._clock()
        if self._arrivals_of(address).take(now):
            return Full("address_rush", "too many new connections at once from this address")
        if self._arrivals.take(now):
            return Full("rush", "too many new connections at once")
        return None

    @property
    def known(self) -> int:
        """Connections that have said who they are, or were turned away, and are still there."""
        return self._total - self._unknown

    @contextmanager
    def inside(self, scope: Scope) -> Iterator[None]:
        """Count a connection for as long as it is there."""
        address = counted_address(scope)
        self._total += 1
        _one_more(self._addresses, address)
        try:
            yield
        finally:
            self._total -= 1
            _one_less(self._addresses, address)

    @contextmanager
    def unknown(self, scope: Scope) -> Iterator[None]:
        """Count a connection while it has not said who it is."""
        address = counted_address(scope)
        self._unknown += 1
        _one_more(self._unknown_at, address)
        try:
            yield
        finally:
            self._unknown -= 1
            _one_less(self._unknown_at, address)


def _one_more(connections: Counter[str], address: str | None) -> None:
    if address is not None:
        connections[address] += 1


def _one_less(connections: Counter[str], address: str | None) -> None:
    if address is not None:
        connections[address] -= 1
        if not connections[address]:
            del connections[address]


def counted_address(scope: Scope) -> str | None:
    """The address a connection counts for. None: from this machine itself, and not on behalf of
    somebody else (a proxy here that we were not told to trust still counts, as one address)."""
    client = scope.get("client")
    if client is None:
        return None
    address, local = _read_address(str(client[0]))
    if local and _FORWARDED.isdisjoint(name for name, _ in scope["headers"]):
        return None
    return address


@lru_cache(maxsize=1024)  # reading one costs as much as the rest of the gate
def _read_address(text: str) -> tuple[str, bool]:
    """What counts as one address, and whether it is this machine's."""
    try:
        ip = ip_address(text)
    except ValueError:
        return _UNREADABLE, False
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped  # as a listener for both kinds sees the old one
    if ip.version == 6 and not ip.is_loopback:
        # A household or a rented machine has a whole /64 to connect from.
        return str(ip_network((ip, 64), strict=False)), False
    return str(ip), ip.is_loopback
