"""The JavaScript client's own tests, run by node: its parts against a server in their hand, and all
of it against a real one. With npm also its types, and that the file for pages is up to date."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.driving import NoDriver, command_line

CLIENT = Path(__file__).parents[2] / "clients/js"
PARTS = ("chat", "link", "members", "outbox", "package", "room", "token")
BUILT = "hubbub.js"


@pytest.fixture
def node() -> list[str]:
    """Node and the flags it needs."""
    try:
        *node, _ = command_line("javascript")
    except NoDriver as missing:
        pytest.skip(str(missing))
    return node


def run(command: list[str], folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, **environ}
    return subprocess.run(
        command, cwd=folder, env=settings, capture_output=True, text=True, check=False
    )


def passed(node: list[str], names: tuple[str, ...], client: str) -> int:
    """How many tests passed; all of them must."""
    files = [f"test/{name}.test.mjs" for name in names]
    command = [*node, "--test", "--test-reporter=tap", *files]
    done = run(command, CLIENT, HUBBUB_CLIENT=client, HUBBUB_PYTHON=sys.executable)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {
        name: int(count)
        for name, count in re.findall(r"^# (\w+) (\d+)$", done.stdout, re.MULTILINE)
    }
    assert counts["skipped"] == counts["cancelled"] == 0, done.stdout
    return counts["pass"]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("client", ["source", "built"])
def test_the_parts(node: list[str], client: str) -> None:
    assert passed(node, PARTS, client) > 100


@pytest.mark.timeout(300)
def test_against_a_server(node: list[str]) -> None:
    assert passed(node, ("server",), "built") > 20


def test_every_test_is_run() -> None:
    found = {path.name.removesuffix(".test.mjs") for path in CLIENT.glob("test/*.test.mjs")}
    assert found == {*PARTS, "server"}


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    """A copy of the package with its development tools."""
    if shutil.which("npm") is None:
        pytest.skip("no npm on PATH")
    folder = tmp_path / "js"
    shutil.copytree(CLIENT, folder, ignore=shutil.ignore_patterns("node_modules"))
    patience = ["--fetch-retries=0", "--fetch-timeout=20000"]
    quiet = ["--no-audit", "--no-fund", "--no-package-lock"]
    installed = run(["npm", "install", *patience, *quiet], folder)
    if installed.returncode:
        pytest.skip(f"npm cannot install the development tools: {installed.stderr[-300:]}")
    return folder


@pytest.mark.timeout(180)
def test_the_types_fit_the_source_and_its_uses(node: list[str], workshop: Path) -> None:
    checked = run(["npm", "run", "types"], workshop)
    assert checked.returncode == 0, checked.stdout
    types = workshop / "hubbub.d.ts"
    types.write_text(types.read_text().replace("  leave():", "  quit():"))
    assert run(["npm", "run", "types"], workshop).returncode != 0


@pytest.mark.timeout(180)
def test_the_file_for_pages_is_made_from_the_source(node: list[str], workshop: Path) -> None:
    (workshop / BUILT).unlink()
    built = run(["npm", "run", "build"], workshop)
    assert built.returncode == 0, built.stderr
    assert (workshop / BUILT).read_text() == (CLIENT / BUILT).read_text(), "npm run build"
