"""The layer rule, held by import-linter, and what it cannot see: file names and package markers.

The contracts themselves are in pyproject.toml. Each is broken once on purpose, in a small tree of
the same shape, so that a contract which has stopped catching anything does not pass for kept.
"""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("domain", "application", "adapters", "entrypoints")
VAGUE = {"utils", "util", "helpers", "helper", "manager", "service", "base", "common"}

SKELETON = {
    "domain/room.py": "import re",
    "domain/message.py": "import domain.room",
    "application/hub.py": "import domain.message",
    "application/ports/broadcasting.py": "import domain.message",
    "adapters/memory/broker.py": "import application.ports.broadcasting",
    "adapters/memory/presence.py": "import adapters.memory.broker",
    "adapters/transport/outbox.py": "import application.hub",
    "adapters/tokens/keys.py": "import jwt",
    "adapters/prometheus_metrics.py": "import prometheus_client",
    "entrypoints/settings.py": "import os",
    "entrypoints/container.py": "import adapters.memory.broker, adapters.transport.outbox",
    "entrypoints/http/rooms.py": "import application.hub, fastapi",
    "entrypoints/asgi.py": "import entrypoints.container, entrypoints.http.rooms",
    "entrypoints/cli.py": "import entrypoints.container",
}

# contract, file of the skeleton, the line that must break this contract and no other
VIOLATIONS = [
    ("imports point inward", "domain/room.py", "import application.hub"),
    ("imports point inward", "application/hub.py", "from entrypoints import settings"),
    ("imports point inward", "adapters/memory/broker.py", "import entrypoints.settings"),
    ("domain is pure", "domain/room.py", "import asyncio"),
    ("domain is pure", "domain/message.py", "from time import monotonic"),
    ("domain is pure", "domain/message.py", "def late() -> None:\n    import logging"),
    ("application knows no framework", "application/hub.py", "from fastapi import WebSocket"),
    ("application knows no framework", "application/ports/broadcasting.py", "import redis.asyncio"),
    ("adapters ignore each other", "adapters/memory/broker.py", "import adapters.transport.outbox"),
    ("adapters ignore each other", "adapters/tokens/keys.py", "import adapters.memory"),
    ("one composition root", "entrypoints/http/rooms.py", "from adapters.memory import broker"),
    ("one composition root", "entrypoints/cli.py", "import adapters.tokens.keys"),
    ("container stays at the edge", "entrypoints/http/rooms.py", "import entrypoints.container"),
    ("no cycles", "domain/room.py", "from domain import message"),
    ("no cycles", "adapters/memory/broker.py", "import adapters.memory.presence"),
]


def configuration() -> dict[str, Any]:
    linter: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    return {"importlinter": linter["importlinter"]}


def contract_names() -> set[str]:
    return {contract["name"] for contract in configuration()["importlinter"]["contracts"]}


def verdicts(directory: Path) -> dict[str, str]:
    """Contract name to KEPT or BROKEN, for the tree in `directory`.

    Runs in a fresh process: the linter imports the packages it examines, and this process may
    hold others of the same names.
    """
    script = "from importlinter.cli import lint_imports; lint_imports(no_cache=True, no_logo=True)"
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=directory,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = dict(re.findall(r"^(.+) (KEPT|BROKEN)$", run.stdout, re.MULTILINE))
    assert found, run.stdout + run.stderr
    return found


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    """A tree that keeps every contract, with the contracts of the real pyproject.toml."""
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    for name, line in SKELETON.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(line + "\n")
        for package in file.relative_to(tmp_path).parents[:-1]:
            (tmp_path / package / "__init__.py").touch()
    return tmp_path


def test_the_tree_keeps_every_contract() -> None:
    assert verdicts(ROOT) == dict.fromkeys(contract_names(), "KEPT")


def test_the_skeleton_keeps_every_contract(skeleton: Path) -> None:
    assert verdicts(skeleton) == dict.fromkeys(contract_names(), "KEPT")


def test_every_contract_is_broken_once_below() -> None:
    assert {contract for contract, _, _ in VIOLATIONS} == contract_names()


@pytest.mark.parametrize(("contract", "file", "line"), VIOLATIONS)
def test_a_violation_breaks_its_contract(
    skeleton: Path, contract: str, file: str, line: str
) -> None:
    with (skeleton / file).open("a") as planted:
        planted.write(line + "\n")
    broken = {name for name, verdict in verdicts(skeleton).items() if verdict == "BROKEN"}
    assert broken == {contract}


def modules(root: Path, *packages: str) -> Iterator[Path]:
    for package in packages:
        yield from (root / package).rglob("*.py")


def imported_roots(module: Path) -> set[str]:
    """First parts of the names imported by absolute imports, wherever in the file they stand."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_domain_needs_only_the_standard_library() -> None:
    imports = set[str]().union(*map(imported_roots, modules(ROOT, "domain")))
    assert "domain" in imports, "nothing was read"
    assert imports - sys.stdlib_module_names == {"domain"}


def vaguely_named(root: Path) -> set[str]:
    """Modules and packages one of whose words says nothing about what belongs in them."""
    names = {
        path.relative_to(root)
        for module in modules(root, *PACKAGES)
        for path in (module, module.parent)
    }
    return {str(name) for name in names if VAGUE & set(name.stem.lower().split("_"))}


def test_every_file_name_says_what_belongs_in_it() -> None:
    assert vaguely_named(ROOT) == set()


def test_a_vague_file_name_is_found(skeleton: Path) -> None:
    (skeleton / "adapters/room_manager.py").touch()
    (skeleton / "domain/common").mkdir()
    (skeleton / "domain/common/names.py").touch()
    assert vaguely_named(skeleton) == {"adapters/room_manager.py", "domain/common"}


def test_every_package_is_marked_and_tests_are_not() -> None:
    """A folder without its marker is missing from the wheel and unseen by the linter; a marker in
    tests/ makes tests/domain shadow `domain`."""
    folders = {module.parent for module in modules(ROOT, *PACKAGES)}
    assert {folder for folder in folders if not (folder / "__init__.py").exists()} == set()
    assert list((ROOT / "tests").rglob("__init__.py")) == []
