"""`python -m tests.benchmarks.steps`: what each step of the fast lane buys, on this machine.

Prints, as a Markdown table, the processor time hubbub takes as it is and with one step undone at a
time. The servers take turns, so that what a busy or hot machine does to one it does to all.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
from rich.console import Console

from entrypoints.bench.compile import NotCompiled, cache_folder
from entrypoints.bench.generators import Generator, choose
from entrypoints.bench.processes import ended_by_signals, two_cores
from entrypoints.cli_serve import raise_file_limit
from tests.benchmarks import machine
from tests.benchmarks.comparison import Measured, Setup, measure
from tests.benchmarks.peers import PEERS, ROOT, Peer, Ready
from tests.benchmarks.step_table import AS_IT_IS, Report, cpu_us, report, table
from tests.benchmarks.without import STEPS
from tests.benchmarks.workshop import Workshop

# By the name of their peer. At the first a member is told that it is in, and who publishes gets an
# acknowledgement besides the message.
_DOORS = {"v1": "hubbub /v1/ws", "tutorial": "hubbub"}
_SPARE_FILES = 50


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{text} is not more than 0")
    return number


def _options(words: Sequence[str]) -> argparse.Namespace:
    steps = [name for name in STEPS if name != AS_IT_IS]
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.steps",
        description=__doc__,
        epilog="Steps: " + "; ".join(f"{name}: {STEPS[name].about}" for name in steps),
    )
    parser.add_argument("--runs", type=_count, default=3, help="of each cell [%(default)s]")
    parser.add_argument("--members", type=_count, default=1_000, help="of the room [%(default)s]")
    parser.add_argument(
        "--windows", type=_count, nargs="+", default=[1, 16, 64], help="messages on the way"
    )
    parser.add_argument(
        "--rooms", type=_count, default=1_000, help="of one member each [%(default)s]"
    )
    parser.add_argument("--seconds", type=_seconds, default=2.0, help="of a run [%(default)s]")
    parser.add_argument("--steps", nargs="+", choices=steps, default=steps, metavar="STEP")
    parser.add_argument("--door", choices=_DOORS, default="v1", help="[%(default)s]")
    parser.add_argument("--json", metavar="FILE", help="write everything there; - is stdout")
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    options, console = _options(words), Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        generator = choose("compiled", tls=False, environ=os.environ)
    except NotCompiled as reason:
        console.print(f"This needs the compiled load generator: {reason}.", markup=False)
        return 1
    setup = Setup(
        members=options.members,
        windows=tuple(dict.fromkeys(options.windows)),
        rooms=options.rooms,
        seconds=options.seconds,
        runs=options.runs,
        commit=machine.commit(ROOT),
    )
    raise_file_limit(max(setup.members, setup.rooms) + _SPARE_FILES)
    steps = [AS_IT_IS, *dict.fromkeys(options.steps)]
    peers = variants(options.door, steps)
    runs, code = _run(setup, peers, generator, console)
    found = report(options.door, setup, steps, runs)
    if options.json == "-":
        sys.stdout.write(_json(found))
    else:
        sys.stdout.write(table(found))
        if options.json is not None:
            Path(options.json).write_text(_json(found))
    return code


def _run(
    setup: Setup, peers: Sequence[tuple[Peer, Ready]], generator: Generator, console: Console
) -> tuple[list[Measured], int]:
    """What was measured until the end or an interruption, and the exit code for it."""
    runs: list[Measured] = []
    total = len(peers) * len(list(setup.columns())) * setup.runs
    try:
        with ended_by_signals():
            for one in rounds(setup, peers, generator):
                runs.append(one)
                place = f"{len(runs)}/{total} without {one.peer}, {one.column}"
                console.print(f"{place}: {_outcome(one)}", markup=False)
    except KeyboardInterrupt:
        console.print("broken off; what there is:")
        return runs, 130
    return runs, int(any(one.failure is not None for one in runs))


def rounds(
    setup: Setup, peers: Sequence[tuple[Peer, Ready]], generator: Generator
) -> Iterator[Measured]:
    """All runs. Those that are compared come right behind each other, and every other time in the
    opposite order: a machine that slows down does it for all."""
    alone = msgspec.structs.replace(setup, windows=(), rooms=0, runs=1)
    each = [msgspec.structs.replace(alone, windows=(window,)) for window in setup.windows]
    each.append(msgspec.structs.replace(alone, rooms=setup.rooms))
    for number in range(1, setup.runs + 1):
        for column in each:
            order = peers if number % 2 else peers[::-1]
            for one in measure(column, order, generator, two_cores(), []):
                one.number = number
                yield one


def _outcome(one: Measured) -> str:
    if one.phase is None:
        return f"failed: {one.failure}"
    return f"{one.phase.count / one.phase.seconds:,.0f}/s, {cpu_us(one.phase):.2f} µs each"


def variants(door: str, steps: Sequence[str]) -> list[tuple[Peer, Ready]]:
    """Hubbub without these steps, as the servers of a comparison."""
    hubbub = next(peer for peer in PEERS if peer.name == _DOORS[door])
    ready = hubbub.prepare(Workshop(cache_folder(os.environ), os.environ, lambda _: None))
    python, option, _, *arguments = ready.command
    return [
        (
            Peer(step, STEPS[step].about, lambda _: ready, hubbub.plan),
            replace(ready, command=(python, option, "tests.benchmarks.without", step, *arguments)),
        )
        for step in steps
    ]


def _json(found: Report) -> str:
    return msgspec.json.format(msgspec.json.encode(found), indent=1).decode() + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
