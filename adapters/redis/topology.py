"""Which servers there are, and which of them is asked for a key."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from adapters.redis.addresses import Address
from adapters.redis.shard import Shard


class Owned(NamedTuple):
    """The master of the slots from `first` up to and with `last`."""

    first: int
    last: int
    address: Address


class Discovery(Protocol):
    """Finds the masters. Without slots there is one, of slot 0."""

    __slots__ = ()

    sharded: bool
    slots: int
    period: float | None  # seconds until it is worth to look again, when nothing is wrong

    @abstractmethod
    def slot(self, key: str) -> int: ...

    @abstractmethod
    async def find(self, known: Sequence[Shard]) -> list[Owned]:
        """Ask, of those known or those in the URL. Raises LinkLost."""

    @abstractmethod
    def close(self) -> None:
        """Let go of connections."""


class SingleServer(Discovery):
    """There is nothing to find."""

    sharded = False
    slots = 1
    period = None

    def __init__(self, address: Address) -> None:
        self._address = address

    def slot(self, key: str) -> int:
        return 0

    async def find(self, known: Sequence[Shard]) -> list[Owned]:
        return [Owned(0, 0, self._address)]

    def close(self) -> None:
        pass
