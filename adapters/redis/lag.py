"""How long messages take from their publish to this node."""

from collections.abc import Callable

from application.ports.metrics import Metrics
from application.sampling import Sampling


class Lag:
    """Compares the time written into a message with the one here. Between two machines it is off
    by as much as their clocks are."""

    def __init__(self, metrics: Metrics, wall: Callable[[], float]) -> None:
        self._metrics = metrics
        self._wall = wall
        self._sampling = Sampling()

    def note(self, now: float, ts: float) -> None:
        """A message published at `ts` (unix seconds) has come. `now` is monotonic."""
        if self._sampling.due(now):
            self._metrics.observe("broker_lag_seconds", max(0.0, self._wall() - ts))
