"""Medians of a comparison, and the page that shows them."""

from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import NamedTuple

from msgspec import Struct

from entrypoints.bench.plan import Phase
from tests.benchmarks.comparison import Measured, Setup


class Entry(Struct):
    """A server that was compared, or (`left_out`) why not."""

    name: str
    about: str
    version: str = ""
    left_out: str | None = None


class Comparison(Struct):
    """Everything: results.json."""

    setup: Setup
    command: str
    date: str
    machine: dict[str, str]
    peers: list[Entry]
    runs: list[Measured]

    @property
    def complete(self) -> bool:
        """Whether every run was made, well or not."""
        made = {(one.peer, one.column, one.number) for one in self.runs}
        wanted = (
            (peer.name, column, number)
            for peer in self.peers
            if peer.left_out is None
            for column in self.setup.columns()
            for number in range(1, self.setup.runs + 1)
        )
        return made.issuperset(wanted)


class Cell(NamedTuple):
    """A server in one column. `rate` is deliveries a second, `cpu_us` its processor time for each,
    latencies are milliseconds, all of them medians; `low` and `high` are the rates' extremes."""

    rate: float
    low: float
    high: float
    cpu_us: float
    p50: float
    p99: float
    at_least: bool
    runs: int


def cells(comparison: Comparison, column: str) -> dict[str, Cell]:
    """By server, the fastest first. Servers without a good run are missing."""
    good: dict[str, list[Measured]] = {}
    for one in comparison.runs:
        if one.column == column and one.phase is not None:
            good.setdefault(one.peer, []).append(one)
    found = {name: _cell(runs) for name, runs in good.items()}
    return dict(sorted(found.items(), key=lambda item: -item[1].rate))


def _cell(runs: Sequence[Measured]) -> Cell:
    phases = [one.phase for one in runs if one.phase is not None]
    rates = [phase.count / phase.seconds for phase in phases]
    latencies = [phase.latency_ms for phase in phases if phase.latency_ms is not None]
    return Cell(
        rate=median(rates),
        low=min(rates),
        high=max(rates),
        cpu_us=median(_cpu_us(phase) for phase in phases),
        p50=median(latency.p50 for latency in latencies),
        p99=median(latency.p99 for latency in latencies),
        at_least=sum(one.at_least for one in runs) * 2 > len(runs),
        runs=len(runs),
    )


def _cpu_us(phase: Phase) -> float:
    return (phase.server_cpu or 0.0) / phase.count * 1e6


def page(comparison: Comparison, plots: Sequence[tuple[str, str]]) -> str:
    """The page in Markdown. `plots` are columns and their files."""
    return "\n".join(_lines(comparison, plots)) + "\n"


def _lines(comparison: Comparison, plots: Sequence[tuple[str, str]]) -> Iterator[str]:
    setup, first = comparison.setup, comparison.peers[0].name
    yield "# Benchmarks"
    yield ""
    yield (
        f"One room of {setup.members:,} members with one publisher who keeps 1 to many messages on "
        "the way (the window), and many rooms of one member each. Deliveries a second: a message "
        f"that reaches {setup.members:,} members is {setup.members:,} deliveries."
    )
    yield ""
    yield (
        "Every server has one core and the load generator another. Each number is the median over "
        f"{setup.runs} runs of {setup.seconds:g} s, taken in turns with the other servers'. A run "
        "in which a member missed a message, got one twice or out of order does not count. Compare "
        "ratios on one machine, not absolute numbers between machines."
    )
    yield ""
    yield f"## Ratio to {first}"
    yield ""
    yield ratios(comparison)
    yield ""
    yield (
        "More is faster. A number with ≥ is a lower bound: the load generator needed more "
        "processor time than the server."
    )
    yield ""
    yield "## Processor time of the server for a delivery, in µs"
    yield ""
    yield from _matrix(comparison, lambda cell, _: f"{cell.cpu_us:.2f}")
    yield ""
    yield "Less is better."
    for column, file in plots:
        yield ""
        yield f"![Deliveries a second, {column}]({file})"
    yield ""
    yield "## Numbers"
    yield from _numbers(comparison)
    yield from _surroundings(comparison)


def ratios(comparison: Comparison) -> str:
    """Rates beside that of the first server, as a table."""
    return "\n".join(_matrix(comparison, _ratio))


def _matrix(comparison: Comparison, shown: Callable[[Cell, Cell | None], str]) -> Iterator[str]:
    """Servers by columns. `shown` is given a cell and that of the first server."""
    columns = list(comparison.setup.columns())
    found = [cells(comparison, column) for column in columns]
    first = comparison.peers[0].name
    yield f"| server | {' | '.join(columns)} |"
    yield f"|---|{'---:|' * len(columns)}"
    for peer in comparison.peers:
        if peer.left_out is None:
            row = (
                shown(column[peer.name], column.get(first)) if peer.name in column else "failed"
                for column in found
            )
            yield f"| {peer.name} ({peer.about}) | {' | '.join(row)} |"


def _ratio(cell: Cell, first: Cell | None) -> str:
    if first is None:
        return "-"
    return f"{'≥ ' if cell.at_least else ''}{cell.rate / first.rate:.2f}"


def _numbers(comparison: Comparison) -> Iterator[str]:
    for column in comparison.setup.columns():
        yield ""
        yield f"### {column.capitalize()}"
        yield ""
        yield "| server | deliveries/s | lowest | highest | server CPU each | p50 | p99 | runs |"
        yield "|---|---:|---:|---:|---:|---:|---:|---:|"
        for name, cell in cells(comparison, column).items():
            least = "≥ " if cell.at_least else ""
            yield (
                f"| {name} | {least}{cell.rate:,.0f} | {cell.low:,.0f} | {cell.high:,.0f} "
                f"| {cell.cpu_us:.2f} µs | {cell.p50:.2f} ms | {cell.p99:.2f} ms | {cell.runs} |"
            )


def _surroundings(comparison: Comparison) -> Iterator[str]:
    yield ""
    yield "## What was run"
    yield ""
    for name, words in comparison.machine.items():
        yield f"- {name}: {words}"
    yield f"- date: {comparison.date}"
    yield f"- hubbub at commit: {comparison.setup.commit or 'unknown'}"
    yield f"- command: `{comparison.command}`"
    for peer in comparison.peers:
        if peer.left_out is None:
            yield f"- {peer.name}: {peer.version}"
    yield from _omissions(comparison)
    yield ""
    yield "All runs are in [results.json](results.json)."


def _omissions(comparison: Comparison) -> Iterator[str]:
    left_out = [peer for peer in comparison.peers if peer.left_out is not None]
    if left_out:
        yield ""
        yield "Left out:"
        yield ""
        yield from (f"- {peer.name}: {peer.left_out}" for peer in left_out)
    failures = [one for one in comparison.runs if one.failure is not None]
    if failures:
        yield ""
        yield "Runs that failed:"
        yield ""
        for one in failures:
            yield f"- {one.peer}, {one.column}, run {one.number}: {one.failure}"
