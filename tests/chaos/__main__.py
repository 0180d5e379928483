"""`python -m tests.chaos`: harm a running system row by row and check what it promised.

Runs every row of the fault matrix with every seed, each on real nodes and a real Redis, and ends
with a table. Results are kept as they come: broken off, it goes on where it was. The exit code is
1 when any promise was broken.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from entrypoints.bench.processes import ended_by_signals
from entrypoints.cli_serve import raise_file_limit
from tests.benchmarks import machine
from tests.chaos import document, soak
from tests.chaos.builds import NoBuild, last_release, sources
from tests.chaos.matrix import ROWS
from tests.chaos.report import Line, keep, kept, line_of, summary, table
from tests.chaos.run import Row, perform
from tests.chaos.system import System

ROOT = Path(__file__).parents[2]
_FILES = 12_000  # open at once, in the storm
_STARTED_ANEW = 10  # runs on one system before another is taken
UPGRADE = "11"


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 1 [%(default)s]")
    parser.add_argument(
        "--other",
        metavar="COMMIT",
        default=last_release(),
        help=f"what row {UPGRADE} upgrades from; without it that row is left out [the last tag]",
    )
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--hours", type=float, help="mix faults for so long instead, and plot")
    parser.add_argument("--fresh", action="store_true", help="forget the results there are")
    parser.add_argument("--document", action="store_true", help=f"write {document.PATH}")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / ".chaos", help="of results and histories"
    )
    return parser.parse_args(words)


def _rows(names: Sequence[str], other: str | None, builds: Path) -> list[Row]:
    """Raises NoBuild."""
    rows = [ROWS[name] for name in names if name != UPGRADE]
    if UPGRADE in names and other is None:
        _say(f"row {UPGRADE} is left out: it needs another build (--other COMMIT)")
    elif UPGRADE in names and other is not None:
        row = ROWS[UPGRADE]
        setting = replace(row.setting, build=sources(other, builds))
        rows.append(replace(row, setting=setting))
    return rows


def main(words: Sequence[str]) -> int:
    options = _options(words)
    raise_file_limit(_FILES)
    if options.hours is not None:
        return asyncio.run(soak.soak(options.hours, options.seed or 1, options.folder))
    results = options.folder / "results.jsonl"
    if options.fresh:
        shutil.rmtree(options.folder, ignore_errors=True)
    try:
        rows = _rows(options.rows, options.other, options.folder / "builds")
    except NoBuild as missing:
        _say(f"--other {options.other}: {missing}")
        return 2
    commit = machine.commit(ROOT)
    seeds = [options.seed] if options.seed is not None else range(1, options.seeds + 1)
    there = [line for line in kept(results) if line.commit == commit]
    done = {(line.row, line.seed) for line in there}
    wanted = [(row, seed) for seed in seeds for row in rows]
    todo = [(row, seed) for row, seed in wanted if (row.name, seed) not in done]
    if len(todo) < len(wanted):
        _say(f"{len(wanted) - len(todo)} of {len(wanted)} runs are there already (--fresh)")
    try:
        with ended_by_signals():
            asyncio.run(_run_all(todo, results, commit))
    except KeyboardInterrupt:
        _say("broken off; the same command goes on from here. What there is:")
    chosen = {(row.name, seed) for row, seed in wanted}
    lines = [line for line in kept(results) if (line.row, line.seed) in chosen]
    lines = [line for line in lines if line.commit == commit]
    sys.stdout.write(table(lines))
    if options.document:
        document.write(ROOT, lines, options.other)
    return int(len(lines) < len(wanted) or any(line.bad for line in lines))


async def _run_all(todo: Sequence[tuple[Row, int]], results: Path, commit: str) -> None:
    """Runs on equal settings come behind each other and share a system, for a while."""
    order = sorted(todo, key=lambda one: str(one[0].setting))
    for group in _groups(order):
        try:
            await _run_group(group, results, commit)
        except AssertionError as failure:  # the table shows which runs are missing then
            _say(f"broken off: {failure}")


async def _run_group(group: Sequence[tuple[Row, int]], results: Path, commit: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with System(group[0][0].setting, Path(folder)) as system:
            for row, seed in group:
                _say(f"row {row.name} seed {seed}: {row.fault} ...")
                line = await _one(row, seed, system, results.parent / "histories", commit)
                keep(results, line)
                _say(summary(line))


def _groups(order: Sequence[tuple[Row, int]]) -> list[list[tuple[Row, int]]]:
    groups: list[list[tuple[Row, int]]] = []
    for one in order:
        last = groups[-1] if groups else []
        most = 1 if one[0].setting.build else _STARTED_ANEW  # an upgrade is done once
        if last and len(last) < most and last[0][0].setting == one[0].setting:
            last.append(one)
        else:
            groups.append([one])
    return groups


async def _one(row: Row, seed: int, system: System, histories: Path, commit: str) -> Line:
    began = time.monotonic()
    result = await perform(row, system, seed, histories)
    return line_of(result, time.monotonic() - began, commit)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
