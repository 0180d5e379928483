"""Whether there is still anybody at the other end."""

from enum import Enum, auto

from hubbub_client.clock import Moment

_LOOK_EVERY = 1.0  # seconds at most between two looks, so that a sleep of the machine is noticed
_IMPATIENCE = 5.0  # seconds without an answer that is due, before we ask, and then once more
_SLEPT = 5.0  # seconds by which the wall clock runs ahead of ours when the machine has slept


class Verdict(Enum):
    ALIVE = auto()
    ASK = auto()
    """Send a ping now."""
    DEAD = auto()


class Liveness:
    """Anything heard is a sign of life. The server pings at least every `ping_interval`, so a
    silence longer than that and `grace` is the end. All in seconds.

    Somebody who waits for an answer should not have to wait that long for the news: the link is
    asked, and dead if it does not answer that either.
    """

    def __init__(self, ping_interval: float, grace: float, now: Moment) -> None:
        self._limit = ping_interval + grace if ping_interval > 0 else float("inf")
        self._patience = min(_IMPATIENCE, self._limit / 2)
        self._asked_at: float | None = None
        self._looked = now

    def next_look(self) -> float:
        """Seconds until `look` should be called again."""
        return min(_LOOK_EVERY, self._patience / 2)

    def look(self, now: Moment, heard_at: float, waiting_since: Moment | None) -> Verdict:
        """`heard_at`: steady time of the last byte received; `waiting_since`: when the oldest
        frame was sent that is still to be answered."""
        slept, silent = self._slept(now), now.steady - heard_at
        if silent > self._limit:
            return Verdict.DEAD
        if self._asked_at is not None and heard_at < self._asked_at:
            asked_for = now.steady - self._asked_at
            return Verdict.DEAD if asked_for > self._patience else Verdict.ALIVE
        waited = 0.0 if waiting_since is None else now.steady - waiting_since.steady
        if slept or min(waited, silent) > self._patience:
            self._asked_at = now.steady
            return Verdict.ASK
        return Verdict.ALIVE

    def _slept(self, now: Moment) -> bool:
        """Where steady time stands still while the machine sleeps, nobody has been silent for
        long afterwards, and the connection may be long gone."""
        before, self._looked = self._looked, now
        return (now.wall - before.wall) - (now.steady - before.steady) > _SLEPT
