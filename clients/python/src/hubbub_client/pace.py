"""How fast we may send, so that the server has nothing to refuse."""

_ROUNDING = 1e-6  # seconds
_SHARE = 0.8  # of the server's burst: what is sent evenly may arrive in clumps


class Pace:
    """Lets `rate` through a second, and a burst after a rest. A rate of 0 is no limit."""

    def __init__(self, rate: float = 0.0, burst: float = 1.0) -> None:
        self._interval = 1 / rate if rate > 0 else 0.0
        self._slack = (max(1.0, burst * _SHARE) - 1) * self._interval
        self._full_at = float("-inf")
        self._held_until = float("-inf")

    def wait(self, now: float, ahead: int = 0) -> float:
        """Seconds until something may be sent behind so many others; 0.0 for now."""
        full_at = max(self._full_at, now) + ahead * self._interval
        wait = max(full_at - self._slack, self._held_until) - now
        return wait if wait > _ROUNDING else 0.0

    def sent(self, now: float) -> None:
        self._full_at = max(self._full_at, now) + self._interval

    def hold(self, until: float) -> None:
        """The server said that we are too fast all the same."""
        self._held_until = max(self._held_until, until)
