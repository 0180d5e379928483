"""`hubbub top`: from numbers to whoever is to blame."""

import asyncio
import io
import os
import pty
import re
import signal
import sys
import termios
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from rich.console import Console

from entrypoints.http.api.shapes import Session, SessionsPage
from entrypoints.remote.problems import Exit
from entrypoints.remote.readings import Between, NotMetrics, read
from entrypoints.remote.server import Target
from entrypoints.remote.top_view import view
from entrypoints.remote.watch import Look, metrics_target
from tests.api import KEY, WITH_A_KEY
from tests.command_line import answering, complaint, response, told
from tests.peer import DEADLINE, until
from tests.raw_client import RawClient
from tests.redis_proxy import RedisProxy
from tests.running_server import RunningServer, Serve
from tests.tokens import JWT, token


@pytest.fixture
def transport() -> str:
    """Only there can be seen what waits."""
    return "lane"


async def once(server: RunningServer, *options: str, **environ: str) -> str:
    """One view, as wide as it needs to be."""
    ask = ("top", "--once", "--interval", "0.1", "--url", server.url, *options)
    return await told(*ask, **{"COLUMNS": "200", **environ})


async def test_whoever_does_not_read_stands_at_the_top(serve: Serve) -> None:
    server = await serve(limits={"messages_per_second": 0})
    server.narrow()
    talker = await server.user("talker")
    deaf = await RawClient.connect(server.port, "/v1/ws?user=deaf")
    await deaf.send({"type": "join", "room": "r"})
    await until(lambda: server.sessions() == 2 and server.metric("rooms") == 3)
    while server.backlog() < 600_000:
        await talker.ask("publish", room="r", data="x" * 20_000)
    view = await once(server)
    rows = [line.split() for line in view[view.index("WAITING") :].splitlines()]
    assert rows[0] == ["WAITING", "USER", "DOOR", "ROOMS", "AGE", "ADDRESS", "SESSION"]
    found = [row for row in rows if "/v1/ws" in row]
    assert [row[2] for row in found] == ["deaf", "talker"]
    waiting, unit = found[0][:2]
    assert (int(waiting) >= 600, unit) == (True, "kB")
    (session,) = server.container.hub().sessions_of(found[0][2])  # type: ignore[arg-type]
    assert found[0][-1] == session.id  # as the log has it
    assert re.search(r"sessions +2 ", view)
    assert server.container.node_name() in view
    deaf.close()


async def test_who_may_not_list_sessions_still_sees_numbers(serve: Serve) -> None:
    server = await serve(**JWT, **WITH_A_KEY)
    for environ in ({}, {"HUBBUB_TOKEN": token("ann")}, {"HUBBUB_API_KEY": "wrong"}):
        view = await once(server, **environ)
        assert "no list of sessions: " in view
        assert re.search(r"sessions +0 ", view)
    assert "WAITING" in await once(server, HUBBUB_API_KEY=KEY)


@pytest.mark.parametrize(
    "stranger",
    [
        lambda head: response(b"hello", "404 Not Found"),
        lambda head: response(b"up 1\n", kind="text/plain"),
        lambda head: response(b"<html> is { no metrics", kind="text/html"),
        lambda head: response(b'hubbub_sessions{a="\n', kind="text/plain"),
    ],
)
async def test_without_metrics_it_still_shows_sessions(
    serve: Serve, stranger: Callable[[bytes], bytes]
) -> None:
    server = await serve(**WITH_A_KEY)
    await server.user("ann")
    heads = []

    def answer(head: bytes) -> bytes:
        heads.append(head)
        return stranger(head)

    async with answering(answer) as url:
        view = await once(server, "--metrics-url", url, HUBBUB_API_KEY=KEY)
    assert "no metrics" in view
    assert "--metrics-url" in view
    assert re.search(r"\b0 B +ann +/v1/ws", view)
    # What opens the one server is not shown to another one.
    assert heads
    assert all(b"uthorization" not in head and KEY.encode() not in head for head in heads)


async def test_metrics_may_be_elsewhere(serve: Serve) -> None:
    server, other = await serve(), await serve()
    await other.user("ann")
    view = await once(server, HUBBUB_METRICS_URL=other.url)
    assert re.search(r"sessions +1 ", view)


async def test_without_anything_to_see_it_ends(serve: Serve) -> None:
    server = await serve(**JWT)
    async with answering(lambda head: b"") as url:
        said = await complaint(
            Exit.REFUSED, "top", "--once", "--url", server.url, "--metrics-url", url
        )
    assert "asks for a key" in said


async def test_an_address_of_metrics_that_is_none() -> None:
    assert "--metrics-url" in await complaint(Exit.USAGE, "top", "--metrics-url", "127.0.0.1:9100")


