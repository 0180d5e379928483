"""The Autobahn cases, as kosoku drives them, against the lane: an echo without limits."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from sysconfig import get_path
from typing import Any, NamedTuple

import pytest

from adapters.transport import fragments
from application.compressed import deflated
from application.framing import text_frame
from tests.lane_server import LaneServer, Line

FRAME_LIMIT = 1 << 20
DEADLINE = 50.0  # seconds for a run; it takes a tenth

# 1 framing, 2 pings, 3 reserved bits, 4 opcodes, 5 fragments, 6 UTF-8, 7 closing, 10 fragmenting.
GROUPS = [f"{group}.*" for group in (1, 2, 3, 4, 5, 6, 7, 10)]
# Invalid UTF-8 is refused at the end of its frame, not at its first byte; and cases of which the
# suite itself says that they inform.
NOT_OK = {
    "6.4.3": "NON-STRICT",
    "6.4.4": "NON-STRICT",
    "7.1.6": "INFORMATIONAL",
    "7.13.1": "INFORMATIONAL",
    "7.13.2": "INFORMATIONAL",
}
# 1,000 messages of 16 bytes to 128 KiB each, as they are and in fragments, in parts that take a
# few seconds each.
DEFLATE = [
    [f"{group}.{size}" for size in sizes]
    for group in ("12.1", "13.1")
    for sizes in (range(1, 9), range(9, 14), range(14, 19))
]


class Outcome(NamedTuple):
    """What the suite made of a case; `cut_off` where it broke off itself, after half a second."""

    behaviour: str
    closing: str
    cut_off: bool = False


def echo(line: Line) -> None:
    line.receive = line.push


def echo_compressed(line: Line) -> None:
    """The suite believes that who agreed to compress compresses everything."""

    def answer(message: str | bytes) -> None:
        assert isinstance(message, str)
        line.transport.push(deflated(text_frame(message.encode())))

    line.receive = answer


async def run(
    server: LaneServer, cases: list[str], folder: Path, *, parallel: int = 4
) -> dict[str, Outcome]:
    """Drive the cases, and read what came of each."""
    chosen = [argument for case in cases for argument in ("--include", case)]
    process = await asyncio.create_subprocess_exec(
        Path(get_path("scripts")) / "kosoku",
        *chosen,
        *("--parallelism", str(parallel), "--outdir", str(folder)),
        f"127.0.0.1:{server.port}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(DEADLINE):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    (found,) = json.loads((folder / "index.json").read_text()).values()
    return {name: outcome(folder / case["reportfile"]) for name, case in found.items()}


def outcome(report: Path) -> Outcome:
    told: dict[str, Any] = json.loads(report.read_text())
    cut_off = any(entry[0] == "KLE" for entry in told["wirelog"])  # "kill after" has run out
    return Outcome(told["behavior"], told["behaviorClose"], cut_off)


async def outcomes(
    cases: list[str], folder: Path, door: Callable[[Line], None], *, compression: bool = False
) -> dict[str, Outcome]:
    server = LaneServer(limit=64 << 20, frame_limit=FRAME_LIMIT, compression=compression)
    server.on_line = door
    await server.start()
    try:
        found = await run(server, cases, folder)
        if late := [name for name, outcome in found.items() if outcome.cut_off]:
            # A machine that stood still for half a second says nothing of the server: the cases
            # it hit have one more go, one at a time.
            found |= await run(server, late, folder / "again", parallel=1)
        return found
    finally:
        await server.stop()


def unexpected(found: dict[str, Outcome], allowed: dict[str, str]) -> dict[str, Outcome]:
    """The cases that went otherwise, by name."""
    return {
        name: outcome
        for name, outcome in found.items()
        if outcome.behaviour != allowed.get(name, "OK")
        or outcome.closing not in ("OK", allowed.get(name, "OK"))
    }


async def test_every_case_of_the_protocol_passes(tmp_path: Path) -> None:
    found = await outcomes(GROUPS, tmp_path, echo)
    assert unexpected(found, NOT_OK) == {}
    assert len(found) == 247


@pytest.mark.parametrize("cases", DEFLATE, ids=lambda cases: f"{cases[0]}-{cases[-1]}")
async def test_every_case_of_compression_passes(
    cases: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fragments, "MAX_FRAGMENTS", 1 << 20)
    found = await outcomes(cases, tmp_path, echo_compressed, compression=True)
    assert unexpected(found, {}) == {}
    assert sorted(found) == sorted(cases)


async def test_a_case_of_which_nothing_comes_back_is_found(tmp_path: Path) -> None:
    def mute(line: Line) -> None:
        line.receive = lambda _message: None

    found = await outcomes(["6.11.1"], tmp_path, mute)
    assert found == {"6.11.1": Outcome("FAILED", "FAILED", cut_off=True)}


def test_a_case_that_fails_is_found() -> None:
    found = {
        "1.1.1": Outcome("OK", "OK"),
        "1.1.2": Outcome("FAILED", "OK"),
        "1.1.3": Outcome("OK", "FAILED"),
        "1.1.4": Outcome("INFORMATIONAL", "INFORMATIONAL"),
        "7.1.6": Outcome("INFORMATIONAL", "INFORMATIONAL"),
    }
    assert list(unexpected(found, NOT_OK)) == ["1.1.2", "1.1.3", "1.1.4"]
