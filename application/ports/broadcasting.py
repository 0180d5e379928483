"""Port: numbering, log and delivery of messages, over all nodes."""

from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Protocol

from domain.errors import HubbubError
from domain.identifiers import RoomId
from domain.message import Draft, Message
from domain.options import Retention
from domain.position import Position
from domain.timeline import Page, PageRequest, Timeline


class Published(NamedTuple):
    """An accepted draft. `position` is None for an ephemeral one. `duplicate`: its key was used
    before with the same data, and this is where that message went. `replicated`: whether as many
    copies of it are kept as were asked for, None where none were."""

    position: Position | None
    message_id: str
    duplicate: bool = False
    replicated: bool | None = None


class Held(NamedTuple):
    """What a node keeps of rooms' logs in its memory; `bytes` of their messages."""

    rooms: int
    bytes: int


Receipt = Callable[[Published | HubbubError], None]


class BrokerListener(Protocol):
    """What a node hears from its broker. Calls are synchronous and must not publish."""

    __slots__ = ()

    @abstractmethod
    def deliver(self, message: Message) -> None:
        """One message of a subscribed room: numbered ones consecutively, none twice."""

    @abstractmethod
    def interrupted(self, room: RoomId) -> None:
        """The room's numbering could not be continued from what was delivered last, or so much
        was missed that it is better read than delivered.

        `Broker.timeline` of the room already shows the new truth, with all that somebody needs
        who has seen what was delivered; the next `deliver` continues from there.
        """


class Broker(Protocol):
    """One total order per room.

    Ordering: numbered messages of a room carry consecutive `seq` from 1 and are delivered on
    every subscribed node in that order, without a hole and without a duplicate. Where that cannot
    be kept, `interrupted` says so. Ephemeral messages are delivered at most once, unordered
    against numbered ones. Drafts submitted one after the other from one node are numbered in
    that order.
    """

    __slots__ = ()

    @abstractmethod
    def attach(self, listener: BrokerListener) -> None:
        """Name the node to deliver to. Called once, before anything else."""

    @abstractmethod
    def submit(self, draft: Draft, keep: Retention, receipt: Receipt) -> None:
        """Hand over a draft without waiting; `receipt` is called exactly once, now or later.

        A draft with a key is numbered once per (room, principal, key) while the key is
        remembered. Outcomes besides Published: KeyConflict (not done), Unavailable (not done),
        OutcomeUnknown (perhaps done: submit again with the same key).
        """

    @abstractmethod
    async def subscribe(self, room: RoomId, keep: Retention) -> None:
        """Begin to deliver a room to the listener. When this returns, `timeline(room)` is there
        and continuous with the next `deliver`. Raises Unavailable."""

    @abstractmethod
    def unsubscribe(self, room: RoomId) -> None:
        """Stop delivering a room."""

    @abstractmethod
    def timeline(self, room: RoomId) -> Timeline | None:
        """The part of a subscribed room's log that this node holds; read it without waiting.

        It holds the newest messages; `reach` adds to it what the log has before them.
        """

    @abstractmethod
    async def reach(self, room: RoomId, seq: int) -> None:
        """Make the timeline of a subscribed room hold all that the log still has after `seq`.

        It does when this returns, and for as long as the caller does not wait. `Timeline.lacks`
        names the seq, if there is one. Raises Unavailable.
        """

    @abstractmethod
    async def confirm(self, room: RoomId) -> None:
        """Make the timeline of a subscribed room show the log as it was at a moment after this was
        called, or later: others may be ahead of this node. Raises Unavailable.

        Before something is taken from a client that had it from another node.
        """

    @abstractmethod
    async def page(self, room: RoomId, request: PageRequest, keep: Retention) -> Page:
        """A page of history, from the whole log. Raises Unavailable."""

    @property
    @abstractmethod
    def healthy(self) -> bool:
        """Whether drafts get through and messages arrive, as far as this node knows."""

    @property
    @abstractmethod
    def notices_losses(self) -> bool:
        """Whether a store that lost its newest messages would be found out for sure."""

    @property
    @abstractmethod
    def held(self) -> Held:
        """How much there is of it now."""

    @abstractmethod
    async def run(self) -> None:
        """Keep delivering and expire what is old, until cancelled."""
