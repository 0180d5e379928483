"""What the steps of the fast lane cost, out of the runs, as a table."""

from collections.abc import Iterator, Sequence
from statistics import median

import msgspec

from entrypoints.bench.plan import Phase
from tests.benchmarks import machine
from tests.benchmarks.comparison import Measured, Setup
from tests.benchmarks.without import STEPS

AS_IT_IS = "nothing"
"""What the server without any other step is compared with."""

CONNECT = "connect"
"""A column of its own that is measured with the small rooms: their members connect first."""

_TIMES = "\N{MULTIPLICATION SIGN}"


class Cell(msgspec.Struct):
    """A step and a column: medians over the runs. `cpu_us` is the server's processor time in
    microseconds, `ratio` that to hubbub as it is in the same round."""

    cpu_us: float
    ratio: float | None


class Report(msgspec.Struct):
    """Everything. `cells`, by step and column, has None where no run was good."""

    door: str
    setup: Setup
    machine: dict[str, str]
    cells: dict[str, dict[str, Cell | None]]
    runs: list[Measured]


def columns(setup: Setup) -> list[str]:
    return [*setup.columns(), CONNECT]


def report(door: str, setup: Setup, steps: Sequence[str], runs: list[Measured]) -> Report:
    cells = {
        step: {column: _cell(runs, step, column) for column in columns(setup)} for step in steps
    }
    return Report(door, setup, machine.describe(), cells, runs)


def _cell(runs: Sequence[Measured], step: str, column: str) -> Cell | None:
    costs, ratios = _costs(runs, step, column), _ratios(runs, step, column)
    if not costs:
        return None
    return Cell(median(costs.values()), median(ratios) if ratios else None)


def _costs(runs: Sequence[Measured], step: str, column: str) -> dict[int, float]:
    """By round."""
    connect = column == CONNECT
    measured_as = "small rooms" if connect else column
    return {
        one.number: cpu_us(phase)
        for one in runs
        if (one.peer, one.column) == (step, measured_as)
        and (phase := one.connect if connect else one.phase) is not None
    }


def _ratios(runs: Sequence[Measured], step: str, column: str) -> list[float]:
    base = _costs(runs, AS_IT_IS, column)
    costs = _costs(runs, step, column)
    return [cost / base[number] for number, cost in costs.items() if base.get(number)]


def cpu_us(phase: Phase) -> float:
    """The server's processor time for each of what the phase counts."""
    return (phase.server_cpu or 0.0) / phase.count * 1e6


def table(found: Report) -> str:
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Report) -> Iterator[str]:
    setup = found.setup
    named = columns(setup)
    yield f"| without | {' | '.join(named)} |"
    yield f"|---|{'---:|' * len(named)}"
    for step, row in found.cells.items():
        cells = (_shown(row[column], with_ratio=step != AS_IT_IS) for column in named)
        yield f"| {step}: {STEPS[step].about} | {' | '.join(cells)} |"
    yield ""
    yield (
        "Processor time of the server in µs, behind it the ratio to hubbub as it is in the same "
        f"round. Windows: for a delivery in a room of {setup.members:,} members with so many "
        f"messages on the way. Small rooms: for a message in and out, in {setup.rooms:,} rooms of "
        "one member. Connect: from nothing to being in such a room. "
        f"Door: {found.door}. Medians; rounds: {setup.runs}, with runs of {setup.seconds:g} s."
    )
    spread = _spread(found)
    if spread is not None:
        yield ""
        yield f"From round to round the ratios were up to {spread:.0%} away from these."
    yield ""
    for name, words in found.machine.items():
        yield f"- {name}: {words}"
    yield f"- hubbub at commit: {setup.commit or 'unknown'}"
    for one in found.runs:
        if one.failure is not None:
            yield f"- failed: without {one.peer}, {one.column}, run {one.number}: {one.failure}"


def _shown(cell: Cell | None, *, with_ratio: bool) -> str:
    if cell is None:
        return "failed"
    cost = f"{cell.cpu_us:,.0f}" if cell.cpu_us >= 100 else f"{cell.cpu_us:.2f}"
    return f"{cost} ({_TIMES}{cell.ratio:.2f})" if with_ratio and cell.ratio is not None else cost


def _spread(found: Report) -> float | None:
    """The most that a ratio was away from its median, as a share of it; None for one round."""
    shares = [
        abs(ratio / cell.ratio - 1)
        for step, row in found.cells.items()
        for column, cell in row.items()
        if cell is not None and cell.ratio
        for ratio in _ratios(found.runs, step, column)
    ]
    return max(shares) if shares and found.setup.runs > 1 else None
