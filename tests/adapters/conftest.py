"""Fixtures for the adapters, and the event loops they are tested on."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.certificates import certificate
from tests.lane_server import LaneServer
from tests.loops import ASYNCIO, SERVED, Factory


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Factory]:
    """The lane writes past the loop's transports, so it is tested on each of their kinds."""
    return {**ASYNCIO, **SERVED} if item.path.name.startswith("test_lane") else ASYNCIO


class LaneServers(Protocol):
    """The fixture `lanes`: starts a server of the lane alone. Arguments are those of LaneServer."""

    async def __call__(self, **options: Any) -> LaneServer: ...


@pytest.fixture
async def lanes() -> AsyncIterator[LaneServers]:
    async with AsyncExitStack() as started:

        async def start(**options: Any) -> LaneServer:
            server = LaneServer(**options)
            started.push_async_callback(server.stop)
            await server.start()
            return server

        yield start


@pytest.fixture(scope="session")
def cert(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Files with a certificate for 127.0.0.1 and its key."""
    chain, key = certificate(Path(tmp_path_factory.mktemp("tls")))
    return str(chain), str(key)
