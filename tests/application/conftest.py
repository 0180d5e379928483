"""One node on the memory adapters, in a time of its own, and clients that talk to it."""

import asyncio
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from selectors import DefaultSelector, SelectorKey
from typing import Any

import pytest

from adapters.memory.broker import MemoryBroker
from adapters.memory.control import MemoryControl
from adapters.memory.directory import MemoryDirectory
from adapters.memory.presence import MemoryPresence
from adapters.prometheus_metrics import PrometheusMetrics
from adapters.tokens.authenticator import JwtAuthenticator
from application.carry_out import CarryOut
from application.close_session import CloseSession
from application.hub import Hub
from application.join_room import Joined, JoinRoom
from application.leave_room import LeaveRoom
from application.list_members import ListMembers
from application.list_rooms import ListRooms
from application.node import Node
from application.open_session import OpenSession
from application.ports.broadcasting import BrokerListener, Published
from application.ports.encoding import Dialect
from application.publish_message import PublishMessage
from application.read_history import ReadHistory
from application.requests import RequestRates
from application.session import Session, SessionLimits
from domain.errors import HubbubError
from domain.exclusions import Exclusions
from domain.grants import OPEN_GRANTS, Grants, Identity
from domain.identifiers import RoomId, SessionId, UserId
from domain.member import Attendance, Snapshot
from domain.message import Message
from domain.options import Retention, RoomCatalog, RoomOptions
from domain.position import Position
from domain.timeline import PageRequest, Timeline
from entrypoints.wire import replies
from entrypoints.wire.v1 import V1
from tests.recording_transport import Frame, RecordingTransport


class LeapingLoop(asyncio.SelectorEventLoop):
    """Its time stands still while there is something to do, and then leaps to the next timer."""

    def __init__(self) -> None:
        self._now = 1000.0
        super().__init__(_LeapingSelector(self.stand_still))

    def time(self) -> float:
        return self._now

    def timers(self) -> int:
        """How many are set."""
        scheduled: list[asyncio.TimerHandle] = getattr(self, "_scheduled")  # noqa: B009
        return sum(not timer.cancelled() for timer in scheduled)

    def stand_still(self, seconds: float) -> None:
        """What a process does that is not given a processor: time passes, and nothing happens."""
        self._now += seconds


class _LeapingSelector(DefaultSelector):
    def __init__(self, leap: Callable[[float], None]) -> None:
        super().__init__()
        self._leap = leap

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        if timeout is None:
            return super().select(None)
        events = super().select(0)
        if not events:
            self._leap(timeout)
        return events


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"leaping": LeapingLoop}


async def turn() -> None:
    """Let what was scheduled for the next turn of the loop happen."""
    await asyncio.sleep(0)


async def pass_time(seconds: float) -> None:
    """Let that much of the loop's time go by; it takes none of the real one."""
    await asyncio.sleep(seconds)
    await turn()


