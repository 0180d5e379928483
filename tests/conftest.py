"""Fixtures for tests against the whole server."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from entrypoints.settings import Settings
from tests.running_server import RunningServer, Serve, fit_for_tests
from tests.server_process import ServeProcess, ServerProcess


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Servers on free ports, stopped and found empty at the end."""
    async with AsyncExitStack() as started:
        started.enter_context(fit_for_tests())

        async def start(**settings: Any) -> RunningServer:
            server = RunningServer(Settings(port=0, **settings))
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
