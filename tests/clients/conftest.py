"""One server, a proxy that does what networks do, and a client of each kind."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from domain.identifiers import RoomId
from domain.options import Retention
from domain.timeline import PageRequest, Timeline
from tests.clients.driving import KINDS, Driver, NoDriver, command_line
from tests.redis_proxy import RedisProxy
from tests.running_server import RunningServer, Serve


@pytest.fixture
def transport() -> str:
    """Clients do not see the difference."""
    return "lane"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    try:
        command_line(request.param)
    except NoDriver as missing:
        pytest.skip(str(missing))
    return str(request.param)


class Scene:
    """`server` is what the proxy leads to; `proxy` is what clients know."""

    def __init__(self, kind: str, serve: Serve, stack: AsyncExitStack) -> None:
        self._kind = kind
        self._serve = serve
        self._stack = stack
        self.server: RunningServer
        self.proxy: RedisProxy

    async def begin(self, **settings: Any) -> RunningServer:
        """A server behind the proxy; with every further call another one takes its place. Whoever
        is away stays a member for as long as any test may take."""
        server = await self._serve(**{"presence_grace": 120.0, **settings})
        if not hasattr(self, "proxy"):
            self.proxy = RedisProxy(server.port)
            await self.proxy.listen()
            self._stack.push_async_callback(self.proxy.stop)
        self.server = server
        self.proxy.target = server.port
        return server

    async def start(self, tokens: Callable[[], str | None] | None = None) -> Driver:
        """A client that is not connected yet."""
        driver = await Driver.start(self._kind, tokens)
        self._stack.push_async_callback(driver.end)
        return driver

    def url(self, user: str | None = None) -> str:
        return f"ws://127.0.0.1:{self.proxy.port}/v1/ws" + (f"?user={user}" if user else "")

    async def client(self, user: str = "ann", **options: object) -> Driver:
        """A connected one, in open mode."""
        driver = await self.start()
        await driver.connect(self.url(user), **options)
        return driver

    async def member(self, room: str, user: str = "ann", **options: object) -> Driver:
        driver = await self.client(user, **options)
        await driver.join(room)
        return driver

    async def cut_off(self, driver: Driver) -> None:
        """Take the network away, until `back`."""
        self.proxy.refuse()
        self.proxy.drop()
        await driver.expect("state", state="offline")

    async def back(self, driver: Driver) -> None:
        await self.proxy.listen()
        await driver.expect("state", state="connected")


@pytest.fixture
async def scene(kind: str, serve: Serve) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        yield Scene(kind, serve, stack)


def fall_back(server: RunningServer, room: str, top: int) -> None:
    """Let another store take over that knows a room's log up to `top` only."""
    broker = server.container.broker()
    log = broker._rooms[RoomId(room)]
    old, log.timeline = log.timeline, Timeline(log.timeline.epoch, log.timeline.term)
    for message in old.page(PageRequest(after=0, limit=top)).messages:
        log.timeline.append(message, Retention(top, 600.0), broker._clock())
    log.timeline.begin_term(f"{old.term}+")
