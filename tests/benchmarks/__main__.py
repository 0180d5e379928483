"""`make bench`: hubbub beside other servers, on this machine.

Results go to docs/benchmarks. Broken off, it goes on where it was when it is started again.
"""

import argparse
import datetime
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from entrypoints.bench.compile import NotCompiled, cache_folder
from entrypoints.bench.generators import Generator, choose
from entrypoints.bench.processes import ended_by_signals, two_cores
from entrypoints.cli_serve import raise_file_limit
from tests.benchmarks import machine
from tests.benchmarks.comparison import Setup, measure
from tests.benchmarks.peers import PEERS, ROOT, Peer, Ready
from tests.benchmarks.plot import plot, plot_file
from tests.benchmarks.summary import Comparison, Entry, page
from tests.benchmarks.workshop import LeftOut, Workshop

_SPARE_FILES = 50
_OVERHEAD = 3.0  # seconds a run takes besides measuring: start, connections, stop


def _options(words: Sequence[str]) -> argparse.Namespace:
    names = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--runs", type=int, default=5, help="of each server and column [%(default)s]"
    )
    parser.add_argument("--members", type=int, default=1_000, help="of the room [%(default)s]")
    parser.add_argument(
        "--windows", type=int, nargs="+", default=[1, 16, 64], help="messages on the way [1 16 64]"
    )
    parser.add_argument(
        "--rooms", type=int, default=500, help="of one member each, 0 for none [%(default)s]"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run [%(default)s]")
    parser.add_argument("--peers", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    options, console = _options(words), Console(highlight=False, soft_wrap=True)
    try:
        generator = choose("compiled", tls=False, environ=os.environ)
    except NotCompiled as reason:
        console.print(f"The comparison needs the compiled load generator: {reason}.", markup=False)
        return 1
    setup = Setup(
        members=options.members,
        windows=tuple(options.windows),
        rooms=options.rooms,
        seconds=options.seconds,
        runs=options.runs,
        commit=machine.commit(ROOT),
    )
    raise_file_limit(max(setup.members, setup.rooms) + _SPARE_FILES)
    ready, entries = _prepare([peer for peer in PEERS if peer.name in options.peers], console)
    if not ready:
        return 1
    comparison = Comparison(
        setup=setup,
        command=shlex.join(["make", "bench", *_make_arguments(words)]),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=machine.describe(),
        peers=entries,
        runs=[],
    )
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.fresh:
        _continue(comparison, options.out, console)
    try:
        with ended_by_signals():
            _run(comparison, ready, generator, options.out, console)
    except KeyboardInterrupt:
        console.print("broken off; the same command goes on from here")
        return 130
    return 0


def _make_arguments(words: Sequence[str]) -> list[str]:
    return [f"BENCH_ARGS={shlex.join(words)}"] if words else []


def _prepare(
    peers: Sequence[Peer], console: Console
) -> tuple[list[tuple[Peer, Ready]], list[Entry]]:
    def say(text: str) -> None:
        console.print(text, markup=False)

    workshop = Workshop(cache_folder(os.environ) / "peers", os.environ, say)
    ready, entries = [], []
    for peer in peers:
        entry = Entry(peer.name, peer.about)
        entries.append(entry)
        try:
            found = peer.prepare(workshop)
        except LeftOut as reason:
            entry.left_out = str(reason)
            say(f"{peer.name} is left out: {reason}")
        else:
            entry.version = found.version
            ready.append((peer, found))
    return ready, entries


def _continue(comparison: Comparison, out: Path, console: Console) -> None:
    """Take over the runs of a comparison that was broken off."""
    try:
        before = msgspec.json.decode((out / "results.json").read_bytes(), type=Comparison)
    except (OSError, msgspec.DecodeError):
        return
    same = (before.setup, before.machine) == (comparison.setup, comparison.machine)
    if same and not before.complete:
        comparison.runs = [one for one in before.runs if one.failure is None]
        console.print(f"going on after {len(comparison.runs)} runs; --fresh begins anew")


def _run(
    comparison: Comparison,
    ready: Sequence[tuple[Peer, Ready]],
    generator: Generator,
    out: Path,
    console: Console,
) -> None:
    setup = comparison.setup
    total = len(ready) * len(list(setup.columns())) * setup.runs
    left = total - len(comparison.runs)
    minutes = left * (setup.seconds + _OVERHEAD) / 60
    console.print(f"{left} runs, about {minutes:.0f} minutes")
    try:
        for one in measure(setup, ready, generator, two_cores(), comparison.runs):
            comparison.runs.append(one)
            _save(comparison, out)
            if one.phase is None:
                what = f"failed: {one.failure}"
            else:
                what = f"{one.phase.count / one.phase.seconds:,.0f} deliveries/s"
            place = f"{len(comparison.runs)}/{total}"
            console.print(f"{place} {one.peer}, {one.column}: {what}", markup=False)
    finally:
        _publish(comparison, out)
    console.print(f"written to {out}", markup=False)


def _save(comparison: Comparison, out: Path) -> None:
    text = msgspec.json.format(msgspec.json.encode(comparison), indent=1)
    whole = out / "results.json.new"
    whole.write_bytes(text + b"\n")
    whole.replace(out / "results.json")


def _publish(comparison: Comparison, out: Path) -> None:
    plots = []
    for column in comparison.setup.columns():
        file = plot_file(column)
        (out / file).write_text(plot(comparison, column))
        plots.append((column, file))
    (out / "README.md").write_text(page(comparison, plots))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