class House:
    """All parts of a node but the doors. Dialect v1 unless told otherwise."""

    def __init__(
        self,
        *rules: tuple[str, RoomOptions],
        limits: SessionLimits | None = None,
        max_rooms: int = 100_000,
        broker: MemoryBroker | None = None,
        presence: MemoryPresence | None = None,
        authenticator: JwtAuthenticator | None = None,
    ) -> None:
        """`presence` has a grace of 10 s. A broker or presence handed in should run on the time
        of the loop."""
        loop = asyncio.get_running_loop()
        started, began = time.time(), loop.time()
        self.wall: Callable[[], float] = lambda: started + loop.time() - began
        self.metrics = PrometheusMetrics()
        self.catalog = RoomCatalog(rules)
        self.broker = broker or MemoryBroker(loop.time, self.wall)
        self.presence = presence or MemoryPresence(clock=loop.time)
        self.directory = MemoryDirectory()
        self.hub = Hub(self.broker, self.presence, self.directory, self.metrics, max_rooms)
        self.leave = LeaveRoom(self.hub, self.presence)
        self.control = MemoryControl()
        self.exclusions = Exclusions()
        self.orders = CarryOut(self.hub, self.leave, self.exclusions, self.metrics, self.wall)
        self.node = Node(
            self.broker,
            self.presence,
            self.control,
            self.directory,
            authenticator or JwtAuthenticator([]),
            self.hub,
            self.orders,
        )
        self.join = JoinRoom(self.hub, self.presence, self.catalog, self.metrics)
        self.limits = limits or SessionLimits(
            messages_per_second=0, commands_per_second=0, ping_interval=0
        )
        self.rates = RequestRates(
            self.metrics,
            messages=(self.limits.messages_per_second, self.limits.messages_burst),
            commands=(self.limits.commands_per_second, self.limits.commands_burst),
            now=loop.time,
        )
        self.publish = PublishMessage(
            self.hub,
            self.broker,
            self.presence,
            self.catalog,
            self.metrics,
            self.rates,
            now=loop.time,
        )
        self.history = ReadHistory(self.broker, self.catalog)
        self.members = ListMembers(self.presence, self.catalog)
        self.rooms = ListRooms(self.directory, self.presence, self.catalog)
        self.close = CloseSession(self.hub, self.leave, self.metrics)
        self.open = OpenSession(self.hub, self.close, self.metrics, self.limits, self.wall)
        self._dialect = V1()

    def client(
        self,
        user: str = "ann",
        *,
        grants: Grants = OPEN_GRANTS,
        dialect: Dialect | None = None,
        expires_in: float | None = None,
        heard: Callable[[], bool] | None = None,
    ) -> "Client":
        """A user who has been let in. `expires_in` is seconds."""
        expires_at = None if expires_in is None else self.wall() + expires_in
        identity = Identity(UserId(user), grants, b"null", expires_at)
        transport = RecordingTransport()
        now = asyncio.get_running_loop().time()
        connection = SessionId(secrets.token_urlsafe(12))
        session = self.open(connection, identity, transport, dialect or self._dialect, now, heard)
        return Client(self, session, transport)

    async def member(self, user: str = "ann", room: str = "chat", **how: Any) -> "Client":
        """A client in a room; its frames so far are forgotten."""
        client = self.client(user, **how)
        await client.join(room)
        await turn()
        client.transport.pushes.clear()
        return client

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """With everything that runs beside the connections."""
        task = asyncio.create_task(self.node.run())
        try:
            yield
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.wait({task})

    def counted(self, name: str, label: str = "") -> float:
        """A counter as a scrape would show it; without a label, of all of them together."""
        shown = re.compile(rf"hubbub_{name}_total(\{{.*{re.escape(label)}.*\}})? (\S+)")
        lines = self.metrics.render()[0].decode().splitlines()
        found = [match for match in map(shown.fullmatch, lines) if match]
        assert found, f"nothing is counted as {name}"
        return sum(float(match[2]) for match in found)

    def is_empty(self) -> bool:
        """Whether nothing is left of any session: none, no room, nobody in presence."""
        gauges = self.metrics.render()[0].decode().splitlines()
        return "hubbub_rooms 0.0" in gauges and "hubbub_sessions 0.0" in gauges


