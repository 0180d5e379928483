"""Finding out that a peer is gone without having said so."""

from enum import StrEnum

_NEVER = float("inf")
_MIN_FRACTION = 0.5


class Verdict(StrEnum):
    """WAIT: nothing to do. PING: send one now. DEAD: no sign of life in time, cut the peer off."""

    WAIT = "wait"
    PING = "ping"
    DEAD = "dead"


class Heartbeat:
    """When to ping one peer, and when its silence has lasted too long.

    A ping is due every `interval` seconds, whatever else is going on; from then on the peer has
    `timeout` seconds for a sign of life. What counts as one is the caller's choice: usually
    anything at all. Look at `next_at`, tell what was heard by `tick`, do what it says.
    """

    __slots__ = ("_answer_at", "_dead", "_interval", "_ping_at", "_timeout")

    def __init__(self, interval: float, timeout: float, now: float, fraction: float) -> None:
        """An interval of 0 is off. `fraction`, drawn at random from 0.5 to 1, shortens the way to
        the first ping, so that peers who came together are not pinged together ever after.

        Raises ValueError for an interval below 0, a timeout not above 0, another fraction.
        """
        if not interval >= 0:
            raise ValueError(f"interval must be 0 (off) or above, not {interval}")
        if interval and not timeout > 0:
            raise ValueError(f"timeout must be above 0, not {timeout}")
        if not _MIN_FRACTION <= fraction <= 1:
            raise ValueError(f"fraction must be from {_MIN_FRACTION} to 1, not {fraction}")
        self._interval = interval
        self._timeout = timeout
        self._ping_at = now + interval * fraction if interval else _NEVER
        self._answer_at = _NEVER
        self._dead = False

    @property
    def next_at(self) -> float:
        """When to call `tick` next; infinity for never again."""
        return _NEVER if self._dead else min(self._ping_at, self._answer_at)

    def tick(self, now: float, heard: bool, can_answer: bool = True) -> Verdict:
        """Look at the peer. Too early is harmless, late shifts what follows; DEAD is final.

        `heard`: there was a sign of life since the last tick. `can_answer` is false where no
        answer can be expected, as when the ping could not be sent: silence means nothing then.
        """
        if self._dead:
            return Verdict.DEAD
        if heard or not can_answer:
            self._answer_at = _NEVER
        elif now >= self._answer_at:
            self._dead = True
            return Verdict.DEAD
        if now < self._ping_at:
            return Verdict.WAIT
        self._ping_at = now + self._interval
        if can_answer:
            # With a timeout above the interval an earlier ping may be unanswered: it counts.
            self._answer_at = min(self._answer_at, now + self._timeout)
        return Verdict.PING
