"""Fixtures for tests against the whole server."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import pytest

from entrypoints.settings import Settings
from tests.redis_groups import RedisCluster
from tests.redis_server import RedisServer, StartRedis
from tests.running_server import RunningServer, Serve, fit_for_tests, nothing_blocks
from tests.server_process import ServeProcess, ServerProcess

_REDIS = {"redis_server", "redis_url", "start_redis", "redis_cluster"}  # fixtures


def _needs_redis(item: pytest.Item) -> bool:
    call = getattr(item, "callspec", None)
    asked = not _REDIS.isdisjoint(getattr(item, "fixturenames", ()))
    return asked or (call is not None and "redis" in call.params.values())


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs a Redis. Leave out what other servers than ours cannot do; each of these
    tests says what."""
    for item in items:
        if _needs_redis(item):
            item.add_marker(pytest.mark.redis)
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        marker = item.get_closest_marker("lane_only")
        if marker is None:
            kept.append(item)
            continue
        (why,) = marker.args
        assert why, item.nodeid
        call = getattr(item, "callspec", None)
        portable = call is not None and call.params.get("transport") == "portable"
        (left_out if portable else kept).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


@pytest.fixture(params=["lane", "portable"])
def transport(request: pytest.FixtureRequest) -> str:
    """Our protocol classes of uvicorn, or its own: what any ASGI server does."""
    return str(request.param)


@pytest.fixture
async def serve(transport: str) -> AsyncIterator[Serve]:
    """Servers on free ports, stopped and found empty at the end."""
    async with AsyncExitStack() as started:
        started.enter_context(fit_for_tests())
        started.enter_context(nothing_blocks())

        async def start(**settings: Any) -> RunningServer:
            server = RunningServer(Settings(port=0, **settings), lane=transport == "lane")
            started.push_async_callback(server.stop)
            await server.start()
            return server

        yield start


@pytest.fixture
async def serve_process(tmp_path: Path) -> AsyncIterator[ServeProcess]:
    """Processes on free ports, ended at the end."""
    async with AsyncExitStack() as started:

        async def start(*arguments: str, **environ: str) -> ServerProcess:
            server = await ServerProcess.start(tmp_path, *arguments, environ=environ)
            started.push_async_callback(server.stop)
            return server

        yield start


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One for all tests of a process that do it no harm."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of a Redis with nothing in it."""
    redis_server.command("FLUSHALL")
    return redis_server.url


@pytest.fixture
def start_redis() -> Iterator[StartRedis]:
    """Servers of this test's own, for faults and for settings."""
    with ExitStack() as started:

        def start(*config: str) -> RedisServer:
            return started.enter_context(RedisServer(*config))

        yield start


@pytest.fixture(scope="session")
def _redis_cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture
def redis_cluster(_redis_cluster: RedisCluster) -> RedisCluster:
    """Three masters with nothing in them; who owns which slot may be different each time."""
    _redis_cluster.flush()
    return _redis_cluster
