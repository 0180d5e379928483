"""`hubbub bench`: short runs of every scenario with both load generators. Nothing here asserts how
fast anything is; that a run ends well says that every message came once and in order."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection

from entrypoints.bench import target
from entrypoints.bench.client_frames import FrameReader
from entrypoints.bench.compile import NotCompiled, build, build_generator, cache_folder
from entrypoints.bench.costs import NoSuchProcess, cpu_seconds, memory_kib, process_tree
from entrypoints.bench.generators import Generator, Run, RunFailed, choose, run
from entrypoints.bench.pace import Pace
from entrypoints.bench.plan import Phase, Plan, Progress, Reply, Step
from entrypoints.bench.processes import end, local_server, on_core
from entrypoints.bench.report import failed, succeeded
from entrypoints.bench.scenarios import SCENARIOS, Name, Wish, plan_for
from entrypoints.bench.target import BadTarget, Dialect, Target, main_door, read_url, subject
from tests import misbehaving_server as servers
from tests.certificates import certificate
from tests.peer import until
from tests.server_process import ServeProcess, ServerProcess
from tests.tokens import SECRET, token

ROOT = Path(__file__).parents[2]
OUTSIDE = {name: text for name, text in os.environ.items() if "HUBBUB" not in name.upper()}
OUTSIDE["PYTHONPATH"] = str(ROOT)
UNLIMITED = {
    "HUBBUB_LIMITS__MESSAGES_PER_SECOND": "0",
    "HUBBUB_LIMITS__COMMANDS_PER_SECOND": "0",
}
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="processes are measured on Linux only")
DEADLINE = 50.0

RunPlan = Callable[..., Awaitable[Run]]


@pytest.fixture(params=["compiled", "python"])
def generator(request: pytest.FixtureRequest) -> Generator:
    try:
        return choose(request.param, tls=False, environ=os.environ)
    except NotCompiled as reason:
        pytest.skip(str(reason))


@pytest.fixture
def run_plan(generator: Generator) -> RunPlan:
    """Run a plan beside the loop of the test, in which the server may be."""

    async def start(plan: Plan, **options: Any) -> Run:
        return await asyncio.to_thread(run, generator, plan, environ=OUTSIDE, **options)

    return start


ROOM = Plan(port=0, connections=3, publish='{"text":"%m"}', messages=20, window=4, patience=5)


async def reason(outcome: Awaitable[Run]) -> str:
    with pytest.raises(RunFailed) as refused:
        await outcome
    return str(refused.value)


# --- a load generator sees what goes wrong -------------------------------------------------------


@pytest.mark.parametrize("fault", [servers.faultless, servers.batching])
async def test_every_delivery_is_counted(run_plan: RunPlan, fault: servers.Fault) -> None:
    async with servers.room_server(fault) as port:
        found = await run_plan(replace(ROOM, port=port))
    assert list(found.phases) == ["connect", "measure"]
    assert found.phases["connect"].count == 3
    measured = found.phases["measure"]
    assert (measured.messages, measured.count) == (20, 60)
    assert measured.latency_ms is not None
    assert list(measured.latency_ms) == sorted(measured.latency_ms)
    assert 0 < measured.latency_ms.p50 < DEADLINE * 1e3
    assert measured.seconds > 0


FAULTS = {
    servers.repeating: "message 0 twice or too late",
    servers.swapping: "message 1 twice or too late",
    servers.inventing: "message 99, which nobody sent",
    servers.skipping: "got seq 4 after 2",
    servers.silent: "60 of 60 deliveries did not come within 0.5 s",
    servers.refusing: 'the server answered {"type":"error","code":"rate_limited"',
}


@pytest.mark.parametrize(("fault", "seen"), FAULTS.items(), ids=lambda value: str(value)[:20])
async def test_what_goes_wrong_fails_the_run(
    run_plan: RunPlan, fault: servers.Fault, seen: str
) -> None:
    # All at once, so that nothing comes when the first do not.
    plan = replace(ROOM, window=20, refusal='"type":"error"', patience=0.5)
    async with servers.room_server(fault) as port:
        assert seen in await reason(run_plan(replace(plan, port=port)))


async def test_without_an_order_of_their_own_messages_are_still_counted(run_plan: RunPlan) -> None:
    """Two who publish into one room: nobody can say whose message comes first."""
    plan = replace(ROOM, publishers=2)
    async with servers.room_server(servers.swapping) as port:
        found = await run_plan(replace(plan, port=port))
    assert found.phases["measure"].count == 60
    async with servers.room_server(servers.repeating) as port:
        assert "more often than there are members" in await reason(
            run_plan(replace(plan, port=port))
        )


async def test_a_member_that_is_not_there_is_missed(run_plan: RunPlan) -> None:
    """Rooms of two; this server has one room only, so the others hear what is not theirs."""
    plan = replace(ROOM, connections=4, rooms=2, publishers=2, patience=0.5)
    async with servers.room_server(servers.faultless) as port:
        assert "more often than there are members" in await reason(
            run_plan(replace(plan, port=port))
        )


async def test_a_close_is_told_with_its_reason(run_plan: RunPlan) -> None:
    async with servers.greeting_server(lambda one: one.close(4102, "slow")) as port:
        text = await reason(run_plan(replace(ROOM, port=port)))
    assert "the server closed connection" in text
    assert "4102 slow" in text


async def test_a_dropped_connection_is_told(run_plan: RunPlan) -> None:
    def drop(connection: ServerConnection) -> None:
        connection.transport.abort()

    async with servers.greeting_server(drop) as port:
        assert "the server dropped connection" in await reason(run_plan(replace(ROOM, port=port)))


async def test_a_refused_upgrade_is_told(run_plan: RunPlan) -> None:
    async with servers.closed_door() as port:
        text = await reason(run_plan(replace(ROOM, port=port, path="/ws")))
    assert "refused the upgrade of /ws: HTTP/1.1 503 " in text


async def test_nobody_listening_is_told(run_plan: RunPlan) -> None:
    async with servers.room_server(servers.faultless) as port:
        pass
    text = await reason(run_plan(replace(ROOM, port=port)))
    assert text == f"cannot connect to 127.0.0.1 port {port}: Connection refused"


async def test_a_server_that_never_greets_is_not_waited_for(run_plan: RunPlan) -> None:
    plan = replace(ROOM, enter=(Step("await", "hello"),), patience=0.3)
    async with servers.greeting_server(lambda _: None) as port:
        text = await reason(run_plan(replace(plan, port=port)))
    assert text == "0 of 3 connections are ready, and nothing came for 0.3 s"


async def test_texts_are_filled_and_frames_answered(run_plan: RunPlan) -> None:
    heard: list[tuple[str, str | bytes, str | bytes]] = []

    async def greet(connection: ServerConnection) -> None:
        assert connection.request is not None
        await connection.send("ready?")
        said = await connection.recv()
        await connection.send("2")
        heard.append((connection.request.path, said, await connection.recv()))
        await connection.send("welcome")

    plan = replace(
        ROOM,
        connections=3,
        rooms=2,
        path="/room%r?user=u%d",
        publish=None,
        messages=0,
        enter=(Step("await", "ready"), Step("say", "%d in %r"), Step("await", "welcome")),
        replies=(Reply("2", "3"),),
    )
    async with servers.greeting_server(greet) as port:
        await run_plan(replace(plan, port=port))
    assert set(heard) == {(f"/room{n % 2}?user=u{n}", f"{n} in {n % 2}", "3") for n in range(3)}


class Forgetful:
    """Speaks enough of protocol v1 for members to come back, and loses what it is told to."""

    def __init__(self, lost: set[int]) -> None:
        self._lost = lost
        self._log: list[str] = []
        self._members: set[ServerConnection] = set()

    def _missed(self, after: int) -> list[dict[str, object]]:
        kept = enumerate(self._log[after:], after + 1)
        return [{"seq": seq, "data": data} for seq, data in kept if seq not in self._lost]

    async def greet(self, connection: ServerConnection) -> None:
        await connection.send('{"type":"connected"}')
        async for frame in connection:
            asked = json.loads(frame)
            if asked["type"] == "join":
                self._members.add(connection)
                after = asked["position"]["seq"] if "position" in asked else len(self._log)
                answer: dict[str, object] = {"type": "joined", "id": 1}
                answer["position"] = {"log": "a.b", "seq": len(self._log)}
                answer["messages"] = self._missed(after)
                await connection.send(json.dumps(answer, separators=(",", ":")))
                continue
            self._log.append(asked["data"]["text"])
            message = {"type": "message", "seq": len(self._log), "data": asked["data"]}
            self._members = {member for member in self._members if not member.close_code}
            for member in self._members:
                await member.send(json.dumps(message, separators=(",", ":")))


@pytest.mark.parametrize(
    ("lost", "seen"),
    [
        (set(), None),
        ({9}, "missed messages came"),
        ({12}, "0 of 4 came back with all they missed"),
    ],
)
async def test_who_comes_back_must_get_exactly_what_they_missed(
    run_plan: RunPlan, lost: set[int], seen: str | None
) -> None:
    dialect = main_door("", None)
    wish = Wish(members=4, missed=6, patience=0.5)
    # One proof that everybody is in, 5 messages before the loss, 6 that are missed: 7 to 12.
    async with servers.greeting_server(Forgetful(lost).greet) as port:
        plan = replace(plan_for(Name.RESUME, Plan(port=port), dialect, wish))
        if seen is None:
            returned = (await run_plan(plan)).phases["return"]
            assert (returned.count, returned.messages) == (4, 24)
        else:
            assert seen in await reason(run_plan(plan))


async def test_a_rate_is_kept_to_the_number(run_plan: RunPlan) -> None:
    async with servers.room_server(servers.faultless) as port:
        found = await run_plan(replace(ROOM, port=port, rate=200, messages=10))
    measured = found.phases["measure"]
    assert (measured.messages, measured.count) == (10, 30)
    assert measured.seconds >= 9 / 200
    assert found.ceiling is None


@LINUX
async def test_costs_of_a_server_are_told(run_plan: RunPlan) -> None:
    async with servers.room_server(servers.faultless) as port:
        plan = replace(ROOM, port=port, pids=(os.getpid(),), hold=0.05)
        found = await run_plan(plan)
    assert list(found.phases) == ["connect", "measure", "hold"]
    for phase in found.phases.values():
        assert phase.server_cpu is not None
        assert phase.server_cpu >= 0
        assert phase.rss_kib is not None
        assert min(phase.rss_kib) > 1_000
        assert phase.own_cpu >= 0


@LINUX
async def test_a_server_that_is_gone_cannot_be_measured(run_plan: RunPlan) -> None:
    ended = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await ended.wait()
    async with servers.room_server(servers.faultless) as port:
        text = await reason(run_plan(replace(ROOM, port=port, pids=(ended.pid,))))
    assert text == f"process {ended.pid}, whose cost was to be measured, is not there"


async def test_progress_is_told(run_plan: RunPlan) -> None:
    told: list[Progress] = []
    async with servers.room_server(servers.faultless) as port:
        await run_plan(replace(ROOM, port=port, hold=0.3), progress=told.append)
    assert {"hold"} <= {progress.phase for progress in told}
    assert all(0 <= progress.done <= progress.of * 1.5 for progress in told)


async def test_no_generator_outlives_who_started_it(generator: Generator) -> None:
    """An exception at the side of the caller, as Ctrl-C is one."""
    plan = replace(ROOM, hold=60)

    def stop(_: Progress) -> None:
        raise KeyboardInterrupt

    def start(port: int) -> list[psutil.Process]:
        with pytest.raises(KeyboardInterrupt):
            run(generator, replace(plan, port=port), environ=OUTSIDE, progress=stop)
        children = psutil.Process().children(recursive=True)
        return [child for child in children if "hold" in " ".join(child.cmdline())]

    async with servers.room_server(servers.faultless) as port:
        assert await asyncio.to_thread(start, port) == []


def test_a_generator_that_breaks_is_told_with_its_last_words() -> None:
    class Broken(Generator):
        def command(self, plan: Plan) -> list[str]:
            return [sys.executable, "-c", "import sys; sys.exit('it broke')"]

    with pytest.raises(RunFailed, match="ended with code 1: it broke"):
        run(Broken(None), ROOM, environ=OUTSIDE)


async def test_tls_is_spoken_and_verified(serve_process: ServeProcess, tmp_path: Path) -> None:
    cert_file, key_file = certificate(tmp_path)
    server = await serve_process(
        "--ssl-certfile", str(cert_file), "--ssl-keyfile", str(key_file), **UNLIMITED
    )
    generator = choose("auto", tls=True, environ=os.environ)
    assert (generator.name, "TLS" in generator.why) == ("python", True)
    plan = replace(ROOM, port=server.port, tls=True, path="/ws/rooms/r/u%d")

    async def start(environ: dict[str, str]) -> Run:
        return await asyncio.to_thread(run, generator, plan, environ=environ)

    assert "certificate verify failed" in await reason(start(OUTSIDE))
    found = await start({**OUTSIDE, "SSL_CERT_FILE": str(cert_file)})
    assert found.phases["measure"].count == 60


# --- parts ---------------------------------------------------------------------------------------


def server_frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        head = bytes([0x80 | opcode, size])
    elif size < 65_536:
        head = bytes([0x80 | opcode, 126]) + size.to_bytes(2)
    else:
        head = bytes([0x80 | opcode, 127]) + size.to_bytes(8)
    return head + payload


@given(
    sizes=st.lists(st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536]), max_size=5),
    cuts=st.lists(st.integers(0, 140_000)),
)
def test_frames_are_found_however_they_arrive(sizes: list[int], cuts: list[int]) -> None:
    frames = [(1 + index % 2, bytes([index]) * size) for index, size in enumerate(sizes)]
    stream = b"".join(server_frame(*frame) for frame in frames)
    places = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    reader = FrameReader()
    pieces = (stream[a:b] for a, b in pairwise(places))
    assert [frame for piece in pieces for frame in reader.feed(piece)] == frames


def test_what_should_have_been_sent_counts_from_then() -> None:
    pace = Pace(rate=0.5, messages=3)
    pace.begin(0.0)  # long ago: the clock has run since the machine started
    assert pace.due(0, 0) == 0
    assert pace.due(2, 0) == 4
    assert pace.due(3, 0) is None


def test_a_window_is_not_exceeded() -> None:
    pace = Pace(window=2)
    assert pace.due(5, 3) is None
    assert pace.due(5, 4) is not None


URLS = {
    "ws://127.0.0.1:8000": Target("127.0.0.1", 8000, False, "127.0.0.1:8000"),
    "http://localhost/": Target("localhost", 80, False, "localhost"),
    "wss://chat.example/rooms/": Target("chat.example", 443, True, "chat.example", "/rooms"),
    "ws://[::1]:9000": Target("::1", 9000, False, "[::1]:9000"),
}


@pytest.mark.parametrize(("url", "read"), URLS.items())
def test_urls_are_read(url: str, read: Target) -> None:
    assert read_url(url) == read


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8000", "ftp://x", "ws://", "ws://x:99999", "ws://x/?a=1", "ws://u@x", "ws://x/%d"],
)
def test_useless_urls_are_refused(url: str) -> None:
    with pytest.raises(BadTarget, match="--url"):
        read_url(url)


def test_the_user_of_a_token_is_read() -> None:
    assert subject(token("ann")) == "ann"
    for bad in ("", "a.b.c", "a.e30.c", "canary"):
        with pytest.raises(BadTarget, match="no JWT"):
            subject(bad)


def phase(**facts: Any) -> Phase:
    known: dict[str, Any] = {"phase": "measure", "count": 1_000, "messages": 1_000}
    return Phase(**{**known, "seconds": 1.0, "own_cpu": 0.1, **facts})


@pytest.mark.parametrize(
    ("measured", "ceiling", "at_least"),
    [
        (phase(), None, False),
        (phase(own_cpu=0.95), None, True),
        (phase(own_cpu=0.5, server_cpu=0.4), None, True),
        (phase(own_cpu=0.5, server_cpu=0.9), None, False),
        (phase(), 1_050.0, True),
        (phase(), 2_000.0, False),
    ],
)
def test_a_generator_at_its_limit_says_so(
    measured: Phase, ceiling: float | None, at_least: bool
) -> None:
    assert Run({"measure": measured}, ceiling).at_least("measure") is at_least


def test_no_speed_above_the_ceiling_is_told() -> None:
    plan = replace(ROOM, messages=0, seconds=1)
    outcome = Run({"connect": phase(phase="connect"), "measure": phase()}, 900.0)
    result = succeeded(Name.FAN_OUT, "v1", plan, outcome)
    assert (result.per_second, result.at_least) == (900.0, True)


def test_a_failed_scenario_has_a_reason_and_no_speed() -> None:
    result = failed(Name.RESUME, "v1", replace(ROOM, missed=5), "it was lost")
    told = msgspec.to_builtins(result)
    assert told == {
        "scenario": "resume",
        "door": "v1",
        "ok": False,
        "reason": "it was lost",
        "unit": "clients",
        "members": 2,
        "missed": 5,
    }


@LINUX
def test_processes_and_what_they_cost() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert {os.getpid(), child.pid} <= set(process_tree(os.getpid()))
        assert memory_kib([child.pid, os.getpid()]) > memory_kib([os.getpid()]) > 1_000
        assert cpu_seconds([os.getpid()]) > 0
    finally:
        child.communicate(b"\n")
    with pytest.raises(NoSuchProcess):
        process_tree(child.pid)
    with pytest.raises(NoSuchProcess):
        cpu_seconds([child.pid])


def test_who_does_not_listen_is_ended_by_force() -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True)"
    child = subprocess.Popen(
        [sys.executable, "-c", f"{stubborn}; signal.pause()"], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    with child.stdout as output:
        assert output.readline() == b"1\n"
        end(child, 0.05)
    assert child.returncode == -signal.SIGKILL


@LINUX
def test_a_process_can_be_started_on_one_core() -> None:
    before = os.sched_getaffinity(0)
    core = max(before)
    with on_core(core):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert os.sched_getaffinity(child.pid) == {core}
        assert os.sched_getaffinity(0) == before
    finally:
        child.communicate(b"\n")


# --- building the compiled one -------------------------------------------------------------------


def source(folder: Path, text: str) -> Path:
    file = folder / "tool.c"
    file.write_text(text)
    return file


@pytest.fixture
def compiler() -> None:
    try:
        build_generator(os.environ)
    except NotCompiled as reason:
        pytest.skip(str(reason))


@pytest.mark.usefixtures("compiler")
def test_a_source_is_built_once(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    file = source(tmp_path, "int main(void) { return 7; }")
    program = build(file, folder, os.environ)
    assert subprocess.run([program], check=False).returncode == 7
    built = program.stat().st_mtime_ns
    assert build(file, folder, os.environ) == program
    assert program.stat().st_mtime_ns == built
    other = build(source(tmp_path, "int main(void) { return 8; }"), folder, os.environ)
    assert subprocess.run([other], check=False).returncode == 8
    assert set(folder.iterdir()) == {program, other}  # nothing half made is left


@pytest.mark.usefixtures("compiler")
def test_a_source_that_does_not_compile_is_told(tmp_path: Path) -> None:
    file = source(tmp_path, "int main(void) { return nothing; }")
    with pytest.raises(NotCompiled, match="failed: "):
        build(file, tmp_path / "cache", os.environ)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.usefixtures("compiler")
def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(NotCompiled, match="cache"):
        build(source(tmp_path, ""), tmp_path / "cache" / "bench", os.environ)


def test_without_a_compiler_the_python_one_is_used(tmp_path: Path) -> None:
    environ = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    found = choose("auto", tls=False, environ=environ)
    assert found.name == "python"
    assert "no C compiler found" in found.why
    with pytest.raises(NotCompiled):
        choose("compiled", tls=False, environ=environ)


def test_the_compiler_may_be_named(tmp_path: Path) -> None:
    stand_in = tmp_path / "mycc"
    stand_in.write_text("#!/bin/sh\necho this is mycc >&2\nexit 3\n")
    stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    environ = {"PATH": "", "CC": str(stand_in)}
    with pytest.raises(NotCompiled, match="mycc failed: this is mycc"):
        build(source(tmp_path, ""), tmp_path, environ)


def test_the_cache_is_where_the_user_wants_it(tmp_path: Path) -> None:
    assert cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "hubbub" / "bench"
    for useless in ({}, {"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "relative"}):
        assert cache_folder(useless) == Path.home() / ".cache" / "hubbub" / "bench"


# --- the command ---------------------------------------------------------------------------------


async def bench(*arguments: str, shell: str = "", **environ: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command. `shell` is done before it in its process."""
    words = [sys.executable, "-m", "entrypoints.cli", "bench", *arguments]
    if shell:
        words = ["sh", "-c", f'{shell}; exec "$@"', "sh", *words]
    process = await asyncio.create_subprocess_exec(
        *words,
        env={**OUTSIDE, **environ},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(DEADLINE):
        output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


def checked(report: Any) -> dict[str, Any]:
    """The results by scenario, once their common shape has been checked."""
    assert set(report) == {"hubbub", "url", "generator", "machine", "scenarios"}
    results = {result["scenario"]: result for result in report["scenarios"]}
    for result in results.values():
        assert result["ok"], result
        assert result["unit"] == SCENARIOS[Name(result["scenario"])].unit
        assert result["phases"][0]["phase"] == "connect"
        if result["scenario"] != "idle":
            assert result["per_second"] > 0
            assert result["at_least"] in {True, False}
            assert set(result["latency_ms"]) == {"p50", "p90", "p99", "max"}
        if sys.platform == "linux":
            assert result["server_cpu_us"] >= 0
            assert result["server_cpu_share"] >= 0
    return results


async def test_the_help_names_every_scenario_and_shows_examples() -> None:
    code, output, _ = await bench("--help")
    assert code == 0
    assert "Examples:\n    hubbub bench\n" in output
    for name, scenario in SCENARIOS.items():
        assert f"{name:<8} {scenario.about}" in output


async def test_without_a_url_a_server_is_started_for_each_scenario(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    file = tmp_path / "results.json"
    code, output, errors = await bench(
        "fan-out", "idle", "--members", "5", "--seconds", "0.1", "--json", str(file)
    )
    assert (code, errors) == (0, "")
    report = json.loads(file.read_text())
    assert report["url"] is None
    results = checked(report)
    assert list(results) == ["fan-out", "idle"]
    assert results["fan-out"]["members"] == 5
    assert "5 members at the door tutorial, 16 on the way" in output
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


@pytest.fixture
async def unlimited(serve_process: ServeProcess) -> ServerProcess:
    return await serve_process(**UNLIMITED)


@pytest.mark.parametrize("kind", ["compiled", "python"])
@pytest.mark.parametrize("door", ["tutorial", "v1"])
async def test_every_scenario_against_a_server(
    unlimited: ServerProcess, kind: str, door: str
) -> None:
    try:
        choose("compiled" if kind == "compiled" else "python", tls=False, environ=os.environ)
    except NotCompiled as reason:
        pytest.skip(str(reason))
    code, output, errors = await bench(
        *("--url", unlimited.ws_url, "--door", door, "--generator", kind, "--json", "-"),
        *("--members", "4", "--messages", "8", "--seconds", "0.1", "--missed", "7"),
        *("--payload", "3000"),
    )
    assert code == 0, errors
    report = json.loads(output)  # and nothing else
    assert (report["url"], report["generator"]) == (unlimited.ws_url, kind)
    assert "at the door" in errors
    assert {result["ok"] for result in report["scenarios"]} == {True}, report
    results = {result["scenario"]: result for result in report["scenarios"]}
    assert set(results) == set(Name)
    counts = {
        name: {found["phase"]: found["count"] for found in result["phases"]}
        for name, result in results.items()
    }
    assert counts["fan-out"]["measure"] == 8 * 4
    assert counts["rooms"] == {"connect": 4, "measure": 8}
    assert counts["connect"] == {"connect": 4}
    assert counts["idle"] == {"connect": 4, "hold": 4}
    assert counts["resume"]["return"] == 4
    assert results["resume"]["phases"][-1]["messages"] == 4 * 7
    assert results["resume"]["door"] == "v1"
    # Without --pid nothing is known about the process behind an address.
    assert not any("server_cpu_us" in result for result in results.values())


@LINUX
async def test_the_process_of_a_server_may_be_named(unlimited: ServerProcess) -> None:
    arguments = ("fan-out", "--members", "3", "--messages", "5", "--json", "-")
    pid = str(unlimited._process.pid)
    code, output, _ = await bench(*arguments, "--url", unlimited.ws_url, "--pid", pid)
    assert code == 0
    assert checked(json.loads(output))["fan-out"]["memory_kib"] >= 0


@pytest.mark.parametrize("door", ["tutorial", "v1"])
async def test_a_server_that_wants_tokens_is_measured_with_one(
    serve_process: ServeProcess, door: str
) -> None:
    server = await serve_process(
        HUBBUB_AUTH__MODE="jwt", HUBBUB_AUTH__HMAC_SECRET=SECRET, **UNLIMITED
    )
    arguments = ["fan-out", "--url", server.ws_url, "--door", door, "--members", "3"]
    arguments += ["--messages", "5", "--patience", "8"]
    code, output, errors = await bench(*arguments, "--token", token("ann"))
    assert code == 0, output + errors
    code, output, _ = await bench(*arguments, "--token", token("ann", -60))
    assert code == 1
    assert "token_expired" in output
    assert "--token; `hubbub token` makes one" in output


async def test_a_server_with_limits_says_so_and_what_to_do(serve_process: ServeProcess) -> None:
    server = await serve_process(
        HUBBUB_LIMITS__MESSAGES_PER_SECOND="1", HUBBUB_LIMITS__MESSAGES_BURST="2"
    )
    arguments = ("fan-out", "--url", server.ws_url, "--members", "2", "--messages", "9")
    code, output, _ = await bench(*arguments)
    assert code == 1
    assert "failed: " in output
    assert '"code":"rate_limited"' in output
    assert "set HUBBUB_LIMITS__MESSAGES_PER_SECOND=0" in output


async def test_a_crowd_with_one_token_is_told_what_to_raise(serve_process: ServeProcess) -> None:
    server = await serve_process(
        HUBBUB_AUTH__MODE="jwt",
        HUBBUB_AUTH__HMAC_SECRET=SECRET,
        HUBBUB_LIMITS__CONNECTIONS_PER_USER="2",
        **UNLIMITED,
    )
    arguments = ("fan-out", "--url", server.ws_url, "--members", "3", "--messages", "5")
    code, output, _ = await bench(*arguments, "--token", token("ann"))
    assert code == 1
    assert "HUBBUB_LIMITS__CONNECTIONS_PER_USER (with --token all are one user)" in output


async def test_a_crowd_that_is_turned_away_is_told_what_to_raise(
    serve_process: ServeProcess,
) -> None:
    server = await serve_process(HUBBUB_LIMITS__CONNECTIONS="2", **UNLIMITED)
    arguments = ("fan-out", "--url", server.ws_url, "--members", "3", "--messages", "5")
    code, output, _ = await bench(*arguments)
    assert code == 1
    assert "raise HUBBUB_LIMITS__CONNECTIONS there" in output
    assert "HUBBUB_LIMITS__HANDSHAKES_PER_SECOND=0" in output


async def test_a_server_that_is_not_there_ends_all_scenarios() -> None:
    async with servers.room_server(servers.faultless) as port:
        pass
    code, output, errors = await bench("--url", f"ws://127.0.0.1:{port}", "--members", "2")
    assert (code, errors) == (1, "")
    assert "Connection refused (is the server running?" in output
    assert output.count("failed: ") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--url", "127.0.0.1:8000"], "write it like ws://"),
        (["--token", "x"], "belong to a server named by --url"),
        (["--pid", "1"], "belong to a server named by --url"),
        (["--url", "ws://127.0.0.1:1", "--token", "x"], "no JWT"),
        (["--url", "ws://127.0.0.1:1", "--pid", "999999999"], "no process 999999999"),
        (["--url", "ws://127.0.0.1:1", "--json", "/no/such/place", "idle"], "/no/such/place"),
        (["everything"], "fan-out"),
        (["--members", "0"], "--members"),
    ],
)
async def test_misuse_is_told(arguments: list[str], told: str) -> None:
    if "999999999" in arguments and sys.platform != "linux":
        pytest.skip("processes are measured on Linux only")
    code, _, errors = await bench(*arguments)
    assert code == 2
    assert told in errors
    assert "Traceback" not in errors


