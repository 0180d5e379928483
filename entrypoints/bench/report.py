"""What was measured, as text to read and as JSON to keep."""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct
from rich.console import Console
from rich.text import Text

from entrypoints.bench.generators import Run
from entrypoints.bench.plan import Phase, Plan
from entrypoints.bench.scenarios import SCENARIOS, Name


class Result(Struct, omit_defaults=True):
    """One scenario. What could not be measured is left out.

    `per_second` counts `unit`; `at_least` says that the load generator, not the server, was the
    limit. `server_cpu_us` is processor time for each of `unit`, `server_cpu_share` that of the
    clock (1: a whole core). `memory_kib` is what the server's memory grew by for each connection.
    `phases` is everything the generator told.
    """

    scenario: Name
    door: str
    ok: bool
    unit: str
    members: int
    reason: str | None = None
    window: int | None = None
    rate: float | None = None
    publishers: int | None = None
    missed: int | None = None
    per_second: float | None = None
    at_least: bool | None = None
    latency_ms: dict[str, float] | None = None
    server_cpu_us: float | None = None
    server_cpu_share: float | None = None
    generator_cpu_share: float | None = None
    memory_kib: float | None = None
    phases: list[Phase] | None = None


def failed(name: Name, door: str, plan: Plan, reason: str) -> Result:
    """A scenario without a result."""
    result = _asked(name, door, plan)
    result.reason = reason
    return result


def succeeded(name: Name, door: str, plan: Plan, run: Run) -> Result:
    """A scenario that was measured."""
    scenario = SCENARIOS[name]
    phase = run.phases[scenario.phase]
    result = _asked(name, door, plan)
    result.ok = True
    if scenario.phase != "hold":
        result.at_least = not plan.rate and run.at_least(scenario.phase)
        # Nothing above what the generator can take in is its to tell.
        result.per_second = min(phase.count / phase.seconds, run.ceiling or float("inf"))
    if phase.latency_ms is not None:
        result.latency_ms = phase.latency_ms._asdict()
    if phase.server_cpu is not None:
        result.server_cpu_us = phase.server_cpu / phase.count * 1e6
        result.server_cpu_share = phase.server_cpu / phase.seconds
    result.generator_cpu_share = phase.own_cpu / phase.seconds
    before, after = run.phases["connect"].rss_kib, phase.rss_kib
    if before is not None and after is not None and name != Name.RESUME:
        result.memory_kib = (after[1] - before[0]) / plan.connections
    result.phases = list(run.phases.values())
    return result


def _asked(name: Name, door: str, plan: Plan) -> Result:
    result = Result(
        scenario=name,
        door=door,
        ok=False,
        unit=SCENARIOS[name].unit,
        members=plan.connections - (1 if plan.missed else 0),
    )
    if plan.missed:
        result.missed = plan.missed
    elif plan.messages or plan.seconds:
        result.publishers = plan.publishers
        if plan.rate:
            result.rate = plan.rate
        else:
            result.window = plan.window
    return result


def show(results: Sequence[Result], console: Console) -> None:
    """Print what was found, and what is to be said about it."""
    for result in results:
        console.print(Text.assemble((f"{result.scenario:<9}", "bold"), load(result)))
        for line in facts(result) if result.ok else [f"failed: {result.reason}"]:
            style = None if result.ok else "red"
            console.print(
                f"{'':<9}{line}", style=style, markup=False, highlight=False, soft_wrap=True
            )
    if any(result.at_least for result in results):
        console.print("at least: the load generator was the limit; the server may be faster.")


def load(result: Result) -> str:
    """What the server was put under, in a few words."""
    words = [f"{result.members:,} members at the door {result.door}"]
    if result.window is not None:
        words.append(f"{result.window:,} on the way")
    if result.rate is not None:
        words.append(f"{result.rate:g}/s")
    if result.missed is not None:
        words.append(f"{result.missed:,} messages missed")
    return ", ".join(words)


def facts(result: Result) -> Iterator[str]:
    """Lines that tell a result: speed, latencies, costs."""
    if result.per_second is not None:
        least = "at least " if result.at_least else ""
        yield f"{least}{result.per_second:,.0f} {result.unit} a second"
    if result.latency_ms is not None:
        shown = (f"{name} {_short(value)}" for name, value in result.latency_ms.items())
        yield f"latency in ms: {', '.join(shown)}"
    costs = list(_costs(result))
    if costs:
        yield f"server: {', '.join(costs)}"


def _costs(result: Result) -> Iterator[str]:
    if result.server_cpu_share is not None:
        yield f"{result.server_cpu_share:.1%} of a core"
    if result.server_cpu_us is not None and result.per_second is not None:
        yield f"{_short(result.server_cpu_us)} \N{MICRO SIGN}s for each"
    if result.memory_kib is not None:
        yield f"{_short(result.memory_kib)} KiB for each connection"


def _short(value: float) -> str:
    """Three digits or more."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


class Report(Struct):
    """The whole, for `--json`."""

    hubbub: str
    url: str | None  # None: a server of its own
    generator: str
    machine: Mapping[str, object]
    scenarios: list[Result]
