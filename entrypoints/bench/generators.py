"""Chooses a load generator and runs it."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, NamedTuple

import msgspec

from entrypoints.bench.compile import NotCompiled, build_generator
from entrypoints.bench.plan import Ceiling, End, Event, Failed, Phase, Plan, Progress, read_event
from entrypoints.bench.processes import end, on_core

_ROOT = Path(__file__).parents[2]
_STOP = 2.0  # seconds a generator has to end when told to
_SATURATED = 0.9  # of a core or of the ceiling: above it the server may be faster than measured

Kind = Literal["auto", "compiled", "python"]


class RunFailed(Exception):
    """There is no result; the text says why."""


class Generator(NamedTuple):
    """`program` None: the one in Python. `why` says why it is not the compiled one."""

    program: Path | None
    why: str = ""

    @property
    def name(self) -> str:
        return "python" if self.program is None else "compiled"

    def command(self, plan: Plan) -> list[str]:
        if self.program is not None:
            return [str(self.program), *plan.options()]
        module = "entrypoints.bench.python_generator"
        return [sys.executable, "-m", module, msgspec.json.encode(plan).decode()]


def choose(kind: Kind, tls: bool, environ: Mapping[str, str]) -> Generator:
    """The compiled generator where it can be had. Raises NotCompiled if it was asked for and
    cannot."""
    try:
        if kind == "python":
            return Generator(None, "as asked for")
        if tls:
            raise NotCompiled("the compiled one knows no TLS")
        return Generator(build_generator(environ))
    except NotCompiled as reason:
        if kind == "compiled":
            raise
        return Generator(None, str(reason))


@dataclass(slots=True)
class Run:
    """What a generator told."""

    phases: dict[str, Phase] = field(default_factory=dict)
    ceiling: float | None = None

    def at_least(self, name: str) -> bool:
        """Whether the generator had no room left in that phase: the server may be faster."""
        phase = self.phases[name]
        rate = phase.count / phase.seconds
        limited = self.ceiling is not None and rate >= _SATURATED * self.ceiling
        # On a busy machine neither has a whole core: who needs more of it holds the other up.
        slower = phase.server_cpu is not None and phase.own_cpu > phase.server_cpu
        return limited or slower or phase.own_cpu >= _SATURATED * phase.seconds


def run(
    generator: Generator,
    plan: Plan,
    *,
    core: int | None = None,
    token: str | None = None,
    environ: Mapping[str, str],
    progress: Callable[[Progress], None] = lambda _: None,
) -> Run:
    """Run a plan to its end. Raises RunFailed; leaves no process behind, whatever happens."""
    environment = {**environ, "PYTHONPATH": str(_ROOT)}
    if token is not None:
        environment["BENCH_AUTHORIZATION"] = f"Bearer {token}"
    found = Run()
    with tempfile.TemporaryFile() as errors:
        with on_core(core):
            process = subprocess.Popen(
                generator.command(plan),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if _take(read_event(line), found, progress):
                    return found
            raise RunFailed(_last_words(process, errors))
        finally:
            end(process, _STOP)
            if process.stdout is not None:
                process.stdout.close()


def _take(event: Event, found: Run, progress: Callable[[Progress], None]) -> bool:
    """Returns whether it was the last one."""
    match event:
        case Progress():
            progress(event)
        case Phase():
            found.phases[event.phase] = event
        case Ceiling():
            found.ceiling = event.per_second
        case Failed(reason):
            raise RunFailed(reason)
        case End():
            return True
    return False


def _last_words(process: subprocess.Popen[bytes], errors: IO[bytes]) -> str:
    code = process.wait()
    errors.seek(0)
    lines = errors.read().decode(errors="replace").splitlines()
    return f"the load generator ended with code {code}: {lines[-1] if lines else 'no word'}"
