"""What the steps of the fast lane buy: the arguments, the table, and that a server without one is
still right and really without it. The real measurement is `python -m tests.benchmarks.steps`."""

import asyncio
import gc
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from operator import gt, lt
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from adapters.transport.fragments import Frames
from adapters.transport.lane import LaneTransport, Turn
from application.live_room import Group
from entrypoints import server as server_module
from entrypoints.bench.generators import Generator
from entrypoints.bench.plan import Phase
from entrypoints.settings import Settings
from entrypoints.wire.v1 import V1
from tests.benchmarks import steps
from tests.benchmarks.comparison import Measured, Setup
from tests.benchmarks.peers import PEERS, Peer
from tests.benchmarks.step_table import AS_IT_IS, Report, report, table
from tests.benchmarks.steps import rounds, variants
from tests.benchmarks.without import STEPS
from tests.benchmarks.workshop import Workshop
from tests.running_server import RunningServer, fit_for_tests
from tests.wire import text

SETUP = Setup(members=3, windows=(1,), rooms=2, seconds=0.05, runs=3, commit="abc")
TINY = ["--members", "3", "--rooms", "2", "--seconds", "0.05", "--runs", "1", "--windows", "2"]


def phase(cpu_us: float) -> Phase:
    return Phase("measure", 1.0, 1_000, 1_000, 0.1, server_cpu=cpu_us / 1_000)


def one(step: str, column: str, number: int, cpu_us: float) -> Measured:
    return Measured(step, column, number, phase(cpu_us), connect=phase(100 * cpu_us))


def measured(step: str, *cpu_us: float) -> list[Measured]:
    return [
        one(step, column, number, cost)
        for column in SETUP.columns()
        for number, cost in enumerate(cpu_us, 1)
    ]


# --- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["--runs", "0"],
        ["--members", "-1"],
        ["--windows"],
        ["--windows", "1", "0"],
        ["--rooms", "0"],
        ["--seconds", "0"],
        ["--seconds", "nan"],
        ["--steps", "no-such-step"],
        ["--steps", AS_IT_IS],
        ["--door", "back"],
    ],
    ids=" ".join,
)
def test_arguments_that_make_no_sense_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        steps.main(words)
    assert refused.value.code == 2
    assert f"argument {words[0]}:" in capsys.readouterr().err


