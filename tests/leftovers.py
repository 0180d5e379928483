"""What connections leave behind in a process once they are over: nothing, everywhere one looks."""

import asyncio
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from adapters.memory.presence import MemoryPresence
from entrypoints.container import Container

_NAMELESS = re.compile(r"Task-\d+\Z")
_OURS = tuple(
    str(Path(__file__).parents[1] / package) + os.sep
    for package in ("domain", "application", "adapters", "entrypoints")
)


def held(container: Container, background: Collection[asyncio.Task[Any]]) -> dict[str, float]:
    """What the parts of a server still hold of connections. `background` are tasks that run beside
    them."""
    hub, admission = container.hub(), container.admission()
    shared = container.settings().backend == "redis"  # whose tasks come and go by themselves
    found = {
        "sessions": len(hub.sessions),
        "users": len(hub._users),
        "rooms": len(hub._rooms),
        "readers that wait": len(hub.reader._lacking) + hub.reader._requests.qsize(),
        "seats": _seats(container.presence()),
        "places": admission._total + admission._unknown,
        "addresses": len(admission._addresses) + len(admission._unknown_at),
        "tasks of ours": 0 if shared else len(our_tasks() - set(background)),
    }
    return {name: float(number) for name, number in found.items() if number}


def _seats(presence: object) -> int:
    """Sessions that are in a room as far as presence knows. Who is in grace is none."""
    if not isinstance(presence, MemoryPresence):
        return 0  # Redis has the last word, and tests of its own
    rosters = presence._rosters.values()
    return sum(len(seat.sessions) for roster in rosters for seat in roster._seats.values())


def our_tasks() -> set[asyncio.Task[Any]]:
    """Tasks of the running loop that run code of the server, but for those of the node: they have
    names, and make each other when it begins."""
    tasks = {task for task in asyncio.all_tasks() if _NAMELESS.match(task.get_name())}
    return {task for task in tasks if _file(task).startswith(_OURS)}


def _file(task: asyncio.Task[Any]) -> str:
    code = getattr(task.get_coro(), "cr_code", None)
    return "" if code is None else str(code.co_filename)


def open_connections(port: int) -> int:
    """File descriptors of this process that are accepted connections of a port; 0 where the
    system does not tell."""
    table = Path("/proc/self/net/tcp")
    if not table.exists():
        return 0
    local = f":{port:04X}"
    listening = "0A"
    rows = (line.split() for line in table.read_text().splitlines()[1:])
    inodes = {row[9] for row in rows if row[1].endswith(local) and row[3] != listening}
    return sum(_inode(name) in inodes for name in os.listdir("/proc/self/fd"))


def _inode(descriptor: str) -> str:
    try:
        kind, _, inode = os.readlink(f"/proc/self/fd/{descriptor}").partition(":")
    except OSError:
        return ""  # the one that listed them
    return inode.strip("[]") if kind == "socket" else ""
