"""Commands on one room in the order sent, whatever some of them wait for."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from domain.errors import RateLimited
from entrypoints.ws.room_order import (
    ENVELOPE,
    MAX_WAITING,
    MAX_WAITING_BYTES,
    Command,
    RoomOrder,
    Work,
)


class Desk:
    """Runs commands in room order, and writes down what they did."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.over = False
        self._order = RoomOrder(self._spawn, lambda: self.over)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.create_task(work))

    def quick(self, name: str, room: str = "chat", size: int = 1) -> None:
        """A command that is through at once."""
        self.command(lambda: self.done.append(name), room, size)

    def command(self, command: Command, room: str = "chat", size: int = 1) -> None:
        self._order.run(room, command, "x" * size)

    def slow(self, name: str, gate: asyncio.Event, room: str = "chat") -> None:
        """A command that has to wait."""

        async def rest() -> None:
            self.done.append(f"{name} begins")
            await gate.wait()
            self.done.append(f"{name} ends")

        def command() -> Work:
            return rest

        self.command(command, room)


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def until_done(desk: Desk) -> list[str]:
    async with asyncio.timeout(20):
        await asyncio.gather(*desk.tasks)
    return desk.done


async def test_what_need_not_wait_is_done_at_once(desk: Desk) -> None:
    desk.quick("a")
    desk.quick("b")
    assert desk.done == ["a", "b"]
    assert desk.tasks == []


async def test_what_comes_after_something_slow_waits_for_it(desk: Desk) -> None:
    gate = asyncio.Event()
    desk.slow("join", gate)
    desk.quick("a")
    desk.quick("b")
    await asyncio.sleep(0)
    assert desk.done == ["join begins"]
    gate.set()
    assert await until_done(desk) == ["join begins", "join ends", "a", "b"]


async def test_slow_commands_follow_one_another(desk: Desk) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    desk.slow("one", first)
    desk.slow("two", second)
    desk.quick("three")
    second.set()
    await asyncio.sleep(0)
    assert desk.done == ["one begins"]
    first.set()
    assert await until_done(desk) == [
        "one begins", "one ends", "two begins", "two ends", "three"
    ]  # fmt: skip


async def test_rooms_do_not_wait_for_each_other(desk: Desk) -> None:
    gate = asyncio.Event()
    desk.slow("join", gate)
    desk.quick("elsewhere", "news")
    assert desk.done == ["elsewhere"]
    gate.set()
    await until_done(desk)


async def test_once_all_is_through_nothing_waits(desk: Desk) -> None:
    gate = asyncio.Event()
    gate.set()
    desk.slow("join", gate)
    desk.quick("a")
    await until_done(desk)
    desk.quick("b")
    assert desk.done == ["join begins", "join ends", "a", "b"]
    assert len(desk.tasks) == 1


async def test_a_command_that_comes_from_a_command_is_the_last(desk: Desk) -> None:
    gate = asyncio.Event()
    gate.set()
    desk.slow("join", gate)
    desk.command(lambda: desk.quick("nested"))
    desk.quick("a")
    assert await until_done(desk) == ["join begins", "join ends", "a", "nested"]


async def test_only_so_many_wait(desk: Desk) -> None:
    gate = asyncio.Event()
    desk.slow("join", gate)
    for number in range(MAX_WAITING):
        desk.quick(f"{number}")
    with pytest.raises(RateLimited):
        desk.quick("one too many")
    desk.quick("elsewhere", "news")
    gate.set()
    done = await until_done(desk)
    assert done[0] == "elsewhere"
    assert done[3:] == [f"{number}" for number in range(MAX_WAITING)]


async def test_only_so_many_wait_over_all_rooms(desk: Desk) -> None:
    gate, most = asyncio.Event(), MAX_WAITING_BYTES // ENVELOPE
    rooms = [f"room-{number}" for number in range(2 * most // MAX_WAITING)]
    for room in rooms:
        desk.slow("join", gate, room)
    for number in range(most):
        desk.quick(f"{number}", rooms[number % len(rooms)], size=0)
    for room in rooms:
        with pytest.raises(RateLimited):
            desk.quick("one too many", room, size=0)
    gate.set()
    await until_done(desk)
    await wait_again(desk, MAX_WAITING)


async def test_only_so_many_bytes_wait_over_all_rooms(desk: Desk) -> None:
    gate, half = asyncio.Event(), MAX_WAITING_BYTES // 2 - ENVELOPE
    for room in ("a", "b", "c"):
        desk.slow("join", gate, room)
    desk.quick("1", "a", size=half)
    desk.quick("2", "b", size=half)
    with pytest.raises(RateLimited):
        desk.quick("one too many", "c")
    gate.set()
    done = await until_done(desk)
    assert {"1", "2"} < set(done)
    assert "one too many" not in done
    await wait_again(desk, MAX_WAITING)


async def test_a_single_command_waits_whatever_its_size(desk: Desk) -> None:
    gate = asyncio.Event()
    desk.slow("join", gate)
    desk.quick("large", size=2 * MAX_WAITING_BYTES)
    with pytest.raises(RateLimited):
        desk.quick("one too many")
    gate.set()
    assert (await until_done(desk))[-1] == "large"


async def wait_again(desk: Desk, count: int) -> None:
    """As many may wait as at the beginning: nothing is counted that is through."""
    gate = asyncio.Event()
    desk.slow("join", gate)
    for _ in range(count):
        desk.quick("again")
    gate.set()
    assert (await until_done(desk)).count("again") == count


async def test_what_waits_when_the_session_ends_is_not_done(desk: Desk) -> None:
    gate = asyncio.Event()
    desk.slow("join", gate)
    desk.quick("publish")
    desk.slow("history", gate)
    await asyncio.sleep(0)
    desk.over = True
    gate.set()
    assert await until_done(desk) == ["join begins", "join ends"]


async def test_a_connection_that_ends_first_leaves_no_work_behind(desk: Desk) -> None:
    """Work that was never begun is no coroutine that nobody awaited, which would be a warning."""
    gate = asyncio.Event()
    desk.slow("join", gate)
    desk.slow("again", gate)
    for task in desk.tasks:
        task.cancel()
    await asyncio.wait(desk.tasks)
    assert desk.done == []
    assert [task.cancelled() for task in desk.tasks] == [True]
