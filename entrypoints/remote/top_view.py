"""What `hubbub top` shows."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from entrypoints.http.api.shapes import Session
from entrypoints.remote.lines import safe
from entrypoints.remote.readings import Between
from entrypoints.remote.watch import Look

HEAD_LINES = 13  # of a view without sessions
_LATENCIES = (
    ("publish", "hubbub_publish_seconds"),
    ("fan-out", "hubbub_fan_out_seconds"),
    ("broker lag", "hubbub_broker_lag_seconds"),
    ("loop lag", "hubbub_event_loop_lag_seconds"),
)
_SLOW = "4102"  # the close code of those who were cut for it
_NONE = "-"


def view(look: Look, url: str, rows: int) -> RenderableType:
    """`rows` of sessions at most."""
    parts: list[RenderableType] = [_title(look, url)]
    if look.metrics is None:
        parts.append(Text(f"no metrics: {look.no_metrics}", "yellow"))
        if look.page is not None:
            parts.append(Text(f"sessions {look.page.count}"))
    else:
        parts += [_numbers(look.metrics), _latencies(look.metrics), _ends(look.metrics)]
    if look.no_sessions is not None:
        parts.append(Text(f"no list of sessions: {look.no_sessions.text}", "yellow"))
    if look.page is not None:
        parts.append(_sessions(look.page.sessions[:rows], several=len(look.nodes) > 1))
    return Group(*parts)


def _title(look: Look, url: str) -> Text:
    nodes = ", ".join(look.nodes[:3]) + (" ..." if len(look.nodes) > 3 else "")
    answer = "" if look.answered is None else f"  answers in {_time(look.answered)}"
    return Text.assemble(("hubbub ", "bold"), (url, "cyan"), f"  {nodes}{answer}")


def _numbers(metrics: Between) -> Table:
    """What there is now, and what happens in a second."""
    grid = _grid(6)
    grid.add_row(
        *_cell("sessions", _count(metrics.total("hubbub_sessions"))),
        *_cell("users", _count(metrics.total("hubbub_users"))),
        *_cell("rooms", _count(metrics.total("hubbub_rooms"))),
    )
    grid.add_row(
        *_cell("messages in", _rate(metrics.rate("hubbub_messages_published_total"))),
        *_cell("deliveries", _rate(metrics.rate("hubbub_deliveries_total"))),
        *_cell("opened", _rate(metrics.rate("hubbub_sessions_opened_total"))),
    )
    waiting, over = metrics.total("hubbub_outbox_bytes"), metrics.total("hubbub_outboxes_over_half")
    slow = metrics.rates("hubbub_disconnects_total", "code").get(_SLOW)
    grid.add_row(
        *_cell("waiting", _bytes(waiting), "red" if over else ""),
        *_cell("over half full", _count(over), "red" if over else ""),
        *_cell("cut as slow", _rate(slow or 0.0), "red" if slow else ""),
    )
    return grid


def _latencies(metrics: Between) -> Table:
    """Half of it took no longer than the one, nearly all no longer than the other."""
    found = [
        (label, metrics.quantile(name, 0.5), metrics.quantile(name, 0.99))
        for label, name in _LATENCIES
        if metrics.total(f"{name}_count") is not None
    ]
    grid = _grid(2 * max(1, len(found)))
    if not found:
        grid.add_row(*_cell("latency", _NONE))
        return grid
    grid.add_row(
        *(
            cell
            for label, half, most in found
            for cell in _cell(label, f"{_time(half)} / {_time(most)}")
        )
    )
    return grid


def _ends(metrics: Between) -> Text:
    """Close codes of sessions that end, and other things that should be seldom."""
    causes = [
        *_named("closed", metrics.rates("hubbub_disconnects_total", "code")),
        *_named("refused", metrics.rates("hubbub_refused_connections_total", "cause")),
        *_named("too fast", metrics.rates("hubbub_rate_limited_total", "limit")),
    ]
    return Text("  ".join(causes) or "nobody left, was refused or was too fast", "dim")


def _named(label: str, rates: dict[str, float]) -> Iterator[str]:
    for value, rate in rates.items():
        yield f"{label} {safe(value)}: {_rate(rate)}"


def _sessions(sessions: Sequence[Session], *, several: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("WAITING", justify="right")
    for name in ("USER", "DOOR"):
        table.add_column(name, overflow="ellipsis", no_wrap=True)
    table.add_column("ROOMS", justify="right")
    table.add_column("AGE", justify="right")
    for name in ("ADDRESS", "SESSION", *(("NODE",) if several else ())):
        table.add_column(name, overflow="ellipsis", no_wrap=True)
    for session in sessions:
        cells = [
            _bytes(session.waiting),
            safe(session.user),
            safe(session.door),
            str(session.rooms),
            _age(session.age),
            safe(session.address or _NONE),
            safe(session.session_id),
            *([safe(session.node)] if several else []),
        ]
        table.add_row(*map(Text, cells), style="bold" if session.waiting else "")
    return table


def _grid(columns: int) -> Table:
    grid = Table.grid(padding=(0, 3, 0, 0))
    for place in range(columns):
        grid.add_column(justify="right" if place % 2 else "left", no_wrap=True)
    return grid


def _cell(label: str, value: str, style: str = "") -> tuple[Text, Text]:
    return Text(label, "dim"), Text(value, style or "bold")


def _count(value: float | None) -> str:
    return _NONE if value is None else f"{value:,.0f}"


def _rate(value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value:,.0f}/s" if value >= 10 or not value else f"{value:.1f}/s"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return _NONE
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def _bytes(value: float | None) -> str:
    if value is None:
        return _NONE
    if value < 10_000:
        return f"{value:.0f} B"
    return f"{value / 1e3:,.0f} kB" if value < 10_000_000 else f"{value / 1e6:,.0f} MB"


def _age(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
