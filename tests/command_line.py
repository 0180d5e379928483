"""Commands of `hubbub` against a running server: in this process, and as a process of their own."""

import asyncio
import os
import signal
import sys
import threading
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from typer.testing import CliRunner, Result

from entrypoints.cli import app
from tests.peer import DEADLINE

_ROOT = Path(__file__).parents[1]
# Without the settings of whoever runs the tests.
INHERITED = {name: text for name, text in os.environ.items() if "HUBBUB" not in name.upper()}


async def hubbub(*arguments: str, stdin: str | bytes | None = None, **environ: str) -> Result:
    """Run a command to its end, beside the server in the loop of the test."""
    clean: dict[str, str | None] = {name: None for name in os.environ if "HUBBUB" in name.upper()}
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Result] = loop.create_future()

    def run() -> None:
        invoke = CliRunner().invoke
        result = invoke(app, list(arguments), input=stdin, env={**clean, **environ})
        loop.call_soon_threadsafe(ended.set_result, result)

    # One that does not end must not keep the tests from ending.
    threading.Thread(target=run, daemon=True).start()
    async with asyncio.timeout(2 * DEADLINE):
        return await ended


async def told(*arguments: str, **options: str) -> str:
    """What a command writes that must do its work."""
    result = await hubbub(*arguments, **options)
    assert result.exit_code == 0, result.output
    return result.stdout


async def complaint(code: int, *arguments: str, **options: str) -> str:
    """The one line that a command says which ends with this code."""
    result = await hubbub(*arguments, **options)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("hubbub: "), result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


class RunningCommand:
    """A process. Every wait has a deadline."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.errors = ""  # what it wrote to stderr so far
        self._heard = asyncio.Event()
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        while part := await self._process.stderr.read(4096):
            self.errors += part.decode()
            self._heard.set()
            self._heard = asyncio.Event()

    async def line(self) -> str:
        """The next line on stdout."""
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            line = await self._process.stdout.readline()
        assert line.endswith(b"\n"), (line, self.errors)
        return line.decode().rstrip("\n")

    async def says(self, text: str) -> None:
        """Wait until stderr has this."""
        async with asyncio.timeout(DEADLINE):
            while text not in self.errors:
                heard = self._heard
                assert not self._listening.done(), self.errors
                await asyncio.wait(
                    {asyncio.ensure_future(heard.wait()), self._listening},
                    return_when=asyncio.FIRST_COMPLETED,
                )

    async def write(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        await self._process.stdin.drain()

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    async def ended(self) -> int:
        """The exit code, once it has ended by itself."""
        async with asyncio.timeout(DEADLINE):
            code = await self._process.wait()
            await self._listening
        return code

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._listening


@asynccontextmanager
async def running(
    *arguments: str,
    stdin: int = DEVNULL,
    stdout: int = PIPE,
    environ: Mapping[str, str] = INHERITED,
) -> AsyncIterator[RunningCommand]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "entrypoints.cli", *arguments),
        env={**INHERITED, "PYTHONPATH": str(_ROOT), **environ},
        stdin=stdin,
        stdout=stdout,
        stderr=PIPE,
    )
    command = RunningCommand(process)
    try:
        yield command
    finally:
        await command.stop()


@asynccontextmanager
async def answering(answer: Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """The URL of something that is no hubbub: what it answers to the head of any request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(head))
        writer.write_eof()
        await reader.read()  # closed with something unread, it would be a reset
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def response(body: bytes, status: str = "200 OK", kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n"
    return head.encode() + body
