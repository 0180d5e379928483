"""How often somebody may ask for something without a session."""

import time
from collections import OrderedDict
from collections.abc import Callable

from application.ports.metrics import Metrics
from domain.errors import RateLimited
from domain.grants import Caller, Identity
from domain.identifiers import UserId
from domain.throttle import TokenBucket

_LIMITS = ("messages", "commands")
_MAX_USERS = 10_000  # whose buckets are kept; the least recently seen are forgotten


class RequestRates:
    """The rates of a session, for each user and on this node. A backend is trusted with its own;
    the rates of rooms hold for it as well."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        messages: tuple[float, float],
        commands: tuple[float, float],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Each is a rate a second (0: none) and a burst."""
        self._metrics = metrics
        self._rates = (messages, commands)
        self._now = now
        self._users: OrderedDict[UserId, tuple[TokenBucket, TokenBucket]] = OrderedDict()

    def admit_publish(self, caller: Caller) -> None:
        """Count a message. Raises RateLimited."""
        self._admit(caller, 0)

    def admit_command(self, caller: Caller) -> None:
        """Count anything else that is asked for. Raises RateLimited."""
        self._admit(caller, 1)

    def _admit(self, caller: Caller, which: int) -> None:
        if not isinstance(caller, Identity):
            return
        wait = self._buckets(caller.user)[which].take(self._now())
        if wait:
            self._metrics.count("rate_limited", label=_LIMITS[which])
            raise RateLimited("too fast", retry_after=wait)

    def _buckets(self, user: UserId) -> tuple[TokenBucket, TokenBucket]:
        buckets = self._users.get(user)
        if buckets is None:
            messages, commands = self._rates
            buckets = self._users[user] = TokenBucket(*messages), TokenBucket(*commands)
            if len(self._users) > _MAX_USERS:
                self._users.popitem(last=False)
        self._users.move_to_end(user)
        return buckets
