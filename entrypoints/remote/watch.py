"""Looking at a server again and again: its metrics, and who is slow."""

import time
from collections.abc import Callable
from typing import NamedTuple

from entrypoints.http.api.shapes import SessionsPage
from entrypoints.remote.lines import safe
from entrypoints.remote.problems import Problem
from entrypoints.remote.readings import Between, NotMetrics, Reading, read
from entrypoints.remote.server import Server, Target, path, read_url

_HINT = "if they have an address of their own, name it with --metrics-url or HUBBUB_METRICS_URL"


class Look(NamedTuple):
    """What there was to see, and why not. `answered` is the seconds that the list of sessions took
    to come."""

    nodes: list[str]
    metrics: Between | None
    no_metrics: str
    page: SessionsPage | None
    no_sessions: Problem | None
    answered: float | None

    @property
    def blind(self) -> Problem | None:
        """There was nothing to see."""
        return self.no_sessions if self.metrics is None else None


class Watch:
    """Remembers what it saw of each node last."""

    def __init__(
        self,
        server: Server,
        metrics: Server,
        limit: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`metrics` has its whole address, and is shown no credential: it may be somebody else's.
        `limit` is sessions."""
        self._server = server
        self._metrics = metrics
        self._limit = limit
        self._clock = clock
        self._before: dict[str, Reading] = {}

    def look(self) -> Look:
        """Whatever goes wrong is part of it."""
        nodes, between, no_metrics = self._read()
        began = self._clock()
        try:
            query = {"limit": self._limit}
            page = self._server.ask("GET", path("sessions"), SessionsPage, params=query)
        except Problem as problem:
            return Look(nodes, between, no_metrics, None, problem, None)
        took = self._clock() - began
        return Look(nodes or [safe(page.node)], between, no_metrics, page, None, took)

    def _read(self) -> tuple[list[str], Between | None, str]:
        try:
            now = read(self._metrics.text(), self._clock())
        except Problem as problem:
            return [], None, f"{problem.text}; {_HINT}"
        except NotMetrics:
            return [], None, f"no metrics of a hubbub at {self._metrics.target.url}; {_HINT}"
        between = Between(dict(self._before), now)
        self._before.update(dict.fromkeys(now.nodes, now))
        return [safe(node) for node in now.nodes], between, ""


def metrics_target(url: str | None, target: Target) -> Target:
    """Where metrics are, by default at the server itself. No credential goes there. Raises
    Problem."""
    if url is None:
        return Target(f"{target.url}/metrics")
    named = read_url("--metrics-url", url)
    return Target(str(named.copy_with(path="/metrics")) if named.path in ("", "/") else url)
