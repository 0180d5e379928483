"""The rows of the fault matrix that fit into a run of all tests. `make chaos` runs all of them."""

from dataclasses import replace

import pytest

from tests.chaos.conftest import CHAOS, TakeSystem
from tests.chaos.matrix import NOT_INJECTED, ROWS
from tests.chaos.report import line_of, summary
from tests.chaos.run import Load, perform

pytestmark = CHAOS

CHOSEN = ["1", "9", "12", "14", "15", "17", "20b", "22b", "26", "29b", "30", "37", "39", "40"]
SMALLER = {
    "6": Load(members=300, readers=0, rooms=10, rooms_each=1, publishers=5, pause=0.5, pace=1.0),
}


def test_every_row_of_the_matrix_is_there_or_it_is_said_why_not() -> None:
    assert not ROWS.keys() & NOT_INJECTED.keys()
    numbers = {int(name.rstrip("b")) for name in ROWS.keys() | NOT_INJECTED.keys()}
    assert numbers == set(range(1, 41))


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", [*CHOSEN, *SMALLER])
async def test_what_was_promised_is_kept(name: str, system_for: TakeSystem) -> None:
    row = ROWS[name]
    row = replace(row, load=SMALLER.get(name, row.load))
    result = await perform(row, await system_for(row.setting), seed=0)
    assert not result.bad, summary(line_of(result, 0.0, ""))
    assert result.verdict.acked
    assert result.verdict.delivered
