"""Runs servers side by side: one after the other, again and again, so that what a busy or hot
machine does to one it does to all."""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from msgspec import Struct

from entrypoints.bench.costs import process_tree
from entrypoints.bench.generators import Generator, RunFailed, run
from entrypoints.bench.plan import Phase, Plan
from entrypoints.bench.processes import Cores, NoServer, end, on_core
from tests.benchmarks.peers import Peer, Ready

_START = 30.0  # seconds a server may take to listen
_LOOK_AGAIN = 0.02


class Setup(Struct, frozen=True):
    """What is measured. `rooms` is the number of rooms of one member, 0 for none; `commit` that of
    hubbub, so that a comparison is not continued with another version."""

    members: int
    windows: tuple[int, ...]
    rooms: int
    seconds: float
    runs: int
    commit: str

    def columns(self) -> Iterator[str]:
        yield from (f"window {window}" for window in self.windows)
        if self.rooms:
            yield "small rooms"

    def plan(self, column: str, peer: Peer) -> Plan:
        """One run of a column."""
        plan = replace(peer.plan, seconds=self.seconds)
        if column == "small rooms":
            many = self.rooms
            return replace(plan, connections=many, rooms=many, publishers=many, window=many)
        return replace(plan, connections=self.members, window=int(column.removeprefix("window ")))


class Measured(Struct):
    """One run. Exactly one of `phase` and `failure` is there."""

    peer: str
    column: str
    number: int
    phase: Phase | None = None
    connect: Phase | None = None
    at_least: bool = False
    failure: str | None = None


def measure(
    setup: Setup,
    peers: Sequence[tuple[Peer, Ready]],
    generator: Generator,
    cores: Cores,
    done: Sequence[Measured],
) -> Iterator[Measured]:
    """All runs that are not done yet, one by one. A server that fails does not end it."""
    known = {(one.peer, one.column, one.number) for one in done if one.failure is None}
    for number in range(1, setup.runs + 1):
        for peer, ready in peers:
            columns = [
                column for column in setup.columns() if (peer.name, column, number) not in known
            ]
            yield from _visit(setup, peer, ready, columns, number, generator, cores)


def _visit(
    setup: Setup,
    peer: Peer,
    ready: Ready,
    columns: Sequence[str],
    number: int,
    generator: Generator,
    cores: Cores,
) -> Iterator[Measured]:
    for column in columns:
        try:
            # Afresh each time: what one run did to a server is not the next one's business.
            with started(ready, cores.server) as (port, pids):
                plan = replace(setup.plan(column, peer), port=port, pids=pids)
                found = run(generator, plan, core=cores.load, environ=os.environ)
        except (RunFailed, NoServer) as reason:
            yield Measured(peer.name, column, number, failure=str(reason))
            continue
        phases = found.phases
        least = found.at_least("measure")
        yield Measured(peer.name, column, number, phases["measure"], phases["connect"], least)


@contextmanager
def started(ready: Ready, core: int | None) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Port and processes of a server, gone at the end. Raises NoServer."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), _free_port()
        words = {
            "@PORT@": str(port),
            "@OTHER_PORT@": str(_free_port()),
            "@CONFIG@": str(folder / "config"),
        }
        (folder / "config").write_text(_filled(ready.config, words))
        log = folder / "log"
        with log.open("wb") as output, on_core(core):
            process = subprocess.Popen(
                [_filled(word, words) for word in ready.command],
                cwd=folder,
                env=_clean(os.environ) | dict(ready.environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            _wait(process, port, log)
            yield port, process_tree(process.pid)
        finally:
            end(process)


def _filled(text: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text


def _clean(environ: Mapping[str, str]) -> dict[str, str]:
    mine = ("HUBBUB", "PYTHONPATH", "NODE_OPTIONS", "GOMAXPROCS")
    return {name: text for name, text in environ.items() if not name.upper().startswith(mine)}


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise NoServer(f"it ended before it listened: {_last_line(log)}")
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(_LOOK_AGAIN)
    raise NoServer(f"it did not listen within {_START:g} s: {_last_line(log)}")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    said = [line for line in lines if line.strip()]
    return said[-1] if said else "no word"
