"""`hubbub serve` as a process of its own, for what only a process shows: signals and memory."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import psutil

_ROOT = Path(__file__).parents[1]
_LISTENING = re.compile(r"running on https?://127\.0\.0\.1:(\d+)")
_START_DEADLINE = 60.0  # seconds; a busy machine imports slowly
_STOP_DEADLINE = 20.0


class ServerProcess:
    """Listens on a free port of 127.0.0.1 from `start` to `stop`. `stderr` is what it wrote."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._lines: list[str] = []
        self._port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read())
        self.port = 0

    @classmethod
    async def start(
        cls,
        folder: Path,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
        entry: Sequence[str] = ("entrypoints.cli",),
        sources: Path = _ROOT,
    ) -> "ServerProcess":
        """`folder` is its working directory; `environ` holds its `HUBBUB_…` variables. `entry` is a
        module that ends in the command line, and words for itself; it is found in `sources`."""
        inherited = {name: text for name, text in os.environ.items() if "HUBBUB" not in name}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *entry, "serve", "--port", "0", *arguments),
            cwd=folder,
            env={**inherited, "PYTHONPATH": str(sources), **(environ or {})},
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=PIPE,
        )
        server = cls(process)
        try:
            async with asyncio.timeout(_START_DEADLINE):
                server.port = await server._port
        except TimeoutError:
            await server.stop()
            raise AssertionError(f"it does not listen: {server.stderr}") from None
        except BaseException:
            await server.stop()
            raise
        return server

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self._lines.append(line.decode())
            listening = _LISTENING.search(self._lines[-1])
            if listening and not self._port.done():
                self._port.set_result(int(listening[1]))
        if not self._port.done():
            self._port.set_exception(AssertionError(f"it ended: {self.stderr}"))

    @property
    def stderr(self) -> str:
        return "".join(self._lines)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self, within: float = _STOP_DEADLINE) -> int:
        """Wait for the end and return the exit code, negative for a signal."""
        async with asyncio.timeout(within):
            code = await self._process.wait()
            await self._reading
        return code

    def memory(self) -> int:
        """Bytes resident."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def files(self) -> int:
        """Open file descriptors."""
        return psutil.Process(self._process.pid).num_fds()

    async def stop(self) -> None:
        """End it, by force if it must be. Once is enough."""
        if self._process.returncode is None:
            self._process.terminate()
            try:
                await self.ended()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        await asyncio.gather(self._reading, return_exceptions=True)
        if self._port.done() and not self._port.cancelled():
            self._port.exception()


class ServeProcess(Protocol):
    """The fixture `serve_process`: starts `hubbub serve` with flags and `HUBBUB_…` variables."""

    async def __call__(self, *arguments: str, **environ: str) -> ServerProcess: ...
