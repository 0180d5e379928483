"""docs/chaos/README.md, written from results."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks import machine
from tests.chaos.report import Line, matrix, table

PATH = "docs/chaos/README.md"

_PAGE = """\
# What happens when things break

Real nodes as processes, a real Redis (alone, with Sentinels, as a cluster), real clients over
WebSocket and event streams, and one fault after the other while they talk. Everything that was
asked, answered, delivered and told is written down, and a checker decides afterwards, room by
room, whether a promise was broken. How to run this, to read a history and to repeat one:
[CONTRIBUTING.md](../../CONTRIBUTING.md#breaking-things).

This page was written by `{command}` on {day}, with hubbub {version}, on {machine}.
Nodes, Redis, clients and the checker share these cores, so delays are upper bounds.

## What is injected

{matrix}
## What was found

{table}
- *lost*: acknowledged, and the store does not have it any more. Only faults of the store itself
  may do that; *lost untold* counts the clients that had seen such a message, or miss one, and were
  not told.
- *unknown (applied)*: publishes without an answer that says whether they were done, and how many
  messages were there without an acknowledgement.
- *left out*: seqs missing at a client without a word, or in the store's log.
- *told*: how often clients were told that something cannot be kept, once for each client and room.
- *delay*: the slowest message to each client after each fault, from the first try to publish it
  to its arrival. It holds the outage, the publisher's repetitions and the client's way back.
- *bad*: runs in which any promise was broken. None in n runs only says that it happens less often
  than about once in n / 3.
"""


def write(root: Path, lines: Sequence[Line], other: str | None) -> None:
    """`other`: the build that was upgraded from."""
    page = _PAGE.format(
        command=f'make chaos ARGS="--document{f" --other {other}" if other else ""}"',
        day=datetime.now(tz=UTC).date().isoformat(),
        version=version("hubbub"),
        machine=", ".join(machine.describe().values()),
        matrix=matrix(),
        table=table(lines),
    )
    path = root / PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
