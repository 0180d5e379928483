"""`python -m tests.chaos.watched serve ...`: hubbub, which writes down how many tasks it has.

The number stands in a file `tasks-PID` of the working directory, for who plots it.
"""

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

from application.node import Node
from entrypoints import cli

PERIOD = 2.0  # seconds

_run = Node.run


def file_of(folder: Path, pid: int) -> Path:
    return folder / f"tasks-{pid}"


async def _run_watched(self: Node) -> None:
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(_watch(file_of(Path.cwd(), os.getpid())))
        await _run(self)
        watching.cancel()


async def _watch(file: Path) -> None:
    while True:
        _note(file, len(asyncio.all_tasks()))
        await asyncio.sleep(PERIOD)


def _note(file: Path, number: int) -> None:
    with suppress(OSError):  # some faults leave no file to be opened: the next time
        file.write_text(str(number))


if __name__ == "__main__":
    with patch.object(Node, "run", _run_watched):
        cli.main()
