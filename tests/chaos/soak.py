"""Faults for hours on the same nodes, and what that costs them: memory, files and tasks.

Rows that end a node are left out, as its process has to live from the beginning to the end.
"""

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import psutil

from tests.chaos.curves import curves
from tests.chaos.matrix import ROWS
from tests.chaos.report import line_of, summary
from tests.chaos.run import history_file, perform
from tests.chaos.settings import COMMON
from tests.chaos.system import System
from tests.chaos.watched import file_of

PERIOD = 5.0  # seconds between two samples
WARM_UP = 1 / 3  # of the time; what comes before counts for no slope
ENDS_A_NODE = {"7", "9"}
MIB = 2**20


class Sample(msgspec.Struct):
    """Of one node at one moment: hours since the beginning, bytes, numbers."""

    hours: float
    node: int
    rss: int
    files: int
    tasks: int


async def soak(hours: float, seed: int, folder: Path) -> int:
    """Returns the exit code. Writes samples and a plot into the folder."""
    rng = random.Random(seed)
    names = [n for n, row in ROWS.items() if row.setting == COMMON and n not in ENDS_A_NODE]
    setting = replace(COMMON, entry=("tests.chaos.watched",))
    samples: list[Sample] = []
    bad = runs = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as nodes:
        async with System(setting, Path(nodes)) as system:
            sampling = asyncio.create_task(_sample(system, Path(nodes), samples, began))
            while time.monotonic() - began < hours * 3600:
                runs += 1
                row = ROWS[rng.choice(names)]
                number, histories = seed * 10_000 + runs, folder / "histories"
                result = await perform(row, system, number, histories)
                bad += bool(result.bad)
                if not result.bad:
                    history_file(histories, row.name, number).unlink()
                sys.stderr.write(summary(line_of(result, 0.0, "")) + "\n")
                _keep(folder, samples)
            sampling.cancel()
            with suppress(asyncio.CancelledError):
                await sampling
    _keep(folder, samples)
    sys.stdout.write(f"{runs} runs, {bad} of them bad\n{slopes(samples)}")
    sys.stdout.write(f"{folder / 'soak.svg'}\n")
    return int(bad > 0)


async def _sample(system: System, folder: Path, samples: list[Sample], began: float) -> None:
    while True:
        for number, node in enumerate(system.nodes):
            if node.process is None:
                continue
            process = psutil.Process(node.process.pid)
            with suppress(FileNotFoundError, ValueError):  # not written yet, or just now
                tasks = int(file_of(folder, process.pid).read_text())
                hours = (time.monotonic() - began) / 3600
                rss = int(process.memory_info().rss)
                samples.append(Sample(hours, number, rss, process.num_fds(), tasks))
        await asyncio.sleep(PERIOD)


def _keep(folder: Path, samples: Sequence[Sample]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "soak.json").write_bytes(msgspec.json.encode(samples))
    (folder / "soak.svg").write_text(plot(samples))


def plot(samples: Sequence[Sample]) -> str:
    panels = {
        "resident memory, MiB": _lines(samples, lambda one: one.rss / MIB),
        "open files": _lines(samples, lambda one: float(one.files)),
        "tasks": _lines(samples, lambda one: float(one.tasks)),
    }
    return curves("hubbub under mixed faults", panels)


def _lines(
    samples: Sequence[Sample], value: Callable[[Sample], float]
) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for one in samples:
        found.setdefault(f"node {one.node + 1}", []).append((one.hours, value(one)))
    return found


def slopes(samples: Sequence[Sample]) -> str:
    """How memory, files and tasks of each node went on after the beginning, in words."""
    text = ""
    for node in sorted({one.node for one in samples}):
        mine = [one for one in samples if one.node == node]
        late = mine[int(len(mine) * WARM_UP) :]
        hours = [one.hours for one in late]
        rss = slope(hours, [one.rss / MIB for one in late])
        files = slope(hours, [float(one.files) for one in late])
        tasks = slope(hours, [float(one.tasks) for one in late])
        text += (
            f"node {node + 1}: memory {rss:+.2f} MiB an hour at {late[-1].rss / MIB:.0f} MiB, "
            f"files {files:+.1f} at {late[-1].files}, tasks {tasks:+.1f} at {late[-1].tasks}\n"
        )
    return text


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the line of least squares."""
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((one - middle_x) ** 2 for one in x)
    if not spread:
        return 0.0
    return sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True)) / spread