class FaultyBroker(MemoryBroker):
    """The memory broker, where subscribing may take its time or fail, and deliveries get lost."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop().time)
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: HubbubError | None = None
        self._deaf = False

    async def subscribe(self, room: RoomId, keep: Retention) -> None:
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        await super().subscribe(room, keep)

    def attach(self, listener: BrokerListener) -> None:
        self._hub = listener
        super().attach(_Line(listener, lambda: self._deaf))

    def deafen(self) -> None:
        """Lose deliveries from here on."""
        self._deaf = True

    def notice(self, room: str = "chat") -> None:
        """Find out that deliveries were lost, and lose no more."""
        self._deaf = False
        self._hub.interrupted(RoomId(room))

    def fall_back(self, top: int, room: str = "chat", *, term: str | None = None) -> None:
        """Another store takes over, which knows the log from its beginning up to `top`, and no
        other term than `term`; None for the present one."""
        log = self._rooms[RoomId(room)]
        old, known = log.timeline, term or log.timeline.term
        log.timeline = Timeline(old.epoch, known)
        while log.timeline.top < top:
            request = PageRequest(after=log.timeline.top, limit=min(100, top - log.timeline.top))
            for message in old.page(request).messages:
                log.timeline.append(message, Retention(top, 600.0), self._clock())
        log.timeline.begin_term(f"{known}+")


class _Line(BrokerListener):
    def __init__(self, hub: BrokerListener, is_cut: Callable[[], bool]) -> None:
        self._hub = hub
        self._is_cut = is_cut

    def deliver(self, message: Message) -> None:
        if not self._is_cut():
            self._hub.deliver(message)

    def interrupted(self, room: RoomId) -> None:
        self._hub.interrupted(room)


class SlowPresence(MemoryPresence):
    """The memory presence, where answers take until the gate is open, and snapshots may fail."""

    def __init__(self) -> None:
        super().__init__(clock=asyncio.get_running_loop().time)
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: HubbubError | None = None

    async def enter(self, *who: Any, **limits: Any) -> Attendance:
        attendance = await super().enter(*who, **limits)
        await self.gate.wait()
        return attendance

    async def snapshot(self, room: RoomId, list_limit: int | None = None) -> Snapshot:
        if self.failure is not None:
            raise self.failure
        snapshot = await super().snapshot(room, list_limit)
        await self.gate.wait()
        return snapshot


class Client:
    """One session, with the commands of the main door. Outcomes are told as that door tells."""

    def __init__(self, house: House, session: Session, transport: RecordingTransport) -> None:
        self.house = house
        self.session = session
        self.transport = transport
        self.refused: list[type[HubbubError]] = []
        self.tasks: set[asyncio.Task[None]] = set()

    async def join(
        self, room: str = "chat", *, position: Position | None = None, history: int = 0
    ) -> Joined | None:
        """What the use case told; None for nothing."""
        told: list[Joined] = []

        def tell(joined: Joined) -> None:
            told.append(joined)
            self._tell(joined)

        await self.house.join(self.session, room, tell, position=position, history=history)
        assert len(told) <= 1
        return told[0] if told else None

    def _tell(self, joined: Joined) -> None:
        recovery, messages, at, more = joined.replay
        self.session.send(
            replies.joined(None, joined.room, at, recovery, messages, more, joined.snapshot)
        )

    def opens_to_invitations(self) -> None:
        """Let itself be put into rooms, as the main door does."""

        async def enter(room: RoomId) -> None:
            try:
                await self.house.join(self.session, room, self._tell, invited=True)
            except HubbubError as error:
                self.refused.append(type(error))
            self.session.invitations.discard(room)

        def invite(room: RoomId) -> None:
            self.tasks.add(asyncio.create_task(enter(room)))

        self.session.invite = invite

    def leave(self, room: str = "chat") -> None:
        self.house.leave(self.session.memberships[RoomId(room)])

    def say(self, data: object = None, room: str = "chat", **how: Any) -> Published | HubbubError:
        """Publish, and return what the memory broker says at once."""
        receipts: list[Published | HubbubError] = []
        self.house.publish(self.session, room, json.dumps(data).encode(), receipts.append, **how)
        (receipt,) = receipts
        return receipt

    @property
    def frames(self) -> list[Frame]:
        return self.transport.frames

    def of_type(self, *types: str) -> list[Frame]:
        return [frame for frame in self.frames if frame["type"] in types]

    def heard(self, room: str = "chat") -> list[Any]:
        """The data of all messages of a room in the order they came, in whatever frame."""
        data: list[Any] = []
        for frame in self.frames:
            if frame.get("room") == room:
                if frame["type"] == "message":
                    data.append(frame["data"])
                data += [message["data"] for message in frame.get("messages", ())]
        return data

    def take(self) -> list[Frame]:
        """The frames since the last time."""
        frames = self.frames
        self.transport.pushes.clear()
        return frames


def types(frames: list[Frame]) -> list[str]:
    return [frame["type"] for frame in frames]
