"""Several processes on one machine behind one address: for more than one core.

The parent binds the address and watches; each worker is a node of its own with the server that a
single process runs, and accepts from the same sockets. A worker that ends by itself is replaced.
"""

import logging
import logging.config
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

from entrypoints.bind import address
from entrypoints.logs import configure_logging
from entrypoints.server import build_server
from entrypoints.settings import Settings

logger = logging.getLogger("hubbub.workers")

_SETTLED = 10.0  # seconds after which a worker counts as one that can work here
_RESPAWN_PAUSE = 1.0  # seconds before a worker that ended is replaced
_TICK = 0.2
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Workers:
    """As many as `settings.workers`. TERM and INT are passed on as TERM; so is a second one."""

    def __init__(
        self,
        settings: Settings,
        sockets: list[socket.socket],
        operations: list[socket.socket] | None = None,
    ) -> None:
        """`operations` are the sockets of the port for operations, if there is one: any worker
        answers there, for all of them."""
        self._settings = settings
        self._sockets = sockets
        self._operations = operations
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[SpawnProcess, float] = {}  # and when each was started
        self._due: list[float] = []  # when to start another
        self._stopping = False
        self._code = 0

    def run(self) -> int:
        """Returns the exit code once every worker has ended."""
        folder = Path(tempfile.mkdtemp(prefix="hubbub-"))
        try:
            with self._signals():
                for _ in range(self._settings.workers):
                    self._start(folder)
                logger.info("%s workers, running on %s", self._settings.workers, self._url())
                self._tell_operations()
                while self._processes or self._due:
                    self._watch(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return self._code

    def _url(self) -> str:
        port = self._sockets[0].getsockname()[1]
        return address("https" if self._settings.tls else "http", self._settings.host, port)

    def _tell_operations(self) -> None:
        if self._operations is not None:
            port = self._operations[0].getsockname()[1]
            where = address("http", self._settings.operations.host, port)
            logger.info("operations at %s", where)

    def _start(self, folder: Path) -> None:
        process = self._context.Process(
            target=work,
            args=(self._settings, self._sockets, folder, self._operations),
            name="hubbub worker",
        )
        process.start()
        self._processes[process] = time.monotonic()

    def _watch(self, folder: Path) -> None:
        wait([process.sentinel for process in self._processes], timeout=_TICK)
        for process, started in list(self._processes.items()):
            if process.exitcode is not None:
                del self._processes[process]
                self._ended(process, time.monotonic() - started)
        now = time.monotonic()
        due, self._due = [at for at in self._due if at <= now], [at for at in self._due if at > now]
        for _ in due:
            self._start(folder)

    def _ended(self, process: SpawnProcess, age: float) -> None:
        code = process.exitcode or 0
        process.join()
        if self._stopping:
            self._code = self._code or code
            return
        logger.error("worker %s ended with %s after %.0f s", process.pid, code, age)
        if age < _SETTLED:  # the next one would fare no better
            self._code = code or 1
            self._stop()
        else:
            self._due.append(time.monotonic() + _RESPAWN_PAUSE)

    def _stop(self) -> None:
        self._stopping = True
        self._due.clear()
        for process in self._processes:
            process.terminate()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def handle(number: int, frame: FrameType | None) -> None:
            self._stop()

        before = {number: signal.signal(number, handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def work(
    settings: Settings,
    sockets: list[socket.socket],
    folder: Path,
    operations: list[socket.socket] | None = None,
) -> None:
    """One worker, from start to end. `folder` is where workers find each other, `operations` the
    sockets of the port for operations."""
    os.setpgid(0, 0)  # Ctrl-C is for the parent, which passes it on
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    configure_logging(settings.log_level, settings.log_format)
    server = build_server(settings, folder, operations)
    server.run(sockets)
    sys.exit(server.exit_code)


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
