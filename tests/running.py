"""Adapters that run, for as long as a test needs them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from tests.peer import DEADLINE


class Runs(Protocol):
    async def run(self) -> None: ...


@asynccontextmanager
async def running(*parts: Runs) -> AsyncIterator[None]:
    """Run them all; at the end, each must end when it is cancelled, and not have ended before."""
    tasks = [asyncio.ensure_future(part.run()) for part in parts]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended, _ = await asyncio.wait(tasks, timeout=DEADLINE)
    assert len(ended) == len(tasks), "it does not end when cancelled"
    for task in tasks:
        if not task.cancelled():
            task.result()
            raise AssertionError("it ended by itself")
