"""What happens too often to be measured each time."""


class Sampling:
    """Lets one measurement through every `interval` seconds at most, by when they begin, so that
    what measuring costs is bounded."""

    __slots__ = ("_interval", "_next")

    def __init__(self, interval: float = 0.001) -> None:
        self._interval = interval
        self._next = float("-inf")

    def due(self, now: float) -> bool:
        """Whether to measure what begins now. `now` is in seconds, of a clock that never goes
        back."""
        if now < self._next:
            return False
        self._next = now + self._interval
        return True
