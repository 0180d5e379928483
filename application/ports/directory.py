"""Port: which rooms there are, over all nodes."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

from domain.identifiers import RoomId


class Directory(Protocol):
    """The names of all rooms that are live on some node.

    What happens on this node is known here at once, and on the others within a second, or as soon
    as the store can be reached. The rooms of a node that died are gone with it, within 20 seconds.
    """

    __slots__ = ()

    @abstractmethod
    def opened(self, room: RoomId) -> None:
        """A room has become live on this node. Saying it again is harmless."""

    @abstractmethod
    def closed(self, room: RoomId) -> None:
        """It is not live here any more."""

    @abstractmethod
    async def page(self, prefix: str, after: str, limit: int) -> Sequence[RoomId]:
        """At most `limit` names, in order, of those that begin with `prefix` and come after
        `after`; fewer only if there are no more. Raises Unavailable."""

    @abstractmethod
    async def run(self) -> None:
        """Tell other nodes, until cancelled."""
