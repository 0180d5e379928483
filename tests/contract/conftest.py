"""One harness per adapter: what a contract test needs and a port does not offer.

A further adapter is one more harness, and one more name in the table at the end of its part.
"""

import asyncio
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from typing import Any, ClassVar
from unittest.mock import patch

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from adapters.memory.broker import MemoryBroker
from adapters.memory.presence import MemoryPresence
from adapters.prometheus_metrics import PrometheusMetrics
from adapters.redis import feeds as redis_feeds
from adapters.redis.broker import RedisBroker
from adapters.redis.channels import Channels
from adapters.redis.keyspace import Keyspace
from adapters.redis.presence import RedisPresence
from adapters.redis.store import Store
from adapters.transport import asgi, lane
from adapters.transport.asgi import AsgiTransport
from adapters.transport.lane import LaneTransport, Turn
from adapters.transport.uvicorn_http import GuardedHttpProtocol
from adapters.transport.uvicorn_ws import EXTENSION, LaneProtocol
from application.framing import binary_frame, text_frame
from application.ports.broadcasting import Broker, BrokerListener, Published
from application.ports.presence import Presence, PresenceListener
from application.ports.transport import Transport, TransportListener
from domain.errors import HubbubError
from domain.identifiers import RoomId, SessionId, UserId
from domain.member import Attendance, PresenceChange
from domain.message import Draft, Message
from domain.options import Retention
from tests.peer import DEADLINE, until
from tests.redis_server import RedisServer
from tests.redis_user import as_hubbub
from tests.running import running

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

    async def until(self, condition: Callable[[], bool]) -> None:
        await self._notebook.until(condition)


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

    async def told_of_an_interruption(self, room: RoomId, event: Awaitable[None]) -> None:
        """Let something happen, and wait until the listener was told that it interrupts a room."""
        before = self.notes.interruptions(room)
        await event
        await self.notes.until(lambda: self.notes.interruptions(room) > before)

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


class RedisBrokers(BrokerHarness):
    """Each node has its connections. Time passes here and in the lifetimes that Redis counts."""

    shared = True

    def __init__(self, server: RedisServer) -> None:
        super().__init__()
        # Nothing is on its way here when nodes compare themselves with Redis.
        self._running.enter_context(patch.object(redis_feeds, "GRACE", 0.0))
        self._redis = self._running.enter_context(server.client())
        self._redis.flushall()
        self._url = as_hubbub(server.url)
        self._clock = Clock()
        self._parts: list[tuple[Store, Channels]] = []
        self._nodes: list[tuple[BrokerNode, RedisBroker]] = []

    async def node(self) -> BrokerNode:
        node = await super().node()
        assert isinstance(node.broker, RedisBroker)
        self._nodes.append((node, node.broker))
        store, channels = self._parts[-1]
        await self._running.enter_async_context(running(store, channels))
        await until(lambda: store.healthy and channels.healthy)
        return node

    def build(self) -> Broker:
        store = Store(self._url)
        channels = Channels(store)
        self._parts.append((store, channels))
        wall = self._clock_on_the_wall
        return RedisBroker(store, channels, PrometheusMetrics(), clock=self._clock, wall=wall)

    def _clock_on_the_wall(self) -> float:
        return 1.7e9 + self._clock.now

    async def advance(self, seconds: float) -> None:
        self._clock.now += seconds
        for key in self._redis.scan_iter():
            left = self._redis.pttl(key)
            if left > 0:
                self._redis.pexpire(key, left - round(seconds * 1000))
        for _, broker in self._nodes:
            await broker.check()

    async def lose_log(self, room: RoomId) -> None:
        stem = Keyspace().room(room).stem
        for key in self._redis.scan_iter():
            if key.startswith(stem):
                self._redis.delete(key)
        for node, broker in self._nodes:
            if broker.timeline(room) is not None:
                await node.told_of_an_interruption(room, broker.check())


