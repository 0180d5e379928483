"""What is kept of results, and how they are shown."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from tests.chaos.matrix import NOT_INJECTED, ROWS
from tests.chaos.run import Result

_MOST_SHOWN = 5  # findings of one run


class Line(msgspec.Struct):
    """One row with one seed. `delays` are in seconds, `bad` texts of broken promises."""

    row: str
    seed: int
    commit: str
    seconds: float
    published: int
    acked: int
    failed: int
    unknown: int
    unknown_applied: int
    delivered: int
    lost: int
    untold: int
    duplicated: int
    reordered: int
    gaps: int
    withdrawn: int
    told: dict[str, int]
    delays: list[float]
    notes: dict[str, float]
    bad: list[str]


def line_of(result: Result, seconds: float, commit: str) -> Line:
    verdict = result.verdict
    return Line(
        row=result.row.name,
        seed=result.seed,
        commit=commit,
        seconds=round(seconds, 1),
        published=verdict.published,
        acked=verdict.acked,
        failed=verdict.failed,
        unknown=verdict.unknown,
        unknown_applied=verdict.unknown_applied,
        delivered=verdict.delivered,
        lost=len(verdict.lost),
        untold=verdict.count("lost_untold") + verdict.count("missing"),
        duplicated=verdict.count("duplicate") + verdict.count("applied_twice"),
        reordered=verdict.count("reorder") + verdict.count("real_time"),
        gaps=verdict.count("silent_gap") + verdict.count("log_hole"),
        withdrawn=len(verdict.withdrawn),
        told=dict(verdict.told),
        delays=[round(delay, 3) for delay in verdict.delays],
        notes={name: round(value, 2) for name, value in result.notes.items()},
        bad=[f"{one.kind} {one.room}: {one.text}" for one in result.bad],
    )


def keep(path: Path, line: Line) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as lines:
        lines.write(msgspec.json.encode(line) + b"\n")


def kept(path: Path) -> list[Line]:
    if not path.exists():
        return []
    with path.open("rb") as lines:
        return [msgspec.json.decode(line, type=Line) for line in lines]


def quantiles(delays: Sequence[float]) -> str:
    """p50, p99 and the longest, in seconds."""
    if not delays:
        return "-"
    ordered = sorted(delays)
    p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * q))] for q in (0.5, 0.99))
    return f"{p50:.2f} / {p99:.2f} / {ordered[-1]:.2f}"


def told(counts: Counter[str]) -> str:
    words = [f"{counts[w]} {w}" for w in ("gap", "rewound", "reset") if counts[w]]
    return ", ".join(words) or "-"


def summary(line: Line) -> str:
    """One run, on one line, and what was wrong with it."""
    verdict = "bad" if line.bad else "ok"
    told_ = told(Counter(line.told))
    first = (
        f"row {line.row:<4} seed {line.seed}: {verdict}, {line.seconds:.0f} s, "
        f"{line.acked}/{line.published} acknowledged, {line.delivered} delivered, "
        f"told {told_}, delay {quantiles(line.delays)} s"
    )
    more = [f"    {text}" for text in line.bad[:_MOST_SHOWN]]
    if len(line.bad) > _MOST_SHOWN:
        more.append(f"    and {len(line.bad) - _MOST_SHOWN} more")
    return "\n".join((first, *more))


_HEAD = (
    "row", "fault", "runs", "published", "acknowledged", "unknown (applied)", "delivered", "lost",
    "lost untold", "duplicated", "reordered", "left out", "told", "delay p50 / p99 / max, s",
    "also", "bad",
)  # fmt: skip


def table(lines: Iterable[Line]) -> str:
    """All rows, as Markdown."""
    by_row: dict[str, list[Line]] = {}
    for line in lines:
        by_row.setdefault(line.row, []).append(line)
    rows = [_cells(name, by_row[name]) for name in ROWS if name in by_row]
    return "\n".join((_row(_HEAD), _row(["---"] * len(_HEAD)), *map(_row, rows), ""))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(name: str, lines: Sequence[Line]) -> Iterator[str]:
    def total(field: str) -> str:
        return f"{sum(getattr(line, field) for line in lines):,}"

    yield from (name, ROWS[name].fault, str(len(lines)), total("published"), total("acked"))
    yield f"{total('unknown')} ({total('unknown_applied')})"
    for field in ("delivered", "lost", "untold", "duplicated", "reordered", "gaps"):
        yield total(field)
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(line.told)
    yield told(counts)
    yield quantiles([delay for line in lines for delay in line.delays])
    worst: dict[str, float] = {}
    for line in lines:
        for note, value in line.notes.items():
            worst[note] = max(value, worst.get(note, value))
    yield ", ".join(f"{note} {value:g}" for note, value in worst.items()) or "-"
    yield str(sum(bool(line.bad) for line in lines))


def matrix() -> str:
    """What is injected and what is expected, as Markdown; and what is not injected, and why."""
    lines = ["| row | fault | injected | expected |", "|---|---|---|---|"]
    lines += [_row((r.name, r.fault, r.injected, r.expected)) for r in ROWS.values()]
    lines += ["", "Not injected:", "", "| row | fault | why |", "|---|---|---|"]
    lines += [_row((name, fault, why)) for name, (fault, why) in NOT_INJECTED.items()]
    return "\n".join((*lines, ""))