def test_where_metrics_are() -> None:
    here = Target("http://a:1/x", "key")
    assert metrics_target(None, here) == Target("http://a:1/x/metrics")
    assert metrics_target("http://b:2", here) == Target("http://b:2/metrics")
    assert metrics_target("http://b:2/", here) == Target("http://b:2/metrics")
    assert metrics_target("http://b:2/own", here) == Target("http://b:2/own")


class Terminal:
    """A command that is shown on a terminal."""

    def __init__(self) -> None:
        self.screen = b""
        self._ours, self._theirs = pty.openpty()
        self._process: asyncio.subprocess.Process

    async def start(self, *arguments: str) -> None:
        kept = {name: text for name, text in os.environ.items() if "HUBBUB" not in name.upper()}
        environ = {**kept, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "entrypoints.cli", *arguments),
            env={**environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
        )
        asyncio.get_running_loop().add_reader(self._ours, self._read)

    def _read(self) -> None:
        self.screen += os.read(self._ours, 65_536)

    async def shows(self, text: bytes) -> None:
        await until(lambda: text in self.screen)

    def press(self, key: bytes) -> None:
        os.write(self._ours, key)

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def raw(self) -> bool:
        """Whether keys are told one by one and not shown."""
        return not termios.tcgetattr(self._theirs)[3] & termios.ICANON

    async def ended(self) -> int:
        async with asyncio.timeout(DEADLINE):
            return await self._process.wait()

    async def close(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        asyncio.get_running_loop().remove_reader(self._ours)
        os.close(self._ours)
        os.close(self._theirs)


@pytest.fixture
async def terminal() -> AsyncIterator[Terminal]:
    terminal = Terminal()
    yield terminal
    await terminal.close()


@pytest.mark.parametrize("leave", ["q", "Ctrl-C"])
async def test_on_a_terminal_it_goes_on_until_somebody_leaves(
    serve: Serve, terminal: Terminal, leave: str
) -> None:
    server = await serve()
    await terminal.start("top", "--interval", "0.2", "--url", server.url)
    await terminal.shows(b"WAITING")
    await server.user("newcomer")
    await terminal.shows(b"newcomer")
    assert terminal.raw()
    if leave == "q":
        terminal.press(b"x")
        terminal.press(b"q")
    else:
        terminal.interrupt()
    assert await terminal.ended() == 0
    assert b"Traceback" not in terminal.screen
    assert not terminal.raw()


async def test_a_server_that_goes_away_is_told_and_waited_for(
    serve: Serve, terminal: Terminal
) -> None:
    server = await serve()
    proxy = RedisProxy(server.port)
    await proxy.listen()
    await terminal.start("top", "--interval", "0.2", "--url", f"http://127.0.0.1:{proxy.port}")
    await terminal.shows(b"WAITING")
    proxy.refuse()
    proxy.drop()
    await terminal.shows(b"cannot be reached")
    await proxy.listen()
    await server.user("newcomer")
    await terminal.shows(b"newcomer")
    terminal.press(b"q")
    assert await terminal.ended() == 0
    await proxy.stop()


# Readings

ONE = """# TYPE hubbub_node_info gauge
hubbub_node_info{node="a"} 1
# TYPE hubbub_sessions gauge
hubbub_sessions 3
# TYPE hubbub_disconnects counter
hubbub_disconnects_total{code="1000"} 10
hubbub_disconnects_total{code="4102"} 1
# TYPE hubbub_publish_seconds histogram
hubbub_publish_seconds_bucket{le="0.001"} 0
hubbub_publish_seconds_bucket{le="0.002"} 0
hubbub_publish_seconds_bucket{le="+Inf"} 0
hubbub_publish_seconds_count 0
hubbub_publish_seconds_sum 0
# TYPE process_open_fds gauge
process_open_fds 9
"""


def later(*changes: tuple[str, str]) -> str:
    text = ONE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def between(before: str, now: str, seconds: float = 2.0) -> Between:
    first = read(before, 100.0)
    return Between(dict.fromkeys(first.nodes, first), read(now, 100.0 + seconds))


def test_totals_and_rates() -> None:
    found = between(ONE, later(('"4102"} 1', '"4102"} 5'), ('"1000"} 10', '"1000"} 11')))
    assert found.total("hubbub_sessions") == 3
    assert found.total("hubbub_disconnects_total") == 16
    assert found.rate("hubbub_disconnects_total") == 2.5
    assert found.rates("hubbub_disconnects_total", "code") == {"4102": 2.0, "1000": 0.5}
    assert list(found.rates("hubbub_disconnects_total", "code")) == ["4102", "1000"]


def test_what_is_not_told_is_not_made_up() -> None:
    found = between(ONE, ONE)
    assert found.total("hubbub_users") is None
    assert found.rate("hubbub_deliveries_total") is None
    assert found.rates("hubbub_refused_connections_total", "cause") == {}
    assert found.quantile("hubbub_fan_out_seconds", 0.5) is None
    assert found.quantile("hubbub_publish_seconds", 0.5) is None  # nothing happened
    assert Between({}, read(ONE, 1.0)).rate("hubbub_disconnects_total") is None


def test_a_quantile_lies_within_its_bucket() -> None:
    found = between(
        ONE,
        later(
            ('le="0.001"} 0', 'le="0.001"} 50'),
            ('le="0.002"} 0', 'le="0.002"} 98'),
            ('le="+Inf"} 0', 'le="+Inf"} 100'),
        ),
    )
    assert found.quantile("hubbub_publish_seconds", 0.25) == pytest.approx(0.0005)
    assert found.quantile("hubbub_publish_seconds", 0.5) == pytest.approx(0.001)
    assert found.quantile("hubbub_publish_seconds", 0.74) == pytest.approx(0.0015)
    assert found.quantile("hubbub_publish_seconds", 0.99) == pytest.approx(0.002)


def test_a_node_is_compared_with_itself() -> None:
    """Behind one address another one may answer, and one that began again counts from 0."""
    other = later(('node="a"', 'node="b"'), ('"1000"} 10', '"1000"} 9000'))
    assert between(ONE, other).rate("hubbub_disconnects_total") is None
    fresh = later(('"1000"} 10', '"1000"} 0'), ('"4102"} 1', '"4102"} 0'))
    assert between(ONE, fresh).rate("hubbub_disconnects_total") == 0


def test_workers_are_added_up() -> None:
    both = """hubbub_sessions{node="a"} 3
hubbub_sessions{node="b"} 4
hubbub_node_info{node="a"} 1
hubbub_node_info{node="b"} 1
"""
    found = Between({}, read(both, 1.0))
    assert found.total("hubbub_sessions") == 7


NO_EXPOSITIONS = ["", "up 1\n", "<html>", 'hubbub_sessions{a="\n', "hubbub_sessions x\n"]


@pytest.mark.parametrize("text", NO_EXPOSITIONS)
def test_what_is_no_exposition_is_refused(text: str) -> None:
    with pytest.raises(NotMetrics):
        read(text, 1.0)


# The view

MANY = """hubbub_node_info{node="a"} 1
hubbub_sessions 1200
hubbub_users 1100
hubbub_rooms 40
hubbub_outbox_bytes 2500000
hubbub_outboxes_over_half %d
hubbub_messages_published_total{kind="numbered"} %d
hubbub_deliveries_total{kind="message"} %d
hubbub_sessions_opened_total 5
hubbub_disconnects_total{code="4102"} %d
hubbub_refused_connections_total{cause="origin"} %d
hubbub_rate_limited_total{limit="messages"} %d
hubbub_publish_seconds_bucket{le="0.001"} %d
hubbub_publish_seconds_bucket{le="+Inf"} %d
hubbub_publish_seconds_count %d
hubbub_event_loop_lag_seconds_bucket{le="+Inf"} 0
hubbub_event_loop_lag_seconds_count 0
"""


def shown(*, several: bool = False) -> str:
    metrics = between(MANY % ((0,) * 9), MANY % (3, 20, 2000, 1, 2, 4, 10, 10, 10))
    sessions = [
        Session("id-1", "evil\x1b[2J", "/v1/ws", None, 3, 2_400_000, 3700.0, "a"),
        Session("id-2", "bob", "/v1/events", "203.0.113.7", 1, 0, 61.0, "b"),
    ]
    nodes = ["a", "b"] if several else ["a"]
    look = Look(nodes, metrics, "", SessionsPage("a", 1200, sessions), None, 0.002)
    console = Console(record=True, width=160, file=io.StringIO())
    console.print(view(look, "http://here", 10))
    return console.export_text()


def test_numbers_lead_to_whoever_is_slow() -> None:
    told = shown()
    for label, value in {
        "sessions": "1,200",
        "users": "1,100",
        "messages in": "10/s",
        "deliveries": "1,000/s",
        "waiting": "2,500 kB",
        "over half full": "3",
        "cut as slow": "0.5/s",
        "publish": "0.5 ms / 0.99 ms",
        "loop lag": "- / -",
    }.items():
        assert re.search(rf"{label} +{re.escape(value)}(?: |$)", told, re.MULTILINE), label
    assert "closed 4102: 0.5/s  refused origin: 1.0/s  too fast messages: 2.0/s" in told
    rows = told[told.index("WAITING") :].splitlines()
    assert rows[2].split() == [
        *("2,400", "kB", "evil\\u001b[2J", "/v1/ws", "3", "1:01:40", "-", "id-1"),
    ]
    assert rows[3].split()[-3:] == ["1:01", "203.0.113.7", "id-2"]
    assert "\x1b[2J" not in told


def test_with_several_nodes_it_says_which() -> None:
    told = shown(several=True)
    assert told[told.index("WAITING") :].splitlines()[3].split()[-1] == "b"
