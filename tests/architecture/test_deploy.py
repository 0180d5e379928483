"""What deploy/ promises, as far as it shows without a container engine or a running systemd."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/Dockerfile"
UNIT = ROOT / "deploy/hubbub.service"


class Instruction(NamedTuple):
    word: str
    arguments: str


def stages() -> list[list[Instruction]]:
    """The instructions of each build stage, its FROM first; what precedes the first is left out."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    found: list[list[Instruction]] = []
    for word, _, arguments in (line.partition(" ") for line in lines if line.strip()):
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append(Instruction(word, arguments.strip()))
    return found


def final(word: str) -> str:
    """Arguments of the one instruction `word` in the stage that becomes the image."""
    (arguments,) = (found.arguments for found in stages()[-1] if found.word == word)
    return arguments


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in shlex.split(final("ENV")))


def probe() -> list[str]:
    """The command of the health check, run by this interpreter."""
    command = json.loads(final("HEALTHCHECK").partition("CMD ")[2])
    assert command[0] == "python"
    return [sys.executable, *command[1:]]


def copied() -> Iterator[str]:
    """Sources taken from the build context."""
    for instruction in (instruction for stage in stages() for instruction in stage):
        if instruction.word == "COPY" and not instruction.arguments.startswith("--from"):
            yield from instruction.arguments.split()[:-1]


@contextmanager
def answering(status: int) -> Iterator[tuple[int, list[str]]]:
    """An HTTP server with one answer: its port, and the paths asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Nothing: a request is not worth a line on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, asked
        finally:
            server.shutdown()
            thread.join()


def run_probe(port: int) -> int:
    settings = {**environment(), "HUBBUB_PORT": str(port)}
    return subprocess.run(probe(), env=settings, capture_output=True, check=False).returncode


def test_the_image_is_built_in_stages_from_one_slim_base() -> None:
    bases = [stage[0].arguments.split(" AS ")[0] for stage in stages()]
    assert len(bases) == 2
    assert set(bases) == {"python:${PYTHON_VERSION}-slim"}


def test_the_image_does_not_run_as_root() -> None:
    user, _, group = final("USER").partition(":")
    assert int(user) > 0
    assert int(group) > 0


def test_the_container_hands_signals_to_hubbub() -> None:
    assert json.loads(final("ENTRYPOINT")) == ["hubbub"]
    assert json.loads(final("CMD")) == ["serve"]
    assert final("STOPSIGNAL") == "SIGTERM"


def test_the_port_shown_is_the_port_used() -> None:
    assert environment()["HUBBUB_PORT"] == final("EXPOSE")


def test_the_container_is_not_open_to_strangers_unasked() -> None:
    assert environment()["HUBBUB_HOST"] == "0.0.0.0"
    assert {name for name in environment() if name.startswith("HUBBUB_")} == {
        "HUBBUB_HOST",
        "HUBBUB_PORT",
    }
    assert "HUBBUB_AUTH__MODE=jwt" in DOCKERFILE.read_text()
    assert "--allow-anonymous" in DOCKERFILE.read_text()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (404, 1), (503, 1)])
def test_the_health_check_follows_the_answer(status: int, code: int) -> None:
    with answering(status) as (port, asked):
        assert run_probe(port) == code
    assert asked == ["/healthz"]


def test_the_health_check_fails_when_nobody_listens() -> None:
    with answering(200) as (port, _):
        pass
    assert run_probe(port) == 1


def test_the_build_gets_what_it_copies_and_the_packages_it_needs() -> None:
    let_in = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert set(copied()) == let_in
    assert {"domain", "application", "adapters", "entrypoints"} <= let_in
    assert [name for name in let_in if not (ROOT / name).exists()] == []


def unit() -> dict[str, dict[str, list[str]]]:
    """Section to name to the values given, in order."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in filter(None, map(str.strip, UNIT.read_text().splitlines())):
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif not line.startswith("#"):
            name, _, value = line.partition("=")
            section.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Type", "exec"),
        ("KillSignal", "SIGTERM"),
        ("TimeoutStopSec", "30s"),
        ("Restart", "on-failure"),
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("CapabilityBoundingSet", ""),
        ("MemoryDenyWriteExecute", "yes"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("EnvironmentFile", "-/etc/hubbub/hubbub.env"),
        ("WorkingDirectory", "/etc/hubbub"),
    ],
)
def test_the_unit_says(name: str, value: str) -> None:
    assert unit()["Service"][name] == [value]


def test_the_unit_starts_the_command_and_leaves_it_room_for_connections() -> None:
    service = unit()["Service"]
    assert service["ExecStart"] == ["/opt/hubbub/bin/hubbub serve"]
    assert int(service["LimitNOFILE"][0]) >= 100_000
    assert unit()["Install"]["WantedBy"] == ["multi-user.target"]


@pytest.fixture
def runnable_unit(tmp_path: Path) -> Path:
    """The unit with a command that exists here, since systemd looks for it."""
    text = UNIT.read_text().replace("/opt/hubbub/bin/hubbub", "/bin/sh")
    copy = tmp_path / UNIT.name
    copy.write_text(text)
    return copy


def complaints(unit_file: Path) -> str:
    """What systemd says about this unit; it may have more to say about others."""
    run = subprocess.run(
        ["systemd-analyze", "verify", str(unit_file)], capture_output=True, text=True, check=False
    )
    return "\n".join(line for line in run.stderr.splitlines() if unit_file.name in line)


needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="the tool comes with systemd"
)


@needs_systemd
def test_systemd_accepts_the_unit(runnable_unit: Path) -> None:
    assert complaints(runnable_unit) == ""


@needs_systemd
@pytest.mark.parametrize(
    ("right", "wrong"), [("DynamicUser=", "DynamicUsr="), ("Type=exec", "Type=execute")]
)
def test_systemd_would_tell_a_wrong_unit(runnable_unit: Path, right: str, wrong: str) -> None:
    runnable_unit.write_text(runnable_unit.read_text().replace(right, wrong))
    assert wrong.strip("=").removeprefix("Type=") in complaints(runnable_unit)
