"""The AsyncAPI document in the eyes of AsyncAPI's own parser, which needs npm."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from entrypoints.bench.compile import cache_folder
from entrypoints.http.asyncapi import asyncapi

PARSER = "@asyncapi/parser@3.6.6"
SCRIPT = """
const { Parser } = require("@asyncapi/parser");
const text = require("fs").readFileSync(0, "utf8");
new Parser().parse(text).then(({ document, diagnostics }) => {
  const found = diagnostics.filter((one) => one.severity <= 1);
  const channels = document ? document.channels().all().length : 0;
  console.log(JSON.stringify({ channels, found }));
});
"""
PATIENCE = ["--fetch-retries=1", "--fetch-timeout=20000", "--prefer-offline"]
QUIET = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--silent"]


def run(command: list[str], folder: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, input=given, capture_output=True, text=True, check=False
    )


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    """A folder with the parser in it, kept from one run to the next."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no node and npm on PATH")
    kept = cache_folder(os.environ).parent / PARSER.replace("/", "-")
    if not (kept / "node_modules").exists():
        made = tmp_path / "parser"
        made.mkdir()
        installed = run(["npm", "install", PARSER, *PATIENCE, *QUIET], made)
        if installed.returncode:
            pytest.skip(f"npm cannot install {PARSER}: {installed.stderr[-300:]}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.move(made, kept)
        except OSError:  # another process was faster
            assert (kept / "node_modules").exists()
    return kept


def parsed(document: object, folder: Path) -> dict[str, list[object]]:
    done = run(["node", "-e", SCRIPT], folder, json.dumps(document))
    assert done.returncode == 0, done.stderr
    found: dict[str, list[object]] = json.loads(done.stdout)
    return found


@pytest.mark.timeout(300)
def test_the_parser_has_nothing_to_say(workshop: Path) -> None:
    document = asyncapi()
    assert parsed(document, workshop) == {"channels": len(document["channels"]), "found": []}
    broken = {**document, "operations": {"main.join": {"action": "recieve"}}}
    assert parsed(broken, workshop)["found"]
