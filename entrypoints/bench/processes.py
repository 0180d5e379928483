"""The processes of a benchmark: which core each has, and a server of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from domain.options import RoomOptions

_ROOT = Path(__file__).parents[2]
_LISTENING = re.compile(r"running on http://127\.0\.0\.1:(\d+)")
_START = 30.0  # seconds a server may take to listen
_STOP = 10.0
_LOOK_AGAIN = 0.02
# A benchmark is faster than any client, and all its clients have one address.
_UNLIMITED = {
    "HUBBUB_BACKEND": "memory",
    "HUBBUB_LIMITS__MESSAGES_PER_SECOND": "0",
    "HUBBUB_LIMITS__COMMANDS_PER_SECOND": "0",
}
_SPARE_CONNECTIONS = 100


class NoServer(Exception):
    """The server did not start; the text says why."""


class Cores(NamedTuple):
    """The core of the server and that of the load; None: wherever the system puts them."""

    server: int | None = None
    load: int | None = None


def two_cores() -> Cores:
    """One core each, where there are two to be had."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores()
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[1]) if len(usable) > 1 else Cores()


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """What is started in here runs on this core only, from its first instruction on."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def end(process: subprocess.Popen[bytes], patience: float = _STOP) -> None:
    """End a process, by force if it must be, and in any case when this is interrupted."""
    try:
        if process.poll() is None:
            process.terminate()
            process.wait(patience)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Being told to end leaves this through its `finally` clauses, which end the processes."""
    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]

    def leave(number: int, _: FrameType | None) -> None:
        # Once is enough: the next one would get in the way of ending them.
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)
        sys.exit(128 + number)

    before = [(number, signal.signal(number, leave)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


class LocalServer(NamedTuple):
    """A server on a free port of 127.0.0.1."""

    port: int
    pid: int


@contextmanager
def local_server(core: int | None, connections: int, kept: int) -> Iterator[LocalServer]:
    """A hubbub with the memory backend, without limits for so many connections, whose rooms keep
    so many messages at least. Gone at the end. Raises NoServer."""
    settings = {**_UNLIMITED, "HUBBUB_LIMITS__CONNECTIONS": str(connections + _SPARE_CONNECTIONS)}
    if kept > RoomOptions().history_size:
        settings["HUBBUB_ROOMS"] = json.dumps([{"match": "*", "history_size": kept}])
    with tempfile.TemporaryDirectory() as folder:  # has no hubbub.toml
        log = Path(folder) / "log"
        with log.open("wb") as output, on_core(core):
            process = subprocess.Popen(
                [sys.executable, "-m", "entrypoints.cli", "serve", "--port", "0"],
                cwd=folder,
                env=_environment(os.environ) | settings,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=output,
            )
        try:
            yield LocalServer(_port(process, log), process.pid)
        finally:
            end(process)


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Without the settings of whoever runs the benchmark, and with this hubbub."""
    kept = {name: text for name, text in environ.items() if not name.upper().startswith("HUBBUB")}
    return {**kept, "PYTHONPATH": str(_ROOT)}


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline:
        said = log.read_text(errors="replace")
        listening = _LISTENING.search(said)
        if listening:
            return int(listening[1])
        if process.poll() is not None:
            raise NoServer(f"the server ended before it listened:\n{said.rstrip()}")
        time.sleep(_LOOK_AGAIN)
    raise NoServer(f"the server did not listen within {_START:g} s")
