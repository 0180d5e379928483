"""Port: counters, gauges and histograms somebody may watch."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

NOBODY: Mapping[str, bytes] = MappingProxyType({})


class Metrics(Protocol):
    """Counts events. Cheap enough for once per message; never called once per recipient.

    Names are those of `application/measures.py`, which says what each is and what labels it has.
    Every method raises ValueError for a name that is not there, or not of that kind.
    """

    __slots__ = ()

    @abstractmethod
    def count(self, name: str, amount: float = 1, label: str = "") -> None:
        """Add to a counter. `label` is the value of its label, if it has one."""

    @abstractmethod
    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Name a value to be read whenever somebody looks."""

    @abstractmethod
    def observe(self, name: str, seconds: float) -> None:
        """Note in a histogram how long something took."""

    @abstractmethod
    def read(self, *names: str) -> Mapping[str, float]:
        """What there is now, by name: counters over all their labels, and gauges. Only of those
        that are named, since a gauge may be dear to read."""

    @abstractmethod
    def render(self, others: Mapping[str, bytes] = NOBODY) -> tuple[bytes, str]:
        """Everything known, and its content type. With what `others` rendered, by node, every
        value says which node it is of."""
