"""What every Directory does."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.memory.directory import MemoryDirectory
from adapters.redis import directory as redis_directory
from adapters.redis.directory import RedisDirectory
from adapters.redis.lease import LENGTH
from adapters.redis.presence_scripts import NodeKeys
from application.ports.directory import Directory
from domain.identifiers import RoomId
from domain.listing import first_after
from tests.contract.conftest import Clock
from tests.peer import DEADLINE, until
from tests.presence_nodes import LiveNode
from tests.redis_server import RedisServer, StartRedis
from tests.running import running

KEYS = NodeKeys()
NAMES = st.from_regex(r"[A-Za-z0-9_.:@~-]{1,12}", fullmatch=True).filter(lambda n: n[0] != "@")


class Harness(ABC):
    """Directories of several nodes over one backend."""

    shared: ClassVar[bool]

    def __init__(self) -> None:
        self.running = AsyncExitStack()

    @abstractmethod
    async def node(self) -> Directory: ...

    @abstractmethod
    async def settle(self) -> None:
        """Wait until every node has told everything."""


class MemoryDirectories(Harness):
    shared = False

    async def node(self) -> Directory:
        made = MemoryDirectory()
        await self.running.enter_async_context(running(made))
        return made

    async def settle(self) -> None:
        """They do at once."""


class RedisDirectories(Harness):
    shared = True

    def __init__(self, server: RedisServer) -> None:
        super().__init__()
        self.server = server
        server.command("FLUSHALL")
        self.clock = Clock()
        self.nodes: list[tuple[LiveNode, RedisDirectory]] = []

    async def node(self) -> RedisDirectory:
        live = LiveNode(self.server.url, self.clock)
        await live.start()
        self.running.push_async_callback(live.stop)
        made = RedisDirectory(live.store, live.presence.lease)
        await self.running.enter_async_context(running(made))
        self.nodes.append((live, made))
        return made

    async def settle(self) -> None:
        await until(lambda: all(made.settled for _, made in self.nodes))

    def kept(self, number: int) -> list[str]:
        """What Redis has of a node."""
        names: list[str] = self.server.command(
            "ZRANGE", KEYS.open(self.nodes[number][0].name), 0, -1
        )
        return names


HARNESSES: dict[str, Callable[[pytest.FixtureRequest], Harness]] = {
    "memory": lambda _: MemoryDirectories(),
    "redis": lambda request: RedisDirectories(request.getfixturevalue("redis_server")),
}


@pytest.fixture(params=HARNESSES)
async def directories(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Harness]:
    monkeypatch.setattr(redis_directory, "MOMENT", 0.01)
    harness = HARNESSES[request.param](request)
    async with harness.running:
        yield harness


@pytest.fixture
async def on_redis(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RedisDirectories]:
    monkeypatch.setattr(redis_directory, "MOMENT", 0.01)
    harness = RedisDirectories(redis_server)
    async with harness.running:
        yield harness


def rooms(*names: str) -> list[RoomId]:
    return [RoomId(name) for name in names]


async def whole(directory: Directory, prefix: str = "", limit: int = 3) -> list[RoomId]:
    """All names, page by page."""
    found: list[RoomId] = []
    while True:
        page = await directory.page(prefix, found[-1] if found else "", limit)
        assert len(page) <= limit
        found += page
        if len(page) < limit:
            return found


async def test_rooms_are_listed_by_name_while_they_are_open(directories: Harness) -> None:
    node = await directories.node()
    for room in rooms("b", "a", "B", "c"):
        node.opened(room)
    assert await node.page("", "", 10) == ["B", "a", "b", "c"]
    node.closed(RoomId("b"))
    node.closed(RoomId("never-there"))
    assert await node.page("", "", 10) == ["B", "a", "c"]


async def test_opening_and_closing_twice_is_harmless(directories: Harness) -> None:
    node = await directories.node()
    for _ in range(2):
        node.opened(RoomId("a"))
    await directories.settle()
    assert await node.page("", "", 10) == ["a"]
    for _ in range(2):
        node.closed(RoomId("a"))
    await directories.settle()
    assert await node.page("", "", 10) == []


async def test_a_prefix_and_a_place_to_go_on(directories: Harness) -> None:
    node = await directories.node()
    for room in rooms("chat", "chat:1", "chat:2", "chat:~", "chats", "news"):
        node.opened(room)
    assert await node.page("chat:", "", 10) == ["chat:1", "chat:2", "chat:~"]
    assert await node.page("chat:", "chat:1", 1) == ["chat:2"]
    assert await node.page("chat", "chat", 2) == ["chat:1", "chat:2"]
    assert await node.page("chat:", "a", 1) == ["chat:1"]
    assert await node.page("chat:", "news", 10) == []
    assert await node.page("x", "", 10) == []


async def test_the_rooms_of_all_nodes_are_one_list(directories: Harness) -> None:
    if not directories.shared:
        pytest.skip("this backend lives in one process")
    one, two, three = [await directories.node() for _ in range(3)]
    for node, names in ((one, "a c e g"), (two, "b c f"), (three, "")):
        for room in rooms(*names.split()):
            node.opened(room)
    await directories.settle()
    for node in (one, two, three):
        assert await whole(node) == ["a", "b", "c", "e", "f", "g"]
    one.closed(RoomId("c"))
    two.closed(RoomId("f"))
    await directories.settle()
    for node in (one, two, three):
        assert await whole(node) == ["a", "b", "c", "e", "g"]


@pytest.mark.parametrize("asked", ["(", "[", "+", "-", "\x00", "é", "\x7f", "*", "{}", " "])
async def test_hostile_questions_are_answered_like_others(directories: Harness, asked: str) -> None:
    node = await directories.node()
    other = await directories.node() if directories.shared else node
    names = rooms("-", "~", "a", "-b", ":", "A")
    for room in names:
        other.opened(room)
    await directories.settle()
    assert await node.page(asked, "", 10) == first_after(names, asked, "", 10)
    assert await node.page("", asked, 10) == first_after(names, "", asked, 10)


async def test_whatever_the_names_are(directories: Harness) -> None:
    reader = await directories.node()
    writer = await directories.node() if directories.shared else reader
    names = sorted(rooms("-", "--", "~", ".", ":", "_", "0", "a" * 128, "_.:@~-", "A", "z"))
    for room in names:
        writer.opened(room)
    await directories.settle()
    assert await whole(reader) == names


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(NAMES), st.text(max_size=3), st.text(max_size=3), st.integers(1, 5))
def test_a_page_is_what_comes_next(names: set[str], prefix: str, after: str, limit: int) -> None:
    found = first_after(map(RoomId, names), prefix, after, limit)
    every = sorted(name for name in names if name.startswith(prefix) and name > after)
    assert found == every[:limit]


# What only Redis can lose


async def test_many_rooms_are_told_in_few_commands(on_redis: RedisDirectories) -> None:
    node = await on_redis.node()
    await on_redis.settle()
    on_redis.server.command("CONFIG", "RESETSTAT")
    for number in range(2000):
        node.opened(RoomId(f"room-{number}"))
        node.opened(RoomId(f"brief-{number}"))
        node.closed(RoomId(f"brief-{number}"))
    await on_redis.settle()
    assert len(on_redis.kept(0)) == 2000
    stats = on_redis.server.command("INFO", "commandstats")
    assert stats["cmdstat_zadd"]["calls"] <= 10


async def test_the_rooms_of_a_dead_node_are_gone_with_its_lease(
    on_redis: RedisDirectories,
) -> None:
    one, two = await on_redis.node(), await on_redis.node()
    two.opened(RoomId("b"))
    await on_redis.settle()
    assert await one.page("", "", 10) == ["b"]
    live, _ = on_redis.nodes[1]
    name = live.name
    await live.die()
    on_redis.server.command("ZADD", KEYS.leases, 1, name)  # time passes
    assert await one.page("", "", 10) == []
    await on_redis.nodes[0][0].presence.janitor.clear(name)
    assert not on_redis.server.command("EXISTS", KEYS.open(name))
    on_redis.nodes.pop()


async def test_a_node_under_a_new_name_tells_its_rooms_again(on_redis: RedisDirectories) -> None:
    one, two = await on_redis.node(), await on_redis.node()
    two.opened(RoomId("b"))
    await on_redis.settle()
    live, _ = on_redis.nodes[1]
    former = live.name
    on_redis.server.command("ZADD", KEYS.leases, 1, former)
    on_redis.clock.now += LENGTH
    await live.presence.lease.renew()
    assert live.name != former
    await on_redis.settle()
    assert await one.page("", "", 10) == ["b"]
    assert on_redis.kept(1) == ["b"]


async def test_what_redis_forgot_is_noticed(
    on_redis: RedisDirectories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_directory, "CHECK", 0.02)
    one, two = await on_redis.node(), await on_redis.node()
    two.opened(RoomId("b"))
    await on_redis.settle()
    on_redis.server.command("DEL", KEYS.open(on_redis.nodes[1][0].name))
    await until(lambda: on_redis.kept(1) == ["b"])
    on_redis.server.command("ZADD", KEYS.open(on_redis.nodes[1][0].name), 0, "long-gone")
    await until(lambda: on_redis.kept(1) == ["b"])
    assert await one.page("", "", 10) == ["b"]


async def test_what_happens_while_redis_is_away_is_told_afterwards(
    start_redis: StartRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_directory, "MOMENT", 0.01)
    harness = RedisDirectories(start_redis())
    async with harness.running:
        one, two = await harness.node(), await harness.node()
        two.opened(RoomId("a"))
        await harness.settle()
        harness.server.kill()
        await until(lambda: not harness.nodes[1][0].store.healthy)
        two.opened(RoomId("b"))
        two.closed(RoomId("a"))
        harness.server.start()
        async with asyncio.timeout(DEADLINE):  # both leases were lost as well
            while await one.page("", "", 10) != ["b"]:
                await harness.settle()


async def test_junk_in_the_set_of_a_node_is_no_room(on_redis: RedisDirectories) -> None:
    one, _ = await on_redis.node(), await on_redis.node()
    await on_redis.settle()
    key = KEYS.open(on_redis.nodes[1][0].name)
    on_redis.server.command("ZADD", key, 0, "good", 0, "no name", 0, b"\xff")
    assert await one.page("", "", 10) == ["good"]
