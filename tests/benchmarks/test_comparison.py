"""The comparison with other servers: its bookkeeping, its page, and one small run of what needs
nothing from outside. The real one is `make bench`."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import msgspec
import pytest

from entrypoints.bench.generators import Generator
from entrypoints.bench.plan import Latencies, Phase, Plan
from entrypoints.bench.processes import Cores
from tests.benchmarks import __main__ as command
from tests.benchmarks.comparison import Measured, Setup, measure, started
from tests.benchmarks.peers import PEERS, Peer, Ready
from tests.benchmarks.plot import bars
from tests.benchmarks.summary import Comparison, Entry, cells, page
from tests.benchmarks.workshop import LeftOut, Workshop

SMALL = Setup(members=3, windows=(1, 4), rooms=2, seconds=0.05, runs=2, commit="abc")
LOCAL = [peer for peer in PEERS if peer.name in {"hubbub", "hubbub /v1/ws", "floor", "tutorial"}]


def one(peer: str, column: str, number: int, rate: float, **facts: Any) -> Measured:
    latency = Latencies(1.0, 2.0, 3.0, 4.0)
    count = round(rate)
    phase = Phase("measure", 1.0, count, count, 0.1, latency, server_cpu=rate / 1e6)
    return Measured(peer, column, number, phase, **facts)


def comparison(runs: list[Measured], setup: Setup = SMALL) -> Comparison:
    peers = [
        Entry("hubbub", "ours", "1"),
        Entry("floor", "least", "C"),
        Entry("other", "Go", left_out="go is not on PATH"),
    ]
    return Comparison(setup, "make bench", "2026-01-02", {"processor": "one"}, peers, runs)


def every_run() -> Iterator[Measured]:
    for column in SMALL.columns():
        for number in (1, 2):
            yield one("hubbub", column, number, 1_000.0 * number)
            yield one("floor", column, number, 3_000.0, at_least=True)


def test_a_column_is_a_plan_for_every_peer() -> None:
    assert list(SMALL.columns()) == ["window 1", "window 4", "small rooms"]
    for peer in PEERS:
        fan_out = SMALL.plan("window 4", peer)
        assert (fan_out.connections, fan_out.rooms, fan_out.window) == (3, 1, 4)
        rooms = SMALL.plan("small rooms", peer)
        assert (rooms.connections, rooms.rooms, rooms.publishers, rooms.window) == (2, 2, 2, 2)
        assert "%m" in (rooms.publish or "")
        texts = (rooms.path, rooms.publish, *(step.text for step in rooms.enter))
        assert any("%r" in (text or "") for text in texts), "rooms cannot be told apart"


def test_medians_and_extremes_of_good_runs() -> None:
    runs = [one("hubbub", "window 1", number, rate) for number, rate in enumerate((1, 9, 4), 1)]
    runs += [Measured("hubbub", "window 1", 4, failure="lost"), one("hubbub", "window 4", 1, 7)]
    cell = cells(comparison(runs), "window 1")["hubbub"]
    assert (cell.low, cell.rate, cell.high, cell.runs) == (1, 4, 9, 3)
    assert cell.cpu_us == pytest.approx(1)
    assert not cell.at_least


def test_the_page_tells_ratios_first_and_hides_nothing() -> None:
    found = comparison([*every_run(), Measured("floor", "window 1", 3, failure="it fell over")])
    text = page(found, [("window 1", "window-1.svg")])
    assert "| hubbub (ours) | 1.00 | 1.00 | 1.00 |" in text
    assert "| floor (least) | ≥ 2.00 | ≥ 2.00 | ≥ 2.00 |" in text
    assert text.index("≥ 2.00") < text.index("≥ 3,000")
    assert "- other: go is not on PATH" in text
    assert "- floor, window 1, run 3: it fell over" in text
    assert "`make bench`" in text
    assert "![Deliveries a second, window 1](window-1.svg)" in text


def test_a_server_without_a_good_run_is_shown_as_failed() -> None:
    runs = [run for run in every_run() if run.peer == "hubbub"]
    assert "| floor (least) | failed | failed | failed |" in page(comparison(runs), [])


def test_plots_are_svg_of_every_server() -> None:
    found = cells(comparison(list(every_run())), "window 1")
    drawn = Xml.fromstring(bars("a < b", found, ours="hubbub"))
    texts = [element.text for element in drawn.iter() if element.tag.endswith("text")]
    assert texts == ["a < b", "floor", "≥ 3.0 k/s", "hubbub", "1.5 k/s"]
    widths = [
        float(element.attrib["width"])
        for element in drawn.iter()
        if element.attrib.get("class", "").startswith("bar")
    ]
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.01)


def test_a_plot_of_nothing_is_no_error() -> None:
    assert Xml.fromstring(bars("nothing", {}, ours="hubbub")).tag.endswith("svg")


def test_it_is_complete_once_every_run_was_made() -> None:
    runs = list(every_run())
    assert comparison(runs).complete
    assert not comparison(runs[1:]).complete


def test_results_are_read_as_they_were_written() -> None:
    found = comparison([*every_run(), Measured("floor", "window 1", 3, failure="x")])
    assert msgspec.json.decode(msgspec.json.encode(found), type=Comparison) == found


# --- runs ----------------------------------------------------------------------------------------


def prepared(folder: Path) -> list[tuple[Peer, Ready]]:
    workshop = Workshop(folder, os.environ, lambda _: None)
    return [(peer, peer.prepare(workshop)) for peer in LOCAL]


def test_what_needs_nothing_from_outside_is_measured(generator: Generator, tmp_path: Path) -> None:
    setup = msgspec.structs.replace(SMALL, runs=1)
    runs = list(measure(setup, prepared(tmp_path), generator, Cores(), []))
    assert [run for run in runs if run.failure is not None] == []
    assert {(run.peer, run.column) for run in runs} == {
        (peer.name, column) for peer in LOCAL for column in setup.columns()
    }


def test_runs_already_made_are_not_made_again(generator: Generator, tmp_path: Path) -> None:
    done = [run for run in every_run() if run.peer == "floor"][:-1]
    floor = [pair for pair in prepared(tmp_path) if pair[0].name == "floor"]
    (made,) = measure(SMALL, floor, generator, Cores(), done)
    assert (made.peer, made.column, made.number, made.failure) == ("floor", "small rooms", 2, None)


def test_a_server_that_fails_does_not_end_it(generator: Generator, tmp_path: Path) -> None:
    broken = Ready((sys.executable, "-c", "import sys; sys.exit('no such luck')"), "0")
    setup = msgspec.structs.replace(SMALL, runs=1, windows=(1,), rooms=0)
    peers = [(Peer("broken", "", lambda _: broken, Plan(port=0)), broken)]
    peers += [pair for pair in prepared(tmp_path) if pair[0].name == "floor"]
    failed, good = measure(setup, peers, generator, Cores(), [])
    assert failed.failure == "it ended before it listened: no such luck"
    assert (good.peer, good.failure) == ("floor", None)


def test_a_server_is_given_its_port_and_its_file() -> None:
    script = (
        "import socket, sys; word, port = open(sys.argv[1]).read().split(); "
        "assert word == 'listen' and port == sys.argv[2]; "
        "one = socket.create_server(('127.0.0.1', int(port))); one.accept(); input()"
    )
    ready = Ready((sys.executable, "-c", script, "@CONFIG@", "@PORT@"), "0", {}, "listen @PORT@")
    with started(ready, None) as (port, _):
        assert port > 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


# --- the workshop --------------------------------------------------------------------------------


def test_nothing_is_fetched_twice_and_a_change_is(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    calls.touch()
    npm = tmp_path / "npm"
    npm.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    npm.chmod(0o755)
    said: list[str] = []
    workshop = Workshop(tmp_path / "made", {"PATH": f"{tmp_path}:/bin:/usr/bin"}, said.append)
    for release in ("1.0", "1.0", "2.0"):
        assert workshop.node_packages("ws", f"ws@{release}").is_dir()
    assert [line.split()[-1] for line in calls.read_text().splitlines()] == ["ws@1.0", "ws@2.0"]
    assert len(said) == 2


def test_what_cannot_be_had_is_left_out_and_tried_again(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path / "made", {"PATH": str(tmp_path)}, lambda _: None)
    with pytest.raises(LeftOut, match="npm is not on PATH"):
        workshop.node_packages("ws", "ws@1.0")
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho registry on fire\nexit 1\n")
    npm.chmod(0o755)
    said: list[str] = []
    workshop = Workshop(tmp_path / "made", {"PATH": str(tmp_path)}, said.append)
    for _ in range(2):
        with pytest.raises(LeftOut, match="npm install --prefix failed"):
            workshop.node_packages("ws", "ws@1.0")
    assert said.count("registry on fire") == 2


def test_the_command_writes_page_plots_and_results(
    generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ["--runs", "1", "--members", "3", "--windows", "2", "--rooms", "0", "--seconds", "0.05"]
    words += ["--peers", "floor", "--out", str(tmp_path / "out")]
    assert command.main(words) == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "README.md",
        "results.json",
        "window-2.svg",
    }
    results = (tmp_path / "out" / "results.json").read_bytes()
    found = msgspec.json.decode(results, type=Comparison)
    assert found.complete
    assert found.machine["processor"]
    assert found.peers[0].version == "C, epoll"
