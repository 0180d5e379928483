"""What processes cost, as Linux tells it in /proc."""

import os
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")


class NoSuchProcess(Exception):
    """There is nothing to measure under this number."""


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time used so far, by all threads. Raises NoSuchProcess."""
    return sum(map(_cpu_seconds, pids))


def _cpu_seconds(pid: int) -> float:
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        raise NoSuchProcess(f"process {pid}, whose cost was to be measured, is not there") from None
    # The name in parentheses may hold anything; user and system time are 12 and 13 behind it.
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def memory_kib(pids: Iterable[int]) -> int:
    """Memory resident."""
    return sum(map(_memory_kib, pids))


def _memory_kib(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def process_tree(pid: int) -> tuple[int, ...]:
    """The process and those it started. Raises NoSuchProcess; empty where there is no /proc."""
    if not _PROC.joinpath("self").exists():
        return ()
    try:
        lists = [task.read_text() for task in (_PROC / str(pid) / "task").glob("*/children")]
    except OSError:
        lists = []
    if not (_PROC / str(pid)).exists():
        raise NoSuchProcess(f"there is no process {pid}")
    children = (int(child) for text in lists for child in text.split())
    return (pid, *(member for child in children for member in process_tree(child)))
