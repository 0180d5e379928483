"""One browser for all tests of a process, a server behind a proxy that can be cut, and own pages.

Playwright belongs to the loop it was started in, so these tests share one: `@in_one_loop`.
"""

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.browser.chromium import NoChromium, Site, Window, chromium, executable
from tests.peer import DEADLINE
from tests.redis_proxy import RedisProxy
from tests.server_process import ServeProcess, ServerProcess

_CLIENT = Path(__file__).parents[2] / "clients/js/hubbub.js"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A browser takes its time to start, and shares a few processors with everything else."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(180))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    try:
        path = executable()
    except NoChromium as missing:
        pytest.skip(str(missing))
    expect.set_options(timeout=DEADLINE * 1000)
    async with chromium(path) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def window(browser: Browser) -> AsyncIterator[Window]:
    """Tabs, closed at the end; none may have reported an error that was not expected."""
    window = Window(browser)
    yield window
    await window.close()
    assert not window.errors, window.errors


@pytest_asyncio.fixture(loop_scope="session")
async def serve_process(tmp_path: Path, window: Window) -> AsyncIterator[ServeProcess]:
    """As everywhere, in the loop of these tests."""
    async with AsyncExitStack() as started:

        async def start(*arguments: str, **environ: str) -> ServerProcess:
            server = await ServerProcess.start(tmp_path, *arguments, environ=environ)
            started.push_async_callback(server.stop)
            return server

        yield start
        await window.close()


class Place:
    """A server, and `url`, a way to it that can be cut; `server.url` is one that cannot."""

    def __init__(self, server: ServerProcess, proxy: RedisProxy) -> None:
        self.server = server
        self.proxy = proxy

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.proxy.port}"

    def cut(self) -> None:
        self.proxy.refuse()
        self.proxy.drop()


@asynccontextmanager
async def _place(server: ServerProcess) -> AsyncIterator[Place]:
    proxy = RedisProxy(server.port)
    await proxy.listen()
    try:
        yield Place(server, proxy)
    finally:
        await proxy.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def place(serve_process: ServeProcess, window: Window) -> AsyncIterator[Place]:
    async with _place(await serve_process()) as place:
        yield place
        await window.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def standing(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Place]:
    """One place for all tests that do it no harm."""
    server = await ServerProcess.start(tmp_path_factory.mktemp("standing"))
    try:
        async with _place(server) as place:
            yield place
    finally:
        await server.stop()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name it has there)
        return


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """What `python3 -m http.server` serves in a folder: own pages, on a port of their own."""
    folder = tmp_path / "site"
    folder.mkdir()
    shutil.copy(_CLIENT, folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    serving = Thread(target=server.serve_forever)
    serving.start()

    def serve(name: str, html: str) -> str:
        (folder / name).write_text(html, encoding="utf-8")
        return f"http://localhost:{server.server_port}/{name}"

    yield serve
    server.shutdown()
    serving.join()
    server.server_close()