BROKERS: dict[str, type[BrokerHarness]] = {"memory": MemoryBrokers, "redis": RedisBrokers}


def brokers_over(backend: str, request: pytest.FixtureRequest) -> Callable[[], BrokerHarness]:
    """Makes harnesses, each over a backend with nothing in it."""
    kind = BROKERS[backend]
    if kind is not RedisBrokers:
        return kind
    server = request.getfixturevalue("redis_server")
    return lambda: RedisBrokers(server)


@pytest.fixture(params=BROKERS)
async def brokers(request: pytest.FixtureRequest) -> AsyncIterator[BrokerHarness]:
    async with brokers_over(request.param, request)() as harness:
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


class RedisPresences(PresenceHarness):
    """Each node has its connections. Time passes here and in the graces that Redis counts."""

    shared = True

    def __init__(self, server: RedisServer) -> None:
        super().__init__()
        self._redis = self._running.enter_context(server.client())
        self._redis.flushall()
        self._url = as_hubbub(server.url)
        self._clock = Clock()
        self._presences: list[RedisPresence] = []
        self._parts: list[tuple[Store, Channels]] = []

    async def node(self) -> PresenceNode:
        node = await super().node()
        store, channels = self._parts[-1]
        await self._running.enter_async_context(running(store, channels))
        await until(lambda: store.healthy and channels.healthy)
        return node

    def build(self) -> Presence:
        store = Store(self._url)
        channels = Channels(store)
        self._parts.append((store, channels))
        presence = RedisPresence(
            store, channels, PrometheusMetrics(), grace=GRACE, clock=self._clock
        )
        self._presences.append(presence)
        return presence

    async def settle(self) -> None:
        await until(lambda: all(self._has_heard_all(presence) for presence in self._presences))

    async def advance(self, seconds: float) -> None:
        self._clock.now += seconds
        for key in self._redis.scan_iter("*:grace"):
            for user in self._redis.zrange(key, 0, -1):
                self._redis.zincrby(key, -round(seconds * 1000), user)
        for presence in self._presences:
            presence.sweep()
        await self.settle()

    def _has_heard_all(self, presence: RedisPresence) -> bool:
        if not presence.settled:
            return False
        for room in presence.rooms:
            revision = self._redis.hget(room.keys[0], "revision")
            if room.replica.revision != int(revision or 0):
                return False
        return True


PRESENCES: dict[str, type[PresenceHarness]] = {"memory": MemoryPresences, "redis": RedisPresences}


@pytest.fixture(params=PRESENCES)
async def presences(request: pytest.FixtureRequest) -> AsyncIterator[PresenceHarness]:
    kind = PRESENCES[request.param]
    if kind is RedisPresences:
        harness: PresenceHarness = RedisPresences(request.getfixturevalue("redis_server"))
    else:
        harness = kind()
    async with harness:
        yield harness


@pytest.fixture
async def attended(presences: PresenceHarness) -> PresenceNode:
    """The only node, or one of several."""
    return await presences.node()


@pytest.fixture
async def two_attended(presences: PresenceHarness) -> tuple[PresenceNode, PresenceNode]:
    if not presences.shared:
        pytest.skip("this backend lives in one process")
    return await presences.node(), await presences.node()


# Transports


class Told(TransportListener):
    """What a transport told, and proof that it did not do so from inside a push."""

    def __init__(self) -> None:
        self.overflows = 0
        self.drains = 0
        self.pushing = False
        self._notebook = Notebook()

    def overflowed(self) -> None:
        assert not self.pushing
        self.overflows += 1
        self._notebook.note()

    def drained(self) -> None:
        assert not self.pushing
        self.drains += 1
        self._notebook.note()

    async def until(self, condition: Callable[[], bool]) -> None:
        await self._notebook.until(condition)


