"""The quick starts of the README for Node, Python and curl, as they are written but for the port.

Those for pages are tried in a browser: tests/browser/test_own_pages.py.
"""

import asyncio
import os
import re
import shutil
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.clients.driving import NoDriver, command_line
from tests.peer import DEADLINE
from tests.running_server import Serve

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, part: str) -> str:
    """The block of the README that contains this."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    (found,) = (code for code in blocks if part in code)
    return str(found)


Run = Callable[..., Awaitable[Process]]


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Run]:
    """Starts a program, in a folder of its own; ended at the end if it has not by then."""
    async with AsyncExitStack() as stack:

        async def start(*words: str) -> Process:
            environ = {name: text for name, text in os.environ.items() if "HUBBUB" not in name}
            environ |= {"PYTHONPATH": str(ROOT / "clients/python/src"), "NO_PROXY": "*"}
            process = await asyncio.create_subprocess_exec(
                *words, cwd=tmp_path, env=environ, stdin=DEVNULL, stdout=PIPE
            )

            async def end() -> None:
                if process.returncode is None:
                    process.kill()
                await process.communicate()

            stack.push_async_callback(end)
            return process

        yield start


async def test_node(serve: Serve, run: Run, tmp_path: Path) -> None:
    try:
        node, *flags, _driver = command_line("javascript")
    except NoDriver as missing:
        pytest.skip(str(missing))
    server = await serve()
    code = block("js", 'from "hubbub"').replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    (tmp_path / "bot.mjs").write_text(code, encoding="utf-8")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules/hubbub").symlink_to(ROOT / "clients/js")
    zoe, _ = await server.member("zoe", "lobby")

    await run(node, *flags, "bot.mjs")
    await zoe.expect("join", user="echo-bot")
    await zoe.ask("publish", room="lobby", data={"text": "hi"}, echo=False)

    await zoe.expect("message", **{"from": "echo-bot"}, data={"text": "zoe said hi"})


async def test_python(serve: Serve, run: Run) -> None:
    server = await serve()
    code = block("python", "async for message in room")
    zoe, _ = await server.member("zoe", "lobby")

    await run(sys.executable, "-c", code.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}"))

    await zoe.expect("join", user="bob")
    await zoe.expect("message", **{"from": "bob"}, data={"text": "hello"})


async def test_curl(serve: Serve, run: Run) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl on PATH")
    server = await serve()

    def here(command: str) -> tuple[str, ...]:
        return ("sh", "-c", "exec " + command.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}"))

    stream = await run(*here(block("sh", "room=lobby&history=20'\n")))
    assert stream.stdout is not None
    said = await run(*here(block("sh", "hello from curl")))
    answer, _ = await asyncio.wait_for(said.communicate(), DEADLINE)

    assert b'"seq":1' in answer
    async with asyncio.timeout(DEADLINE):
        while b"hello from curl" not in await stream.stdout.readline():
            assert not stream.stdout.at_eof()
