"""Each step that keeps hubbub safe, switched off alone, is missed by a run with the right fault:
so the runs would notice if it stopped working."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from tests.chaos.conftest import CHAOS
from tests.chaos.matrix import ROWS
from tests.chaos.run import Load, Result, perform
from tests.chaos.system import Setting, System
from tests.chaos.without import STEPS

pytestmark = CHAOS

LOAD = Load(members=6, readers=1, rooms=2, publishers=3, pause=0.03, impatient=0.0)
PATIENCE = 10.0  # seconds; what is found at all is found within a few
AT_ONCE = 4  # systems; most of the time they wait
WITHOUT = {
    # the step: the row that misses it, what else is switched off or set, what is found then
    "log-first": ("29b", "hurry", "log_hole"),
    "continuity": ("20b", "hurry", "silent_gap"),
    "merge": ("19b", "hurry,small-buffer", "silent_gap"),
    "resubscription": ("17b", "hurry,tops", "stale_end"),
    "pulse": ("18", "hurry,tops", "promise"),  # that the connection is given up
    "tops": ("20", "hurry", "stale_end"),
}


async def run(row: str, words: str, folder: Path, places: asyncio.Semaphore) -> Result:
    entry = ("tests.chaos.without", words)
    setting = Setting(nodes=2 if row == "19b" else 1, proxied=True, entry=entry)
    changed = replace(ROWS[row], load=LOAD, setting=setting)
    async with places, System(setting, folder) as system:
        return await perform(changed, system, seed=0, patience=PATIENCE)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Result, Result]]:
    """Of each step: with it and without it."""
    folder, places = tmp_path_factory.mktemp("nodes"), asyncio.Semaphore(AT_ONCE)

    async with asyncio.TaskGroup() as tasks:
        found = {
            step: tuple(
                tasks.create_task(run(row, words, folder, places))
                for words in (others, f"{others},{step}")
            )
            for step, (row, others, _) in WITHOUT.items()
        }
    return {step: (whole.result(), broken.result()) for step, (whole, broken) in found.items()}


def test_every_step_is_switched_off() -> None:
    assert set(WITHOUT) == set(STEPS)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("step", WITHOUT)
async def test_a_step_that_is_missing_is_missed(
    step: str, results: dict[str, tuple[Result, Result]]
) -> None:
    whole, broken = results[step]
    assert not whole.bad
    assert WITHOUT[step][-1] in {finding.kind for finding in broken.bad}
