"""What the README has people type and paste who talk to a running server, as it is written."""

import asyncio
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path
from typing import Any

import pytest

from tests.api import KEY, WITH_A_KEY
from tests.command_line import INHERITED
from tests.running_server import Serve

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
HERE = "http://127.0.0.1:8000"


@pytest.fixture
def transport() -> str:
    """It is the same HTTP."""
    return "lane"


def block(language: str, part: str) -> str:
    """The block of the README that contains this."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (found,) = (code for code in blocks if part in code)
    return str(found)


@pytest.mark.timeout(180)  # a dozen processes, one after the other
async def test_the_commands_for_a_terminal_work_as_they_are_written(serve: Serve) -> None:
    server = await serve(ping_interval=600)  # none comes in between
    bob, _ = await server.member("bob", "lobby")
    commands = block("sh", "hubbub publish lobby")
    script = f'set -e -o pipefail\nhubbub() {{ "{sys.executable}" -m entrypoints.cli "$@"; }}\n'
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", script + commands),
        env={**INHERITED, "PYTHONPATH": str(ROOT), "HUBBUB_URL": server.url},
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
    )
    told = (await process.communicate())[0].decode()
    assert process.returncode == 0, told
    assert "published to lobby as number 1\n" in told
    assert "3 messages published to lobby, the last one as number 5" in told
    assert "lobby  1\n" in told
    assert "WAITING" in told
    for data in ({"text": "hello"}, {"text": "once"}, 1, 2, 3):
        await bob.expect("message", data=data)
    await bob.expect("removed", code="kicked", reason="be nice")
    assert (await bob.closed_after_farewell())[0] == 4003


@pytest.mark.parametrize("library", ["httpx", "requests"])
async def test_one_line_publishes_from_synchronous_code(
    serve: Serve, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve(**WITH_A_KEY)
    ann = await server.user("ann")
    monkeypatch.setenv("HUBBUB_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "*")
    code = block("python", "def invoice_ready")
    assert HERE in code
    names: dict[str, Any] = {}
    exec(code.replace(HERE, server.url).replace("httpx", library), names)  # noqa: S102 (our own)
    for number in (7, 7, 8):  # a task that is repeated
        await asyncio.to_thread(names["invoice_ready"], "ann", number)
    for seq, number in ((1, 7), (2, 8)):
        await ann.expect("message", room="@ann", seq=seq, data={"invoice": number})
    assert await ann.is_quiet()
