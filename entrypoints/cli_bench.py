"""`hubbub bench`: how fast is a server, on this machine?"""

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from entrypoints.bench.compile import NotCompiled
from entrypoints.bench.costs import NoSuchProcess, process_tree
from entrypoints.bench.generators import Generator, Kind, RunFailed, choose, run
from entrypoints.bench.plan import MAX_TEXT, Plan, Progress
from entrypoints.bench.processes import (
    Cores,
    NoServer,
    ended_by_signals,
    local_server,
    two_cores,
)
from entrypoints.bench.report import Report, Result, failed, show, succeeded
from entrypoints.bench.scenarios import SCENARIOS, Name, Wish, plan_for
from entrypoints.bench.target import (
    BadTarget,
    Dialect,
    Target,
    main_door,
    read_url,
    subject,
    tutorial_door,
)
from entrypoints.cli_serve import raise_file_limit

_FAILED, _USAGE = 1, 2
_SPARE_FILES = 50
_MOST_PAYLOAD = MAX_TEXT - 1_000  # leaves room for the frame around it

Door = Literal["tutorial", "v1"]

# What may be in a reason, and what is to be done about it.
_ADVICE = {
    "Connection refused": "is the server running? Without --url one is started for you",
    "rate_limited": "set HUBBUB_LIMITS__MESSAGES_PER_SECOND=0 and "
    "HUBBUB_LIMITS__COMMANDS_PER_SECOND=0 there while it is measured, or send slower with --rate",
    " 503 ": "the server is full: raise HUBBUB_LIMITS__CONNECTIONS there, or from another machine "
    "set HUBBUB_LIMITS__HANDSHAKES_PER_SECOND=0 while it is measured, or lower --members",
    "token_": "hand in another with --token; `hubbub token` makes one",
    ": 4100 ": "too many for that server: lower --members, or raise "
    "HUBBUB_LIMITS__CONNECTIONS_PER_USER (with --token all are one user), _PER_ADDRESS or "
    "HUBBUB_LIMITS__CONNECTIONS there",
    ": 4102 ": "the members could not read that fast: lower --window or --rate",
    "all they missed": "a room keeps 100 messages unless told otherwise: lower --missed",
}


class _Unusable(Exception):
    """The command cannot be carried out as given; the text says what to change."""


class _Aim(NamedTuple):
    """What the load goes to. `target` None: a server of its own for each scenario."""

    target: Target | None
    door: Door
    token: str | None
    payload: int
    pids: tuple[int, ...]

    def door_of(self, name: Name) -> Door:
        # Only there do clients have positions to come back with.
        return "v1" if name == Name.RESUME else self.door

    def dialect(self, name: Name) -> Dialect:
        prefix = "" if self.target is None else self.target.prefix
        user = None if self.token is None else subject(self.token)
        make = main_door if self.door_of(name) == "v1" else tutorial_door
        return make(prefix, user, self.payload)


def bench(
    scenarios: Annotated[
        list[Name] | None,
        typer.Argument(metavar="[SCENARIO]...", help="What to measure [default: all five]."),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Server to put under load, like ws://127.0.0.1:8000 [default: one of its own].",
        ),
    ] = None,
    door: Annotated[
        Door, typer.Option(help="/ws/rooms/... or /v1/ws. resume always uses /v1/ws.")
    ] = "tutorial",
    token: Annotated[
        str | None, typer.Option(metavar="JWT", help="For a server with auth.mode=jwt.")
    ] = None,
    members: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Connections [default: 1000; rooms, resume: 500]."),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="W", help="Messages on the way at a time [default: 16; rooms: one each]."
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.001, metavar="R", help="Messages a second instead, whatever comes back."
        ),
    ] = None,
    publishers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Who publish in fan-out [default: 1].")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.01, metavar="S", help="How long to measure.")
    ] = 5.0,
    messages: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Publish that many instead.")
    ] = None,
    missed: Annotated[
        int, typer.Option(min=1, metavar="N", help="Messages missed in resume.")
    ] = 50,
    payload: Annotated[
        int,
        typer.Option(max=_MOST_PAYLOAD, metavar="BYTES", help="Least length of a message's text."),
    ] = 0,
    pid: Annotated[
        int | None,
        typer.Option(metavar="PID", help="Process of the server at URL, to see what it costs."),
    ] = None,
    generator: Annotated[
        Kind, typer.Option(help="Who makes the load; auto: compiled if there is a C compiler.")
    ] = "auto",
    patience: Annotated[
        float, typer.Option(min=0.1, metavar="S", help="Give up after so long without news.")
    ] = 10.0,
    json: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the results there; - is stdout.")
    ] = None,
) -> None:
    """Measure a server: how fast, how evenly, at what cost.

    Every run also checks that each member gets each message once and in order. The load goes to
    this machine only, unless --url names another: measure only servers that are yours.

    \b
    Scenarios:
      fan-out  one room; everybody gets every message
      rooms    rooms of one member; a message in and out
      connect  from nothing to being in a room
      idle     memory and processor time of silent members
      resume   all are cut off, come back at once and get what they missed

    \b
    Examples:
      hubbub bench
      hubbub bench fan-out --members 200 --window 64 --seconds 2
      hubbub bench fan-out --door v1 --rate 50 --url ws://127.0.0.1:8000 --pid 4242
      hubbub bench rooms resume --json results.json
    """
    wish = Wish(
        members=members,
        window=window,
        rate=rate,
        publishers=publishers,
        seconds=seconds,
        messages=messages,
        missed=missed,
        patience=patience,
    )
    names = list(dict.fromkeys(scenarios or SCENARIOS))
    with _clear_errors(), ended_by_signals():
        aim = _aim(url, door, token, payload, pid)
        for name in names:
            _check_files(name, wish)
        load = choose(generator, aim.target is not None and aim.target.tls, os.environ)
        console = Console(stderr=json == "-")
        results = _measure_all(names, aim, wish, load)
        show(results, console)
        if load.why:
            console.print(f"The Python load generator was used: {load.why}.", markup=False)
        if json is not None:
            _write(json, _report(url, load, results))
    if not all(result.ok for result in results):
        raise typer.Exit(_FAILED)