def test_the_help_names_every_step(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        steps.main(["--help"])
    assert left.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    for name, step in STEPS.items():
        assert name == AS_IT_IS or f"{name}: {step.about}" in said


def test_a_variant_is_hubbub_as_it_is_compared_with_others_but_for_its_step() -> None:
    (first, as_it_is), (second, without_groups) = variants("v1", [AS_IT_IS, "groups"])
    assert (first.name, second.name) == (AS_IT_IS, "groups")
    assert first.plan == second.plan
    assert as_it_is.environ == without_groups.environ
    assert as_it_is.environ["HUBBUB_LIMITS__MESSAGES_PER_SECOND"] == "0"
    module = ["-m", "tests.benchmarks.without"]
    rest = ["serve", "--port", "@PORT@"]
    assert list(as_it_is.command[1:]) == [*module, AS_IT_IS, *rest]
    assert list(without_groups.command[1:]) == [*module, "groups", *rest]


def test_what_is_compared_is_measured_one_right_behind_the_other(
    generator: Generator, tmp_path: Path
) -> None:
    floor = next(peer for peer in PEERS if peer.name == "floor")
    ready = floor.prepare(Workshop(tmp_path, os.environ, lambda _: None))
    peers = [(Peer(name, "", floor.prepare, floor.plan), ready) for name in ("a", "b")]
    setup = msgspec.structs.replace(SETUP, runs=2)
    made = [(one.peer, one.column, one.number) for one in rounds(setup, peers, generator)]
    assert made == [
        ("a", "window 1", 1),
        ("b", "window 1", 1),
        ("a", "small rooms", 1),
        ("b", "small rooms", 1),
        ("b", "window 1", 2),
        ("a", "window 1", 2),
        ("b", "small rooms", 2),
        ("a", "small rooms", 2),
    ]


# --- the report ----------------------------------------------------------------------------------


def test_the_table_tells_medians_and_ratios_within_a_round() -> None:
    runs = [*measured(AS_IT_IS, 2.0, 9.0, 4.0), *measured("gc", 6.0, 27.0, 6.0)]
    shown = table(report("v1", SETUP, [AS_IT_IS, "gc"], runs))
    assert "| without | window 1 | small rooms | connect |\n|---|---:|---:|---:|" in shown
    assert f"| nothing: {STEPS[AS_IT_IS].about} | 4.00 | 4.00 | 400 |" in shown
    assert f"| gc: {STEPS['gc'].about} | 6.00 (×3.00) | 6.00 (×3.00) | 600 (×3.00) |" in shown  # noqa: RUF001
    assert "up to 50% away" in shown
    assert "abc" in shown


def test_one_round_does_not_pretend_to_know_how_much_they_differ() -> None:
    once = msgspec.structs.replace(SETUP, runs=1)
    assert "away" not in table(report("v1", once, [AS_IT_IS], measured(AS_IT_IS, 2.0)))


def test_failures_are_shown_and_do_not_count() -> None:
    lost = Measured("gc", "window 1", 1, failure="it fell over")
    runs = [*measured(AS_IT_IS, 2.0), lost, one("gc", "small rooms", 1, 3.0)]
    shown = table(report("v1", SETUP, [AS_IT_IS, "gc"], runs))
    assert f"| gc: {STEPS['gc'].about} | failed | 3.00 (×1.50) | 300 (×1.50) |" in shown  # noqa: RUF001
    assert "- failed: without gc, window 1, run 1: it fell over" in shown


def test_a_base_that_failed_leaves_costs_without_ratios() -> None:
    shown = table(report("v1", SETUP, [AS_IT_IS, "gc"], measured("gc", 3.0)))
    assert "| failed | failed | failed |" in shown
    assert "| 3.00 | 3.00 | 300 |" in shown


# --- steps undone --------------------------------------------------------------------------------

# Calls by which to tell whether a step is there: there are more of them without it, or fewer.
SIGNS: dict[str, list[tuple[Any, str, Callable[[int, int], bool]]]] = {
    "lane": [(LaneTransport, "flush", lt)],
    "turns": [(Turn, "begin", lt)],
    "groups": [(Group, "_send", gt)],
    "joining": [(Turn, "begin", lt), (Group, "_send", gt)],
    "descriptors": [(os, "write", lt)],
    "whole-texts": [(Frames, "receive_data", gt)],
    "shared-frames": [(V1, "message", gt)],
}
OF_THE_PROCESS = {"listeners", "gc", "uvloop"}  # seen below


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """How often each of these calls is made in here."""
    calls: Counter[str] = Counter()

    def counting(owner: Any, name: str) -> Callable[..., Any]:
        function = getattr(owner, name)

        def call(*arguments: Any) -> Any:
            calls[name] += 1
            return function(*arguments)

        return call

    watched = {(owner, name) for signs in SIGNS.values() for owner, name, _ in signs}
    with ExitStack() as stack:
        for owner, name in watched:
            stack.enter_context(patch.object(owner, name, counting(owner, name)))
        yield calls


async def talk(step: str) -> Counter[str]:
    """Six messages in one segment, to both members of a room, without a step."""
    messages = [{"type": "publish", "room": "r", "data": number} for number in range(6)]
    async with AsyncExitStack() as stack:
        stack.enter_context(fit_for_tests())
        stack.enter_context(STEPS[step].undone())
        server = RunningServer(Settings(port=0))
        stack.push_async_callback(server.stop)
        await server.start()
        ann, _ = await server.member("ann", "r")
        bob, _ = await server.member("bob", "r")
        await ann.expect("join", user="bob")
        with counted() as calls:
            frames = [text(json.dumps(message)) for message in messages]
            bob.connection.transport.write(b"".join(frames))
            for seq, message in enumerate(messages, 1):
                await ann.expect("message", seq=seq, data=message["data"])
            heard = [await bob.receive() for _ in 2 * messages]  # and acks
            seqs = [frame["seq"] for frame in heard if frame["type"] == "message"]
            assert seqs == list(range(1, len(messages) + 1))
            assert await ann.is_quiet()
            assert await bob.is_quiet()
        assert server.metric("deliveries_total") == 2 * len(messages) + 1  # and the join
    return calls


@pytest.fixture
async def as_it_is() -> Counter[str]:
    return await talk(AS_IT_IS)


@pytest.mark.parametrize("step", SIGNS)
async def test_without_a_step_all_is_right_and_the_step_is_gone(
    step: str, as_it_is: Counter[str]
) -> None:
    without = await talk(step)
    for _, name, compare in SIGNS[step]:
        assert compare(without[name], as_it_is[name]), (name, without, as_it_is)


def test_the_collector_is_left_as_python_has_it() -> None:
    before = gc.get_threshold(), gc.get_freeze_count()
    with STEPS["gc"].undone():
        collector = vars(server_module)["gc"]
        collector.collect()
        collector.freeze()
        collector.set_threshold(1, 2, 3)
    assert (gc.get_threshold(), gc.get_freeze_count()) == before
    assert vars(server_module)["gc"] is gc


async def test_there_is_one_listener() -> None:
    with fit_for_tests(), STEPS["listeners"].undone():
        server = RunningServer(Settings(port=0))
        await server.start()
        assert len(server._server.servers) == 1
        await server.stop()


async def test_the_loop_is_that_of_the_standard_library() -> None:
    server = RunningServer(Settings(port=0))
    factory_of = server._server.config.get_loop_factory
    usual = factory_of()
    with STEPS["uvloop"].undone():
        loop = (factory_of() or asyncio.new_event_loop)()
    loop.close()
    assert type(loop).__module__.startswith("asyncio.")
    assert factory_of() is usual
    await server.stop()


def test_every_step_is_seen_to_be_gone() -> None:
    assert SIGNS.keys() | OF_THE_PROCESS | {AS_IT_IS} == STEPS.keys()


@pytest.mark.usefixtures("generator")
def test_the_command_prints_the_table_and_writes_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "steps.json"
    assert steps.main([*TINY, "--steps", "gc", "--json", str(file)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("| without | window 2 | small rooms | connect |\n")
    assert "4/4 without gc, small rooms: " in said.err
    found = msgspec.json.decode(file.read_bytes(), type=Report)
    assert list(found.cells) == [AS_IT_IS, "gc"]
    assert [run.failure for run in found.runs] == [None] * 4
    assert table(found) == said.out
