"""Port: orders that every node carries out."""

from abc import abstractmethod
from typing import Protocol

from domain.orders import Order


class ControlListener(Protocol):
    """What a node does with an order. Synchronous; must not give orders."""

    __slots__ = ()

    @abstractmethod
    def ordered(self, order: Order, given_at: float | None) -> None:
        """Carry it out. `given_at` (unix seconds) is told with an order that was missed: sessions
        opened after it are not meant."""


class Control(Protocol):
    """Takes an order to all nodes within a second, and to those that are away or begin later once
    they are there."""

    __slots__ = ()

    @abstractmethod
    def attach(self, listener: ControlListener) -> None:
        """Name the node to tell. Called once, before anything else."""

    @abstractmethod
    async def give(self, order: Order) -> None:
        """Returns once the order is on record. Giving one twice is harmless. Raises Unavailable
        when it is not on record, OutcomeUnknown when that is not known."""

    @abstractmethod
    async def run(self) -> None:
        """Listen for orders, until cancelled."""