def _aim(url: str | None, door: Door, token: str | None, payload: int, pid: int | None) -> _Aim:
    if url is None and (token is not None or pid is not None):
        raise _Unusable("--token and --pid belong to a server named by --url")
    pids = () if pid is None else process_tree(pid)
    return _Aim(None if url is None else read_url(url), door, token, payload, pids)


def _check_files(name: Name, wish: Wish) -> None:
    needed = (wish.members or SCENARIOS[name].members) + _SPARE_FILES
    files = raise_file_limit(needed)
    if files is not None and files.now < needed:
        raise _Unusable(
            f"{name} needs about {needed} open files and this process may open {files.now}: "
            "raise that (ulimit -Hn, LimitNOFILE=) or lower --members"
        )


def _measure_all(names: Sequence[Name], aim: _Aim, wish: Wish, load: Generator) -> list[Result]:
    results: list[Result] = []
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        for name in names:
            results.append(_measure(name, aim, wish, load, bars))
            if "cannot connect" in (results[-1].reason or ""):
                break
    return results


def _measure(name: Name, aim: _Aim, wish: Wish, load: Generator, bars: Bars) -> Result:
    task = bars.add_task(name, total=None)

    def show_progress(progress: Progress) -> None:
        text = f"{name} ({progress.phase})"
        bars.update(task, description=text, completed=progress.done, total=progress.of)

    dialect, door = aim.dialect(name), aim.door_of(name)
    cores = two_cores() if aim.target is None else Cores()
    plan = plan_for(name, Plan(port=0), dialect, wish)
    try:
        with _served(plan, aim, cores) as there:
            found = run(
                load,
                there,
                core=cores.load,
                token=aim.token,
                environ=os.environ,
                progress=show_progress,
            )
            return succeeded(name, door, plan, found)
    except (RunFailed, NoServer) as problem:
        return failed(name, door, plan, _advised(str(problem)))
    finally:
        bars.remove_task(task)


@contextmanager
def _served(plan: Plan, aim: _Aim, cores: Cores) -> Iterator[Plan]:
    """The plan with the address of a server that is there."""
    if aim.target is not None:
        host, port, tls, host_header, _ = aim.target
        yield replace(plan, host=host, port=port, tls=tls, host_header=host_header, pids=aim.pids)
        return
    with local_server(cores.server, plan.connections, plan.missed) as server:
        yield replace(plan, port=server.port, pids=process_tree(server.pid))


def _advised(reason: str) -> str:
    advice = [f" ({what})" for sign, what in _ADVICE.items() if sign in reason]
    return reason + "".join(advice[:1])


def _report(url: str | None, load: Generator, results: list[Result]) -> Report:
    machine = {
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "processor": platform.machine(),
        "python": platform.python_version(),
    }
    return Report(_version(), url, load.name, machine, results)


def _version() -> str:
    try:
        return installed_version("hubbub")
    except PackageNotFoundError:
        return "unknown"


def _write(path: str, report: Report) -> None:
    text = msgspec.json.format(msgspec.json.encode(report)).decode() + "\n"
    if path == "-":
        typer.echo(text, nl=False)
        return
    try:
        Path(path).write_text(text)
    except OSError as error:
        raise _Unusable(f"--json {path} cannot be written: {error.strerror}") from None


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Tell problems as text instead of a traceback, and exit with 2."""
    try:
        yield
        return
    except (_Unusable, BadTarget, NotCompiled, NoSuchProcess) as error:
        problem = str(error)
    typer.echo(f"hubbub: {problem}", err=True)
    raise typer.Exit(_USAGE)