class TransportHarness(ABC):
    """One transport and the peer at the other end, who reads unless told otherwise."""

    def __init__(self, limit: int = 256 * 1024) -> None:
        self.limit = limit
        self.told = Told()
        self.transport: Transport
        self.running: asyncio.Task[int]
        self.received: list[str | bytes] = []  # by the transport, from the peer
        self.got: list[str | bytes] = []  # by the peer, from the transport
        self.closed: tuple[int, str] | None = None  # the close frame that the peer got
        self._notebook = Notebook()

    async def __aenter__(self) -> "TransportHarness":
        await self.open()
        self.transport.attach(self.told)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shut()

    def run(self) -> None:
        """Begin to carry frames."""
        self.running = asyncio.create_task(self.transport.run(self.received.append))

    async def ended(self) -> int:
        """Wait for the end of `run` and return what it returns."""
        async with asyncio.timeout(DEADLINE):
            return await asyncio.shield(self.running)

    def push(self, *messages: str | bytes) -> None:
        """Push each message as one frame."""
        for message in messages:
            self.push_frames(framed(message))

    def push_frames(self, frames: bytes) -> None:
        self.told.pushing = True
        self.transport.push(frames)
        self.told.pushing = False

    async def peer_got(self, count: int) -> list[str | bytes]:
        """Wait until the peer got that many messages in all, and return those there are."""
        await self._notebook.until(lambda: len(self.got) >= count)
        return self.got

    async def peer_was_closed(self) -> tuple[int, str]:
        """Wait until the peer got a close frame, and return its code and reason."""
        await self._notebook.until(lambda: self.closed is not None)
        assert self.closed is not None
        return self.closed

    async def transport_received(self, count: int) -> list[str | bytes]:
        await until(lambda: len(self.received) >= count)
        return self.received

    async def clog(self) -> None:
        """Have the peer stop reading, and push until something is left over; it is less than a
        quarter of the limit."""
        self.block()
        async with asyncio.timeout(DEADLINE):
            while not self.transport.backlog:
                self.push("clog" * 4_000)
                await some_turns()
        assert self.transport.backlog < self.limit // 4

    @abstractmethod
    async def open(self) -> None:
        """Set up `transport` and the peer."""

    @abstractmethod
    async def shut(self) -> None:
        """End whatever still runs."""

    @abstractmethod
    def block(self) -> None:
        """The peer stops reading."""

    @abstractmethod
    def unblock(self) -> None:
        """The peer reads on."""

    @abstractmethod
    async def say(self, message: str | bytes) -> None:
        """The peer sends a message."""

    @abstractmethod
    async def hang_up(self, code: int | None) -> None:
        """The peer sends a close frame, without a code for None."""

    @abstractmethod
    def vanish(self) -> None:
        """The peer is gone without a word."""

    @abstractmethod
    def hurry(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        """Shorten the deadline of a close."""


async def some_turns() -> None:
    """Let what is under way in this process get ahead."""
    for _ in range(10):
        await asyncio.sleep(0)


def framed(message: str | bytes) -> bytes:
    return text_frame(message.encode()) if isinstance(message, str) else binary_frame(message)


class AsgiHarness(TransportHarness):
    """A server reduced to the two functions of ASGI."""

    def __init__(self, limit: int = 256 * 1024) -> None:
        super().__init__(limit)
        self._events: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._reading = asyncio.Event()
        self._reading.set()
        self._gone = False
        self.failure: Exception | None = None  # what `send` raises from now on
        self.sends = 0  # that were begun

    async def open(self) -> None:
        self.transport = AsgiTransport(self._events.get, self._send, self.limit)

    async def shut(self) -> None:
        if hasattr(self, "running"):
            self.running.cancel()
            await asyncio.wait({self.running})

    async def _send(self, event: MutableMapping[str, Any]) -> None:
        self.sends += 1
        await self._reading.wait()
        if self.failure is not None:
            raise self.failure
        assert self.closed is None, "sent after the close"
        if event["type"] == "websocket.close":
            self.closed = (event["code"], event["reason"])
        else:
            assert event["type"] == "websocket.send"
            self.got.append(event["text"] if "text" in event else event["bytes"])
        self._notebook.note()

    def block(self) -> None:
        self._reading.clear()

    def unblock(self) -> None:
        self._reading.set()

    async def say(self, message: str | bytes) -> None:
        kind = "text" if isinstance(message, str) else "bytes"
        self._events.put_nowait({"type": "websocket.receive", kind: message})

    async def hang_up(self, code: int | None) -> None:
        self._end(1005 if code is None else code)

    def vanish(self) -> None:
        self._end(1006)

    def _end(self, code: int) -> None:
        self._events.put_nowait({"type": "websocket.disconnect", "code": code})
        self.failure = ConnectionResetError()
        self._reading.set()

    def hurry(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        monkeypatch.setattr(asgi, "CLOSE_DEADLINE", seconds)


class LaneHarness(TransportHarness):
    """The real protocol classes on a real socket, with small kernel buffers."""

    async def open(self) -> None:
        self._over = asyncio.Event()
        self._server = await self._listen()
        port = self._server.sockets[0].getsockname()[1]
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        await self._loop.sock_connect(self._socket, ("127.0.0.1", port))
        self._peer = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}/"))
        self._peer.send_request(self._peer.connect())
        await self._write()
        self.unblock()
        await until(lambda: hasattr(self, "transport"))

    async def _listen(self) -> asyncio.Server:
        config = Config(
            self._app,
            interface="asgi3",
            http=GuardedHttpProtocol,
            ws=LaneProtocol,
            ws_ping_interval=None,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
        )
        config.load()
        self._state = ServerState()
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        return await asyncio.get_running_loop().create_server(
            lambda: GuardedHttpProtocol(config=config, server_state=self._state, app_state={}),
            sock=listening,
        )

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept", "subprotocol": None})
        self.transport = LaneTransport(scope["extensions"][EXTENSION]["lane"], Turn(), self.limit)
        await self._over.wait()

    async def shut(self) -> None:
        self._over.set()
        self.vanish()
        if hasattr(self, "running"):
            await asyncio.wait({self.running}, timeout=DEADLINE)
            assert self.running.done()
        await until(lambda: not self._state.connections and not self._state.tasks)
        self._server.close()
        await self._server.wait_closed()

    def block(self) -> None:
        self._loop.remove_reader(self._socket)

    def unblock(self) -> None:
        self._loop.add_reader(self._socket, self._read)

    def _read(self) -> None:
        try:
            data = self._socket.recv(65_536)
        except OSError:
            data = b""
        if not data:
            self.block()
            return
        self._peer.receive_data(data)
        for event in self._peer.events_received():
            if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self.got.append(bytes(event.data).decode())
            elif isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                self.got.append(bytes(event.data))
        if self._peer.close_rcvd is not None:
            self.closed = (self._peer.close_rcvd.code, self._peer.close_rcvd.reason)
        for part in self._peer.data_to_send():
            self._socket.send(part)
        self._notebook.note()

    async def _write(self) -> None:
        for part in self._peer.data_to_send():
            await self._loop.sock_sendall(self._socket, part)

    async def say(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self._peer.send_text(message.encode())
        else:
            self._peer.send_binary(message)
        await self._write()

    async def hang_up(self, code: int | None) -> None:
        self._peer.send_close(code)
        await self._write()

    def vanish(self) -> None:
        if self._socket.fileno() < 0:
            return
        self.block()
        reset_at_once = struct.pack("ii", 1, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset_at_once)
        self._socket.close()

    def hurry(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        monkeypatch.setattr(lane, "CLOSE_DEADLINE", seconds)


TRANSPORTS: dict[str, type[TransportHarness]] = {"asgi": AsgiHarness, "lane": LaneHarness}


@pytest.fixture(params=TRANSPORTS)
async def line(request: pytest.FixtureRequest) -> AsyncIterator[TransportHarness]:
    async with TRANSPORTS[request.param]() as harness:
        yield harness
