"""One harness per adapter: what a contract test needs and a port does not offer.

A further adapter is one more harness, and one more name in the table at the end of its part.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import ClassVar

import pytest

from adapters.memory.broker import MemoryBroker
from adapters.memory.presence import MemoryPresence
from application.ports.broadcasting import Broker, BrokerListener, Published
from application.ports.presence import Presence, PresenceListener
from domain.errors import HubbubError
from domain.identifiers import RoomId, SessionId, UserId
from domain.member import Attendance, PresenceChange
from domain.message import Draft, Message
from domain.options import Retention

DEADLINE = 5.0  # seconds for whatever a test waits for
CHAT = RoomId("chat")
KEEP = Retention(size=1000, ttl=600.0)
GRACE = 10.0


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Notebook:
    """Writes down what a listener hears, and wakes who waits for it."""

    def __init__(self) -> None:
        self._written = asyncio.Event()

    def note(self) -> None:
        self._written.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what was heard is as it should be. Raises TimeoutError."""
        async with asyncio.timeout(DEADLINE):
            while not condition():
                self._written.clear()
                await self._written.wait()


# Brokers


class Interruption:
    """In the notes, the place at which `interrupted` was called."""


class BrokerNotes(BrokerListener):
    """What one node heard, by room. `on_interrupted` is called with the room, from inside."""

    def __init__(self) -> None:
        self.events: dict[RoomId, list[Message | Interruption]] = {}
        self.on_interrupted: Callable[[RoomId], None] = lambda room: None
        self._notebook = Notebook()

    def deliver(self, message: Message) -> None:
        self.events.setdefault(message.room, []).append(message)
        self._notebook.note()

    def interrupted(self, room: RoomId) -> None:
        self.events.setdefault(room, []).append(Interruption())
        self.on_interrupted(room)
        self._notebook.note()

    def messages(self, room: RoomId = CHAT) -> list[Message]:
        return [event for event in self.events.get(room, []) if isinstance(event, Message)]

    def interruptions(self, room: RoomId = CHAT) -> int:
        return sum(isinstance(event, Interruption) for event in self.events.get(room, []))

    def seqs(self, room: RoomId = CHAT) -> list[int]:
        return [message.seq for message in self.messages(room)]

    async def heard(self, count: int, room: RoomId = CHAT) -> list[Message]:
        """Wait for that many messages in all, and return those there are."""
        await self._notebook.until(lambda: len(self.messages(room)) >= count)
        return self.messages(room)


class BrokerNode:
    """A broker and what its listener heard."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.notes = BrokerNotes()
        broker.attach(self.notes)

    def submit(self, data: str, room: RoomId = CHAT, keep: Retention = KEEP) -> "Receipts":
        """Submit a draft of ann's without a key."""
        return self.submit_draft(draft(data, room), keep)

    def submit_draft(self, what: Draft, keep: Retention = KEEP) -> "Receipts":
        receipts = Receipts()
        self.broker.submit(what, keep, receipts.take)
        return receipts

    async def publish(self, data: str, room: RoomId = CHAT, keep: Retention = KEEP) -> Published:
        """Submit such a draft and wait until it is numbered."""
        return await self.submit(data, room, keep).published()


class Receipts:
    """What a receipt was called with, however often."""

    def __init__(self) -> None:
        self.all: list[Published | HubbubError] = []
        self._notebook = Notebook()

    def take(self, outcome: Published | HubbubError) -> None:
        self.all.append(outcome)
        self._notebook.note()

    async def outcome(self) -> Published | HubbubError:
        await self._notebook.until(lambda: bool(self.all))
        return self.all[0]

    async def published(self) -> Published:
        outcome = await self.outcome()
        assert isinstance(outcome, Published), outcome
        return outcome


def draft(
    data: str,
    room: RoomId = CHAT,
    *,
    key: str | None = None,
    principal: str = "user:ann",
    ephemeral: bool = False,
    skip: SessionId | None = None,
) -> Draft:
    """A draft of ann's; `data` is put in quotes."""
    scope = "" if key is None else principal
    return Draft(room, UserId("ann"), f'"{data}"'.encode(), key, scope, ephemeral, skip)


class BrokerHarness(ABC):
    """Brokers over one backend."""

    shared: ClassVar[bool]  # whether several nodes can meet at one backend

    def __init__(self) -> None:
        self._running = AsyncExitStack()

    async def __aenter__(self) -> "BrokerHarness":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()

    async def node(self) -> BrokerNode:
        """A node that runs until the end of the test. A second one needs `shared`."""
        node = BrokerNode(self.build())
        task = asyncio.create_task(node.broker.run())

        async def stop() -> None:
            assert not task.done(), "the broker stopped by itself"
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()

        self._running.push_async_callback(stop)
        return node

    @abstractmethod
    def build(self) -> Broker:
        """A broker that nobody has attached to yet."""

    @abstractmethod
    async def advance(self, seconds: float) -> None:
        """Let time pass in the backend, with all that it brings about."""

    @abstractmethod
    async def lose_log(self, room: RoomId) -> None:
        """Make the backend forget a room, and the nodes find out."""


