"""How often somebody may do something."""

PAUSE = 1.0  # seconds without a refusal after which a client counts as having stopped
PATIENCE = 10.0  # seconds of refusals without a pause after which a client ignores us

# Somebody who waits exactly as long as told must be let through, whatever the rounding.
_ROUNDING = 1e-6
_OFF = float("inf")


class TokenBucket:
    """Lets `rate` through a second, and up to `burst` at once after a rest. A rate of 0 is off.

    Kept as a single number, the time at which the bucket would be full again: a token is there
    as long as that is no further away than the refilling of `burst - 1` tokens.
    """

    __slots__ = ("_full_at", "_interval", "_slack")

    def __init__(self, rate: float, burst: float) -> None:
        """Raises ValueError for a rate below 0, or a burst below 1 with a rate above 0."""
        if not rate >= 0:
            raise ValueError(f"rate must be 0 (off) or above, not {rate}")
        if rate and not burst >= 1:
            raise ValueError(f"burst must be 1 or above, not {burst}")
        self._interval = 1 / rate if rate else 0.0
        self._slack = (burst - 1) * self._interval + _ROUNDING if rate else _OFF
        self._full_at = float("-inf")

    def take(self, now: float) -> float:
        """Take a token. Returns 0.0, or the seconds until there is one; then none was taken."""
        full_at = self._full_at
        if full_at < now:
            full_at = now
        elif (wait := full_at - now - self._slack) > 0:
            return wait + _ROUNDING
        self._full_at = full_at + self._interval
        return 0.0


class Throttle(TokenBucket):
    """A bucket that knows whether its refusals are heeded, if it is told of them.

    A streak begins at a refusal and lasts as long as the next one comes within PAUSE of the one
    before. A client that is merely too fast stops at a refusal now and then; one whose streak
    has reached PATIENCE ignores us. What is let through in between does not end a streak: a
    flood gets its rate through like anybody else.
    """

    __slots__ = ("_last", "_since")

    def __init__(self, rate: float, burst: float) -> None:
        """As TokenBucket."""
        super().__init__(rate, burst)
        self._last = float("-inf")
        self._since = float("-inf")

    def refused(self, now: float) -> bool:
        """Note a refusal. Whether refusals are being ignored."""
        if now - self._last > PAUSE:
            self._since = now
        self._last = now
        return now - self._since >= PATIENCE
