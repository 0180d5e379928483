"""The Python client's README, tried as it is written but for the ports."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import jwt
import pytest
import uvicorn

from tests.peer import DEADLINE, until
from tests.running_server import RunningServer, Serve
from tests.tokens import JWT, SECRET

CLIENT = Path(__file__).parents[2] / "clients/python"
PAGE = (CLIENT / "README.md").read_text()
BLOCKS = re.findall(r"^```python(?: name=\S+)?\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def block(part: str) -> str:
    """The block of code that contains this."""
    (found,) = (code for code in BLOCKS if part in code)
    return str(found)


class Program:
    """A process whose output is waited for."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def says(self, text: str) -> None:
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            said = []
            while line := (await self._process.stdout.readline()).decode():
                said.append(line)
                if text in line:
                    return
        raise AssertionError(f"{text!r} is not in {said}")

    async def ended(self) -> int:
        async with asyncio.timeout(DEADLINE):
            return await self._process.wait()

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()


Run = Callable[..., Awaitable[Program]]


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Run]:
    """Runs a block of code, with a server's address in the place of the usual one."""
    async with AsyncExitStack() as stack:

        async def begin(code: str, port: int, **replaced: str) -> Program:
            for old, new in {"127.0.0.1:8000": f"127.0.0.1:{port}", **replaced}.items():
                code = code.replace(old, new)
            environ = {name: text for name, text in os.environ.items() if "HUBBUB" not in name}
            environ |= {"PYTHONPATH": str(CLIENT / "src"), "NO_PROXY": "*", "PYTHONUNBUFFERED": "1"}
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", code), env=environ, cwd=tmp_path, stdout=PIPE, stderr=None
            )
            program = Program(process)
            stack.push_async_callback(program.stop)
            return program

        yield begin


@pytest.fixture
async def server(serve: Serve) -> RunningServer:
    return await serve()


async def test_a_first_try(server: RunningServer, run: Run) -> None:
    program = await run(block("hello from Python"), server.port)
    await program.says("1 bob {'text': 'hello from Python'}")
    ann = await server.user("ann")
    await ann.ask("publish", room="lobby", data={"text": "hello Bob"})
    await program.says("2 ann {'text': 'hello Bob'}")


async def test_everything_that_happens(server: RunningServer, run: Run) -> None:
    program = await run(block("match event"), server.port)
    await program.says("here are ['bob']")
    ann, _ = await server.member("ann", "lobby")
    await program.says("Joined(user='ann', info=None) so we are 2")
    await ann.ask("publish", room="lobby", data="hello")
    await program.says("ann hello")
    server.container.broker().forget("lobby")
    await program.says("the server begins a new log")
    await ann.close()
    await program.says("Left(user='ann') so we are 1")


async def test_a_worker_that_may_be_restarted(server: RunningServer, run: Run) -> None:
    ann = await server.user("ann")
    await ann.ask("publish", room="orders", data="order 1")
    worker = await run(block("STORE"), server.port)
    await worker.says("working on order 1")
    await ann.ask("publish", room="orders", data="order 2")
    await worker.says("working on order 2")
    await worker.stop()
    await ann.ask("publish", room="orders", data="order 3")
    again = await run(block("STORE"), server.port)
    await again.says("working on order 3")


@asynccontextmanager
async def backend(code: str, folder: Path) -> AsyncIterator[int]:
    """A web application on a free port."""
    file = folder / "backend.py"
    file.write_text(code)
    spec = spec_from_file_location("backend", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    config = uvicorn.Config(module.app, port=0, log_config=None, lifespan="off")
    application = uvicorn.Server(config)
    running = asyncio.create_task(application._serve())
    await until(lambda: application.started)
    try:
        yield application.servers[0].sockets[0].getsockname()[1]
    finally:
        application.should_exit = True
        await running


async def test_tokens_from_a_backend(
    serve: Serve, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = await serve(**JWT)
    monkeypatch.setenv("HUBBUB_AUTH__HMAC_SECRET", SECRET)
    async with backend(block("FastAPI()"), tmp_path) as port:
        program = await run(
            block("notifications"), server.port, **{"127.0.0.1:9000": f"127.0.0.1:{port}"}
        )
        await program.says("waiting for what comes for ann")
        claims = {"sub": "billing", "exp": 4e9, "rooms": {"@*": ["publish"]}}
        credential = jwt.encode(claims, SECRET, algorithm="HS256")
        billing = await server.connect(f"/v1/ws?token={credential}")
        await billing.expect("connected")
        await billing.expect("joined")
        await billing.ask("publish", room="@ann", data="your invoice is ready")
        await program.says("your invoice is ready")
        await program.stop()


async def test_publishing_from_a_backend(server: RunningServer, run: Run) -> None:
    ann = await server.user("ann")
    for told in ("number 1 for the first time", "number 1 again"):
        program = await run(block("publisher.publish"), server.port)
        await program.says(told)
        assert await program.ended() == 0
    await ann.expect("message", room="@ann", data={"text": "your invoice is ready"})
    assert await ann.is_quiet()


def test_every_block_is_tried() -> None:
    tried = ["hello from Python", "match event", "STORE", "FastAPI()", "notifications"]
    tried.append("publisher.publish")
    assert {block(part) for part in tried} == set(BLOCKS)
