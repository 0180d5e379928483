"""Systems that tests share, and their place in a run of all tests."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tests.chaos.system import Setting, System

HERE = Path(__file__).parent
TakeSystem = Callable[[Setting], Awaitable[System]]


CHAOS = [pytest.mark.redis, pytest.mark.timeout(300)]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They take the longest and wait most of the time: from the beginning, and behind each other,
    as the first process is given the first tests."""
    items.sort(key=lambda item: HERE not in item.path.parents)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system_for(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TakeSystem]:
    """The system with a setting, the same one for all tests of a module."""
    async with AsyncExitStack() as started:
        systems: dict[Setting, System] = {}

        async def take(setting: Setting) -> System:
            if setting not in systems:
                system = System(setting, tmp_path_factory.mktemp("nodes"))
                systems[setting] = await started.enter_async_context(system)
            return systems[setting]

        yield take
