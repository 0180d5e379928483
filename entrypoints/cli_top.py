"""`hubbub top`: what a server does right now, and whose fault it is."""

import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from entrypoints.cli_remote import HERE, Key, Token, Url
from entrypoints.remote.problems import told
from entrypoints.remote.server import Server, read_target
from entrypoints.remote.top_view import HEAD_LINES, view
from entrypoints.remote.watch import Look, Watch, metrics_target

_MOST = 100  # sessions that a server lists
_LEAST = 3

Wait = Callable[[float], bool]


def top(
    once: Annotated[bool, typer.Option("--once", help="Show it once, and end.")] = False,
    interval: Annotated[
        float, typer.Option(min=0.1, metavar="S", help="Seconds between two looks.")
    ] = 2.0,
    metrics_url: Annotated[
        str | None,
        typer.Option(
            "--metrics-url",
            envvar="HUBBUB_METRICS_URL",
            metavar="URL",
            help="Where the metrics are [default: /metrics of the server].",
        ),
    ] = None,
    url: Url = HERE,
    key: Key = None,
    token: Token = None,
) -> None:
    """Watch a server: connections, rates, latency, and the sessions for which most is waiting.

    Rates and latencies (half of all / 99 of 100) are of the time between two looks. Ends with q or
    Ctrl-C; without a terminal it shows one view, as with --once. The sessions are those of the
    node that answers and take a key that may manage everything.

    \b
    Examples:
      hubbub top
      hubbub top --once
      hubbub top --url https://rooms.example.com --metrics-url http://127.0.0.1:9100/metrics
    """
    with told():
        target = read_target(url, key, token)
        console = Console()
        with Server(target) as server, Server(metrics_target(metrics_url, target)) as metrics:
            watch = Watch(server, metrics, _MOST)
            if once or not console.is_terminal:
                _seeing(watch)  # what rates begin with
                time.sleep(interval)
                console.print(view(_seeing(watch), target.url, _MOST))
                return
            with suppress(KeyboardInterrupt), _keys() as quits:
                _live(watch, console, target.url, interval, quits)


def _seeing(watch: Watch) -> Look:
    """A look that sees something. Raises Problem."""
    look = watch.look()
    if look.blind is not None:
        raise look.blind
    return look


def _live(watch: Watch, console: Console, url: str, interval: float, quits: Wait) -> None:
    look = _seeing(watch)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        pause = min(interval, 0.5)  # so that rates are there soon
        while True:
            rows = max(_LEAST, console.height - HEAD_LINES)
            live.update(view(look, url, rows), refresh=True)
            if quits(pause):
                return
            look, pause = watch.look(), interval


@contextmanager
def _keys() -> Iterator[Wait]:
    """Keys as they are pressed. What it gives waits so many seconds, and returns at once with
    True when it is q."""
    try:
        import termios
        import tty
    except ImportError:  # Windows
        yield _sleep
        return
    if not sys.stdin.isatty():
        yield _sleep
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield _pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _pressed(seconds: float) -> bool:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        ready, _, _ = select.select([sys.stdin], [], [], left)
        if ready:
            keys = os.read(sys.stdin.fileno(), 64)
            if not keys or b"q" in keys.lower():
                return True
    return False


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False
