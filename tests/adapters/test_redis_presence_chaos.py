"""Three nodes, one Redis, and everything going wrong at once; what matters in the end is right."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from domain.errors import Unavailable
from domain.identifiers import SessionId, UserId
from domain.member import ChangeKind
from tests.contract.conftest import CHAT
from tests.peer import until
from tests.presence_nodes import Reader, RedisNode, RedisNodes
from tests.redis_proxy import RedisProxy, redis_proxy
from tests.redis_server import RedisServer

STEPS = 100
LEAVE = ChangeKind.LEAVE

pytestmark = pytest.mark.redis


class Chaos:
    """One `host` sits on every node from first to last; guests come and go."""

    def __init__(self, nodes: RedisNodes, seed: int) -> None:
        self.dice = random.Random(seed)
        self.nodes = nodes
        self.sessions: set[tuple[int, str, str]] = set()  # node, user, session
        self.known: dict[RedisNode, set[str]] = {}  # when it began
        self.readers: dict[RedisNode, Reader] = {}
        self._proxies: list[RedisProxy] = []

    @property
    def all(self) -> list[RedisNode]:
        return self.nodes.all

    async def begin(self, proxies: list[RedisProxy]) -> None:
        self._proxies = proxies
        for at, proxy in enumerate(proxies):
            node = await self.nodes.start(proxy.url)
            await node.enter(f"host{at}")
            self.sessions.add((at, f"host{at}", "1"))
        await self.nodes.settle()
        for node in self.all:
            self.known[node] = set(await node.users())
            node.notes.changes.clear()
            self.readers[node] = Reader(node)

    async def step(self) -> None:
        guests = sorted(seat for seat in self.sessions if not seat[1].startswith("host"))
        chance = self.dice.random()
        if chance < 0.5:
            await self._enter()
        elif chance < 0.8 and guests:
            self._leave(*self.dice.choice(guests))
        elif chance < 0.85:
            self.nodes.client.flushall()
        elif chance < 0.9:
            self.nodes.client.client_kill_filter(_type="pubsub")
        elif chance < 0.95:
            self.dice.choice(self._proxies).drop()
        else:
            self.dice.choice(self._proxies).lose_reply(b"EVALSHA")
        await asyncio.sleep(self.dice.choice([0.0, 0.0, 0.005, 0.02]))
        for reader in self.readers.values():
            reader.users()

    async def end(self) -> None:
        """Heal everything, and let every grace and every audit come to its end."""
        for proxy in self._proxies:
            proxy.heal()
        for node in self.all:
            await until(lambda node=node: node.store.healthy and node.channels.healthy)  # type: ignore[misc]
        for _ in range(3):
            for node in self.all:
                await node.presence.audit.look(list(node.presence.rooms))
            await self.nodes.advance(15)

    async def check(self) -> None:
        expected = Counter(user for _, user, _ in self.sessions)
        for node in self.all:
            assert await node.users() == expected
            assert self._told(node) == set(expected)
            assert self.readers[node].users() == set(expected)

    def _told(self, node: RedisNode) -> set[str]:
        """Who is there for somebody who only listens."""
        present, version = set(self.known[node]), 0
        for change in node.notes.changes:
            assert (change.user in present) == (change.kind is LEAVE), change
            assert change.version >= version, change
            assert not (change.kind is LEAVE and change.user.startswith("host")), change
            present ^= {change.user}
            version = change.version
        return present

    async def _enter(self) -> None:
        at, user, session = self._seat()
        try:
            await self.all[at].enter(user, session)
        except Unavailable:
            return  # then it is not in, unless it was before
        self.sessions.add((at, user, session))

    def _seat(self) -> tuple[int, str, str]:
        user = f"guest{self.dice.randrange(8)}"
        return self.dice.randrange(len(self.all)), user, str(self.dice.randrange(3))

    def _leave(self, at: int, user: str, session: str) -> None:
        self.sessions.remove((at, user, session))
        self.all[at].presence.leave(
            CHAT, SessionId(f"{user}-{session}"), UserId(user), clean=self.dice.random() < 0.5
        )


@pytest.fixture
async def nodes(redis_server: RedisServer, redis_url: str) -> AsyncIterator[RedisNodes]:
    nodes = RedisNodes(redis_server)
    yield nodes
    await nodes.stop()


@pytest.mark.parametrize("seed", [2, 4, 22])
async def test_whatever_happens_it_comes_right(nodes: RedisNodes, seed: int) -> None:
    async with AsyncExitStack() as opened:
        port = nodes.server.port
        proxies = [await opened.enter_async_context(redis_proxy(port)) for _ in range(3)]
        chaos = Chaos(nodes, seed)
        await chaos.begin(proxies)
        async with nodes.time_passing():
            for _ in range(STEPS):
                await chaos.step()
        await chaos.end()
        await chaos.check()
        await nodes.stop()