class MemoryBrokers(BrokerHarness):
    shared = False

    def __init__(self) -> None:
        super().__init__()
        self._clock = Clock()
        self._broker: MemoryBroker | None = None

    def build(self) -> Broker:
        assert self._broker is None, "one process, one node"
        self._broker = MemoryBroker(self._clock, wall=lambda: 1.7e9 + self._clock.now)
        return self._broker

    async def advance(self, seconds: float) -> None:
        self._clock.now += seconds
        assert self._broker is not None
        self._broker.sweep()

    async def lose_log(self, room: RoomId) -> None:
        assert self._broker is not None
        self._broker.forget(room)


BROKERS: dict[str, type[BrokerHarness]] = {"memory": MemoryBrokers}


@pytest.fixture(params=BROKERS)
async def brokers(request: pytest.FixtureRequest) -> AsyncIterator[BrokerHarness]:
    async with BROKERS[request.param]() as harness:
        yield harness


@pytest.fixture
async def node(brokers: BrokerHarness) -> BrokerNode:
    """The only node, or one of several."""
    return await brokers.node()


@pytest.fixture
async def two_nodes(brokers: BrokerHarness) -> tuple[BrokerNode, BrokerNode]:
    if not brokers.shared:
        pytest.skip("this backend lives in one process")
    return await brokers.node(), await brokers.node()


# Presence


class PresenceNotes(PresenceListener):
    """What one node heard, in order."""

    def __init__(self) -> None:
        self.changes: list[PresenceChange] = []
        self._notebook = Notebook()

    def presence_changed(self, change: PresenceChange) -> None:
        self.changes.append(change)
        self._notebook.note()

    def told(self, room: RoomId = CHAT) -> list[tuple[str, str]]:
        """Kind and user of all changes of a room."""
        return [(change.kind, change.user) for change in self.changes if change.room == room]

    async def heard(self, count: int, room: RoomId = CHAT) -> list[tuple[str, str]]:
        """Wait for that many changes in all, and return those there are."""
        await self._notebook.until(lambda: len(self.told(room)) >= count)
        return self.told(room)


class PresenceNode:
    """A presence, what its listener heard, and short forms of its calls."""

    def __init__(self, presence: Presence, settle: Callable[[], Awaitable[None]]) -> None:
        self.presence = presence
        self.notes = PresenceNotes()
        self._settle = settle
        presence.attach(self.notes)

    async def enter(
        self,
        user: str,
        session: str = "1",
        room: RoomId = CHAT,
        *,
        info: bytes = b"null",
        max_members: int | None = None,
        list_limit: int = 200,
    ) -> Attendance:
        """Sessions are named after their user."""
        return await self.presence.enter(
            room,
            SessionId(f"{user}-{session}"),
            UserId(user),
            info,
            max_members=max_members,
            list_limit=list_limit,
        )

    async def leave(
        self, user: str, session: str = "1", room: RoomId = CHAT, *, clean: bool = True
    ) -> None:
        """Leave, and wait until that has taken effect."""
        self.presence.leave(room, SessionId(f"{user}-{session}"), UserId(user), clean=clean)
        await self._settle()


class PresenceHarness(ABC):
    """Presences over one backend, with a grace of GRACE."""

    shared: ClassVar[bool]  # whether several nodes can meet at one backend

    def __init__(self) -> None:
        self._running = AsyncExitStack()

    async def __aenter__(self) -> "PresenceHarness":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()

    async def node(self) -> PresenceNode:
        """A node that runs until the end of the test. A second one needs `shared`."""
        node = PresenceNode(self.build(), self.settle)
        task = asyncio.create_task(node.presence.run())

        async def stop() -> None:
            assert not task.done(), "the presence stopped by itself"
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()

        self._running.push_async_callback(stop)
        return node

    @abstractmethod
    def build(self) -> Presence:
        """A presence that nobody has attached to yet."""

    @abstractmethod
    async def settle(self) -> None:
        """Wait until every leave so far has taken effect."""

    @abstractmethod
    async def advance(self, seconds: float) -> None:
        """Let time pass, with all that it brings about."""


class MemoryPresences(PresenceHarness):
    shared = False

    def __init__(self) -> None:
        super().__init__()
        self._clock = Clock()
        self._presence: MemoryPresence | None = None

    def build(self) -> Presence:
        assert self._presence is None, "one process, one node"
        self._presence = MemoryPresence(GRACE, self._clock)
        return self._presence

    async def settle(self) -> None:
        """They do at once."""

    async def advance(self, seconds: float) -> None:
        self._clock.now += seconds
        assert self._presence is not None
        self._presence.sweep()


PRESENCES: dict[str, type[PresenceHarness]] = {"memory": MemoryPresences}


@pytest.fixture(params=PRESENCES)
async def presences(request: pytest.FixtureRequest) -> AsyncIterator[PresenceHarness]:
    async with PRESENCES[request.param]() as harness:
        yield harness


@pytest.fixture
async def attended(presences: PresenceHarness) -> PresenceNode:
    """The only node, or one of several."""
    return await presences.node()
