"""Nodes as processes over one store, and the ways to do them harm."""

import asyncio
import random
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.chaos.stores import Group, Kind, make
from tests.redis_proxy import RedisProxy
from tests.redis_server import RedisServer
from tests.server_process import ServerProcess

ROOT = Path(__file__).parents[2]
_ROOMS = [
    {"match": "hall*", "history_size": 10_000},
    {"match": "short*", "history_size": 20, "presence": "off"},
    {"match": "*", "history_size": 10_000, "presence": "off"},
]
_ENVIRON = {
    "HUBBUB_BACKEND": "redis",
    "HUBBUB_LIMITS__MESSAGES_PER_SECOND": "0",
    "HUBBUB_LIMITS__COMMANDS_PER_SECOND": "0",
    "HUBBUB_ROOMS": msgspec.json.encode(_ROOMS).decode(),
    "HUBBUB_LOG_LEVEL": "info",
}


@dataclass(frozen=True)
class Setting:
    """What a run takes place on. Runs with equal ones may share it.

    `proxied`: a proxy between each node and the Redis of a standalone store. `doors`: one between
    each node and its clients. `login`: how nodes authenticate, as it stands in a URL. `entry`: a
    module that starts a node, and words for it. `build`: the sources of the nodes there are to
    begin with, None for these here; those that are added later are of these.
    """

    store: Kind = "standalone"
    nodes: int = 2
    proxied: bool = False
    doors: bool = False
    redis: tuple[str, ...] = ()
    login: str = ""
    entry: tuple[str, ...] = ("entrypoints.cli",)
    environ: tuple[tuple[str, str], ...] = ()
    build: Path | None = None


class Node:
    """One place for a process. `line` is its proxy to Redis, `door` that of its clients."""

    def __init__(
        self, setting: Setting, folder: Path, store: Group, build: Path | None = None
    ) -> None:
        self.process: ServerProcess | None = None
        self.line: RedisProxy | None = None
        self.door: RedisProxy | None = None
        self.open = False  # clients may come
        self.stderr = ""  # of processes that are over
        self._setting = setting
        self._folder = folder
        self._store = store
        self._build = build or ROOT

    @property
    def port(self) -> int:
        assert self.process is not None
        return self.process.port if self.door is None else self.door.port

    @property
    def alive(self) -> ServerProcess:
        assert self.process is not None
        return self.process

    async def start(self) -> None:
        setting = self._setting
        if setting.proxied and self.line is None:
            assert isinstance(self._store, RedisServer)
            self.line = RedisProxy(self._store.port)
            await self.line.listen()
        url = self._store.url if self.line is None else self.line.url
        url = url.replace("://", f"://{setting.login}", 1)
        environ = {**_ENVIRON, "HUBBUB_REDIS_URL": url, **dict(setting.environ)}
        self.process = await ServerProcess.start(
            self._folder, environ=environ, entry=setting.entry, sources=self._build
        )
        if setting.doors:
            if self.door is None:
                self.door = RedisProxy(0)
                await self.door.listen()
            self.door.target = self.process.port
        self.open = True

    async def kill(self) -> None:
        """As a crash."""
        self.open = False
        self.alive.signal(signal.SIGKILL)
        await self._over()

    async def drain(self) -> int:
        """As an operator; returns its exit code. It sends its clients away itself."""
        self.open = False
        self.alive.signal(signal.SIGTERM)
        code = await self.alive.ended(60.0)
        await self._over()
        return code

    async def stand_still(self, seconds: float) -> None:
        """Stop the process where it is, for some time."""
        self.alive.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.alive.signal(signal.SIGCONT)

    async def _over(self) -> None:
        process = self.alive
        await process.ended()
        self.stderr += process.stderr
        self.process = None

    async def close(self) -> None:
        if self.process is not None:
            self.process.signal(signal.SIGCONT)
            await self.process.stop()
        for proxy in (self.line, self.door):
            if proxy is not None:
                await proxy.stop()


class System:
    """An async context manager: everything in it runs until its end."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self.setting = setting
        self.store = make(setting.store, *setting.redis)
        self.nodes: list[Node] = []
        self._folder = folder
        self._former = ""  # stderr of nodes that were removed
        self._started = AsyncExitStack()

    async def __aenter__(self) -> "System":
        async with self._started:
            await asyncio.to_thread(self.store.__enter__)
            self._started.callback(self.store.__exit__, None, None, None)
            self._started.push_async_callback(self._close_nodes)
            build = self.setting.build
            await asyncio.gather(*(self.add_node(build) for _ in range(self.setting.nodes)))
            self._started = self._started.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._started.aclose()

    async def _close_nodes(self) -> None:
        await asyncio.gather(*(node.close() for node in self.nodes))

    async def add_node(self, build: Path | None = None) -> Node:
        node = Node(self.setting, self._folder, self.store, build)
        self.nodes.append(node)
        await node.start()
        return node

    async def remove_node(self, node: Node) -> None:
        """One that is over."""
        self.nodes.remove(node)
        self._former += node.stderr
        await node.close()

    @property
    def redis(self) -> RedisServer:
        """The one of a standalone store."""
        assert isinstance(self.store, RedisServer)
        return self.store

    @property
    def lines(self) -> list[RedisProxy]:
        """The proxies between the nodes and Redis."""
        return [node.line for node in self.nodes if node.line is not None]

    @property
    def doors(self) -> list[RedisProxy]:
        return [node.door for node in self.nodes if node.door is not None]

    def somewhere(self, rng: random.Random) -> Callable[[], int | None]:
        """Ports of open nodes, one after another as a balancer deals them; None without any."""
        turn = rng.randrange(1000)

        def port() -> int | None:
            nonlocal turn
            turn += 1
            ready = [node for node in self.nodes if node.open]
            return ready[turn % len(ready)].port if ready else None

        return port

    async def restore(self) -> None:
        """End every fault: all nodes and servers run, nothing is held up."""
        for proxy in (*self.lines, *self.doors):
            proxy.heal()
            proxy.latency = (0.0, 0.0)
        for node in self.nodes:
            if node.process is None:
                await node.start()

    def stderr(self) -> str:
        """What all nodes wrote so far."""
        running = (node.process.stderr if node.process else "" for node in self.nodes)
        return self._former + "".join((*(node.stderr for node in self.nodes), *running))
