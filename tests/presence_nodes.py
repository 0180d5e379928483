"""Nodes whose presence meets at one Redis, on a clock that tests move."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from adapters.prometheus_metrics import PrometheusMetrics
from adapters.redis.channels import Channels
from adapters.redis.lease import INTERVAL
from adapters.redis.presence import RedisPresence
from adapters.redis.store import Store
from domain.identifiers import RoomId
from tests.contract.conftest import CHAT, GRACE, Clock, PresenceNode
from tests.peer import DEADLINE, until
from tests.redis_server import RedisServer
from tests.redis_user import as_hubbub
from tests.running import running


class LiveNode(PresenceNode):
    """A node that may die: nothing is said by it any more."""

    presence: RedisPresence

    def __init__(self, url: str, clock: Callable[[], float], grace: float = GRACE) -> None:
        self.store = Store(as_hubbub(url))
        self.channels = Channels(self.store)
        metrics = PrometheusMetrics()
        presence = RedisPresence(self.store, self.channels, metrics, grace=grace, clock=clock)
        super().__init__(presence, self.settle)
        self.missed = 0  # records, while it was deaf
        self._connections = AsyncExitStack()
        self._work = AsyncExitStack()

    @property
    def name(self) -> str:
        return self.presence.lease.node

    async def start(self) -> None:
        await self._connections.enter_async_context(running(self.store, self.channels))
        await until(lambda: self.store.healthy and self.channels.healthy)
        await self._work.enter_async_context(running(self.presence))
        await until(lambda: bool(self.name))

    async def stop(self) -> None:
        await self._work.aclose()
        await self._connections.aclose()

    async def die(self) -> None:
        await self._connections.aclose()
        await self._work.aclose()

    def deafen(self) -> None:
        """Let records of its feeds get lost."""

        def received(channel: str, payload: bytes) -> None:
            self.missed += 1

        vars(self.presence.rooms)["received"] = received

    def hear_again(self) -> None:
        del vars(self.presence.rooms)["received"]

    async def settle(self) -> None:
        """Wait until all that happened here is said, and heard of here."""
        await until(lambda: self.presence.settled)

    async def users(self, room: RoomId = CHAT) -> dict[str, int]:
        """Who is there, with how many sessions."""
        snapshot = await self.presence.snapshot(room)
        assert snapshot.members is not None
        assert snapshot.count == len(snapshot.members)
        return {member.user: member.sessions for member in snapshot.members}


class RedisNode(LiveNode):
    """One on a clock that tests move. It may sleep, too: it does nothing for a while."""

    def __init__(self, nodes: "RedisNodes", url: str, grace: float) -> None:
        self.clock = Clock()
        super().__init__(url, self.clock, grace)
        self.asleep = False
        self._nodes = nodes

    async def die(self) -> None:
        self.asleep = True
        await super().die()

    async def settle(self) -> None:
        """Wait until everything is said and heard everywhere."""
        await self._nodes.settle()

    def settled(self, server: Any) -> bool:
        """Whether everything is said and heard."""
        if self.asleep:
            return True
        if not self.presence.settled:
            return False
        for room in self.presence.rooms:
            if not room.open:
                continue
            life, revision = server.hmget(room.keys[0], "life", "revision")
            known = room.replica.life.decode(), room.replica.revision
            if known != (life or "", int(revision or 0)):
                return False
        return True


class RedisNodes:
    """Nodes at one server, and its clock as far as presence looks at it."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.client = server.client()
        self.all: list[RedisNode] = []
        self._passed = 0.0

    async def start(self, url: str = "", grace: float = GRACE) -> RedisNode:
        node = RedisNode(self, url or self.server.url, grace)
        await node.start()
        self.all.append(node)
        return node

    async def stop(self) -> None:
        for node in self.all:
            await node.stop()
        self.client.close()

    async def settle(self) -> None:
        """Wait until everything is said and heard; hardly any time passes."""
        await self.until(lambda: all(node.settled(self.client) for node in self.all), 0.01)

    async def advance(self, seconds: float) -> None:
        """Let time pass, with all that it brings about."""
        for _ in range(round(seconds)):
            await self._pass_a_moment(1.0)
        await self.settle()

    async def until(self, condition: Callable[[], bool], moment: float = 0.1) -> None:
        """Let time pass until something is so. Raises TimeoutError."""
        async with asyncio.timeout(DEADLINE):
            while not condition():
                await self._pass_a_moment(moment)

    @asynccontextmanager
    async def time_passing(self) -> AsyncIterator[None]:
        """Let time pass meanwhile."""

        async def pass_on() -> None:
            while True:
                await self._pass_a_moment(0.1)

        passing = asyncio.create_task(pass_on())
        try:
            yield
        finally:
            passing.cancel()
            await asyncio.wait({passing})
        assert passing.cancelled()

    async def _pass_a_moment(self, seconds: float) -> None:
        self.pass_time(seconds)
        due = self._passed // INTERVAL > (self._passed - seconds) // INTERVAL
        for node in self.all:
            if not node.asleep:
                node.presence.sweep()
                if due:
                    await node.presence.lease.renew()
        await asyncio.sleep(0.005)  # what that brought about takes a few turns of several loops

    def pass_time(self, seconds: float) -> None:
        """Let time pass in which no node does anything."""
        self._passed += seconds
        for node in self.all:
            node.clock.now += seconds
        for pattern in ("*:grace", "*:leases", "*:dead"):
            for key in self.client.scan_iter(pattern):
                members: Any = self.client.zrange(key, 0, -1)
                for member in members:
                    self.client.zincrby(key, -round(seconds * 1000), member)

    def rooms_keys(self) -> list[str]:
        """Keys of rooms that do not end by themselves."""
        return sorted(
            key
            for key in self.client.scan_iter("hubbub:*")
            if not key.startswith("hubbub:{nodes}:") and self.client.ttl(key) < 0
        )


class Reader:
    """Somebody on a node who goes by versions, as PROTOCOL.md has it: takes what is told with the
    next one, asks when one is missing, and leaves out what is no news."""

    def __init__(self, node: LiveNode) -> None:
        self._node = node
        self._users: set[str] = set()
        self._version = 0
        self._read = len(node.notes.changes)
        self._ask()

    def users(self) -> set[str]:
        """Who is there, by what was told up to now."""
        changes = self._node.notes.changes[self._read :]
        self._read += len(changes)
        for change in changes:
            if change.version == self._version + 1:
                self._version += 1
                self._users ^= {change.user}
            elif change.version > self._version:
                self._ask()
        return self._users

    def _ask(self) -> None:
        room = self._node.presence.rooms.find(CHAT)
        assert room is not None
        snapshot = room.replica.snapshot()
        self._users = {member.user for member in snapshot.members or ()}
        self._version = snapshot.version
