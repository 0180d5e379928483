"""The parts of the pages that need no browser, run by node: above all, that a text which several
people write becomes the same one for all of them."""

import subprocess
from pathlib import Path

import pytest

from tests.clients.driving import NoDriver, command_line

TESTS = sorted((Path(__file__).parent / "pages").glob("*.test.mjs"))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("file", TESTS, ids=lambda path: str(path.name))
def test_in_node(file: Path) -> None:
    try:
        *node, _ = command_line("javascript")
    except NoDriver as missing:
        pytest.skip(str(missing))
    done = subprocess.run(
        [*node, "--test", "--test-reporter=tap", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# pass 0" not in done.stdout


def test_there_are_such_tests() -> None:
    assert {path.name for path in TESTS} == {"parts.test.mjs", "shared-text.test.mjs"}
