"""Port: counters and gauges somebody may watch."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

NOBODY: Mapping[str, bytes] = MappingProxyType({})


class Metrics(Protocol):
    """Counts events. Cheap enough for once per message; never called once per recipient.

    Names are Prometheus style without prefix (`messages_published`); `label` is the value of the
    one label a counter may have, from a small fixed set: never a room or a user.
    """

    __slots__ = ()

    @abstractmethod
    def count(self, name: str, amount: float = 1, label: str = "") -> None:
        """Add to a counter."""

    @abstractmethod
    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Name a value to be read whenever somebody looks."""

    @abstractmethod
    def read(self) -> Mapping[str, float]:
        """What there is now, by name: counters over all their labels, and gauges."""

    @abstractmethod
    def render(self, others: Mapping[str, bytes] = NOBODY) -> tuple[bytes, str]:
        """Everything known, and its content type. With what `others` rendered, by node, every
        value says which node it is of."""
