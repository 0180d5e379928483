"""How many connections there may be: in all, from one address, and yet to say who they are; and how
many may come at once."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import NamedTuple

from domain.throttle import TokenBucket
from entrypoints.ws.credentials import Scope, header, token_of

_UNREADABLE = "unreadable"  # one for all, or who writes nonsense would count as many
_FORWARDED = (b"x-forwarded-for", b"forwarded", b"x-real-ip")


class ConnectionLimits(NamedTuple):
    """Per node. `unknown` counts connections that have yet to hand in a token. A rate of 0 is no
    limit."""

    total: int
    per_address: int
    unknown: int
    per_second: float = 0.0
    burst: float = 1.0


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
        self._clock = clock
        self._arrivals = TokenBucket(limits.per_second, limits.burst)
        self._total = 0
        self._unknown = 0
        self._addresses: Counter[str] = Counter()

    def full(self, scope: Scope) -> Full | None:
        """None where there is room."""
        if self._total >= self._limits.total:
            return Full("connections", "over capacity")
        if self._unknown >= self._limits.unknown and token_of(scope) is None:
            reason = "over capacity: too many connections without a token yet"
            return Full("unauthenticated", reason)
        address = counted_address(scope)
        if address is not None and self._addresses[address] >= self._limits.per_address:
            return Full("address", "too many connections from this address")
        return None

    def rushed(self, scope: Scope) -> bool:
        """Whether too many come at once. Counts this one if not, but for those of this machine."""
        return counted_address(scope) is not None and self._arrivals.take(self._clock()) > 0

    @property
    def known(self) -> int:
        """Connections that have said who they are, or were turned away, and are still there."""
        return self._total - self._unknown

    @contextmanager
    def inside(self, scope: Scope) -> Iterator[None]:
        """Count a connection for as long as it is there."""
        address = counted_address(scope)
        self._total += 1
        if address is not None:
            self._addresses[address] += 1
        try:
            yield
        finally:
            self._total -= 1
            if address is not None:
                self._addresses[address] -= 1
                if not self._addresses[address]:
                    del self._addresses[address]

    @contextmanager
    def unknown(self) -> Iterator[None]:
        """Count a connection while it has not said who it is."""
        self._unknown += 1
        try:
            yield
        finally:
            self._unknown -= 1


def counted_address(scope: Scope) -> str | None:
    """The address a connection counts for. None: from this machine itself, and not on behalf of
    somebody else (a proxy here that we were not told to trust still counts, as one address)."""
    client = scope.get("client")
    if client is None:
        return None
    address, local = _read_address(str(client[0]))
    forwarded = any(header(scope, name) is not None for name in _FORWARDED)
    return None if local and not forwarded else address


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