@pytest.mark.skipif(os.name != "posix", reason="there is no such limit elsewhere")
async def test_too_few_open_files_are_told_with_a_remedy() -> None:
    code, output, errors = await bench("fan-out", "--members", "500", shell="ulimit -n 200")
    assert (code, output) == (2, "")
    assert "needs about 550 open files and this process may open 200" in errors
    assert "ulimit -Hn" in errors
    assert "--members" in errors


async def test_a_low_soft_limit_is_raised(unlimited: ServerProcess) -> None:
    code, output, errors = await bench(
        *("connect", "--members", "120", "--url", unlimited.ws_url), shell="ulimit -Sn 64"
    )
    assert code == 0, output + errors


@pytest.mark.skipif(os.name != "posix", reason="signals are another matter elsewhere")
@pytest.mark.parametrize("kind", ["auto", "python"])
@pytest.mark.parametrize("way", ["Ctrl-C", "SIGTERM"])
async def test_no_process_is_left_when_it_is_stopped(kind: str, way: str) -> None:
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "entrypoints.cli", "bench", "idle", "--members", "3"),
        *("--seconds", "600", "--generator", kind),
        env=OUTSIDE,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    family = psutil.Process(command.pid)
    try:
        await until(lambda: len(family.children(recursive=True)) == 2, within=DEADLINE / 2)
        children = family.children(recursive=True)
        await until(lambda: len(established(children[0])) == 3, within=DEADLINE / 2)
        if way == "Ctrl-C":  # which the terminal sends to all of them
            os.killpg(command.pid, signal.SIGINT)
        else:
            command.terminate()
        async with asyncio.timeout(DEADLINE / 2):
            _, errors = await command.communicate()
        assert command.returncode == (130 if way == "Ctrl-C" else 128 + signal.SIGTERM)
        assert not any(child.is_running() for child in children)
        assert b"Traceback" not in errors
    finally:
        if command.returncode is None:
            os.killpg(command.pid, signal.SIGKILL)
            await command.communicate()


def established(process: psutil.Process) -> list[Any]:
    return [one for one in process.net_connections() if one.status == psutil.CONN_ESTABLISHED]


def test_more_messages_than_a_room_keeps_are_kept_for_the_return(generator: Generator) -> None:
    dialect = main_door("", None)
    plan = plan_for(Name.RESUME, Plan(port=0), dialect, Wish(members=3, missed=250))
    with local_server(None, plan.connections, plan.missed) as server:
        found = run(generator, replace(plan, port=server.port), environ=OUTSIDE)
    assert found.phases["return"].messages == 3 * 250


def test_rooms_of_two_runs_are_not_the_same() -> None:
    def paths(make: Callable[[str, str | None, int], Dialect]) -> Iterator[str]:
        for _ in range(2):
            dialect = make("/prefix", "ann", 0)
            yield dialect.path + dialect.publish + "".join(step.text for step in dialect.enter)

    for make in (target.tutorial_door, target.main_door):
        first, second = paths(make)
        assert first != second
        assert first.startswith("/prefix/")
