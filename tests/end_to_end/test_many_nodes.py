"""Several nodes over one Redis: one order, no hole, nobody told to leave who is there."""

import asyncio
import itertools
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from domain.identifiers import RoomId, UserId
from domain.orders import Kick, RevokeTokens, SendAway
from entrypoints.settings import LimitSettings, Settings
from tests.log_keeper import LogKeeper, same
from tests.peer import DEADLINE, Peer, until
from tests.redis_server import RedisServer, StartRedis
from tests.redis_user import as_hubbub
from tests.running_server import RunningServer, fit_for_tests
from tests.server_process import ServeProcess, ServerProcess

FAST = LimitSettings(messages_per_second=0, commands_per_second=0)


class Nodes:
    """Nodes at one Redis; users are spread over them in turn."""

    def __init__(self, url: str, started: AsyncExitStack) -> None:
        self._url = as_hubbub(url)
        self._started = started
        self._turn = itertools.count()
        self.all: list[RunningServer] = []
        self.keepers: list[LogKeeper] = []

    async def start(self, **settings: Any) -> RunningServer:
        given = {"limits": FAST, "redis_url": self._url, **settings}
        server = RunningServer(Settings(port=0, backend="redis", **given))
        self._started.push_async_callback(server.stop)
        await server.start()
        self.all.append(server)
        return server

    def where(self) -> str:
        """The next of those that take somebody in."""
        ready = [node for node in self.all if not node.container.node().draining]
        return ready[next(self._turn) % len(ready)].ws_url

    async def keep(self, count: int, rooms_of: Callable[[int], list[str]]) -> list[LogKeeper]:
        """That many users, in their rooms."""
        start = len(self.keepers)
        keepers = [
            LogKeeper(f"user-{number}", rooms_of(number), self.where)
            for number in range(start, start + count)
        ]
        self.keepers += keepers
        self._started.push_async_callback(self._close_all)
        await asyncio.gather(*(keeper.in_all_rooms() for keeper in keepers))
        return keepers

    async def agree(self, marker: str) -> None:
        """Publish a last message to every room, wait until everybody has it, and compare."""
        rooms = {room for keeper in self.keepers for room in keeper.rooms}
        author = self.keepers[0]
        await asyncio.gather(*(author.publish(room, marker, f"{marker}-{room}") for room in rooms))
        for keeper in self.keepers:
            await keeper.has_everywhere(marker)
        for room in rooms:
            same([keeper.rooms[room] for keeper in self.keepers if room in keeper.rooms])

    async def _close_all(self) -> None:
        keepers, self.keepers = self.keepers, []
        await asyncio.gather(*(keeper.close() for keeper in keepers))


@pytest.fixture
async def started() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        stack.enter_context(fit_for_tests())
        yield stack


@pytest.fixture
async def nodes(redis_url: str, started: AsyncExitStack) -> Nodes:
    return Nodes(redis_url, started)


async def chatter(nodes: Nodes, rooms: list[str], rounds: int, name: str) -> list[tuple[str, str]]:
    """Publish in every room in turn; returns what was acknowledged, each with its room."""

    async def talk(index: int, room: str) -> list[tuple[str, str]]:
        author = nodes.keepers[index % len(nodes.keepers)]
        said = []
        for number in range(rounds):
            text = f"{name}-{room}-{number}"
            await author.publish(room, text, f"{author.user}-{text}")
            said.append((room, text))
        return said

    spoken = await asyncio.gather(*(talk(index, room) for index, room in enumerate(rooms)))
    return [message for each in spoken for message in each]


def rooms(count: int) -> list[str]:
    return [f"room-{number}" for number in range(count)]


async def test_everybody_sees_the_same_on_all_nodes(nodes: Nodes) -> None:
    for _ in range(2):
        await nodes.start()
    await nodes.keep(40, lambda n: [f"room-{n % 5}", f"room-{(n // 5) % 5}"])
    said = await chatter(nodes, rooms(5), 20, "calm")
    await nodes.agree("the end")
    for room, text in said:
        for keeper in nodes.keepers:
            assert room not in keeper.rooms or keeper.has(room, text)
    assert all(not log.told for keeper in nodes.keepers for log in keeper.rooms.values())
    assert {keeper.connections for keeper in nodes.keepers} == {1}


async def test_subscriptions_that_are_killed_cost_nothing_but_time(
    nodes: Nodes, redis_server: RedisServer
) -> None:
    for _ in range(2):
        await nodes.start()
    await nodes.keep(20, lambda n: [f"room-{n % 4}", f"room-{(n + 1) % 4}"])
    talking = asyncio.create_task(chatter(nodes, rooms(4), 60, "cut"))
    kills = 0
    while not talking.done():
        kills += redis_server.command("CLIENT", "KILL", "TYPE", "pubsub")
        await asyncio.wait({talking}, timeout=0.3)
    assert kills >= 2
    said = await talking
    await nodes.agree("the end")
    for keeper in nodes.keepers:
        for room, text in said:
            assert room not in keeper.rooms or keeper.has(room, text)
        assert all(not log.told for log in keeper.rooms.values())


async def test_a_node_that_restarts_and_a_redis_that_hangs(
    nodes: Nodes, start_redis: StartRedis, started: AsyncExitStack
) -> None:
    redis = start_redis()
    nodes = Nodes(redis.url, started)
    first, _ = await nodes.start(), await nodes.start()
    await nodes.keep(20, lambda n: [f"room-{n % 4}", f"room-{(n + 1) % 4}"])
    talking = asyncio.create_task(chatter(nodes, rooms(4), 80, "storm"))
    first.begin_to_stop()
    await first.ended()
    await nodes.start()
    redis.pause()
    await asyncio.sleep(5.0)  # the fault itself, not a wait for something
    redis.resume()
    said = await talking
    await nodes.agree("the end")
    for keeper in nodes.keepers:
        for room, text in said:
            assert room not in keeper.rooms or keeper.has(room, text)
        assert all(not log.told for log in keeper.rooms.values())


async def test_a_redis_that_lost_everything_is_told_to_everybody(
    start_redis: StartRedis, started: AsyncExitStack
) -> None:
    redis = start_redis()
    nodes = Nodes(redis.url, started)
    for _ in range(2):
        await nodes.start()
    await nodes.keep(20, lambda n: [f"room-{n % 4}"])
    await chatter(nodes, rooms(4), 5, "before")
    redis.kill()
    redis.start()
    await chatter(nodes, rooms(4), 5, "after")
    await nodes.agree("the end")
    for keeper in nodes.keepers:
        assert [log.told for log in keeper.rooms.values()] == [["reset"]]


async def test_one_key_from_many_tasks_on_three_nodes_is_one_message(nodes: Nodes) -> None:
    servers = [await nodes.start() for _ in range(3)]
    peers = [(await server.member("ann", "chat"))[0] for server in servers]

    async def publish(number: int) -> tuple[int, str]:
        ack = await peers[number % 3].ask("publish", room="chat", data="once", key="k")
        return ack["seq"], ack["message_id"]

    async def in_turn(index: int) -> list[tuple[int, str]]:
        return [await publish(number) for number in range(index, 102, 3)]

    positions = [p for of in await asyncio.gather(*map(in_turn, range(3))) for p in of]
    assert len(positions) == 102
    assert len(set(positions)) == 1


async def test_presence_counts_users_over_all_nodes(nodes: Nodes) -> None:
    first, second = await nodes.start(), await nodes.start()
    ann, joined = await first.member("ann", "chat")
    assert [member["user"] for member in joined["members"]] == ["ann"]
    bob, joined = await second.member("bob", "chat")
    assert [member["user"] for member in joined["members"]] == ["ann", "bob"]
    await ann.expect("join", user="bob", count=2)
    other, _ = await second.member("ann", "chat")  # a second tab is no newcomer
    await ann.close()
    await other.close()
    await bob.expect("leave", user="ann", count=1)
    assert await bob.is_quiet()


async def hears(peer: Peer, text: str) -> None:
    """Let it say something at a tutorial door, and wait until it hears it: then it is in."""
    await peer.send({"text": text})
    while (await peer.receive()).get("text") != text:
        pass


async def test_the_rooms_of_all_nodes_are_listed_by_each(nodes: Nodes) -> None:
    one, other = await nodes.start(), await nodes.start()
    ann, _ = await one.member("ann", "tea")
    await other.member("bob", "coffee")
    await other.member("bob", "tea")
    every = [{"room": "coffee", "count": 1}, {"room": "tea", "count": 2}]
    for node in (one, other):
        await listed(node, every)
    await ann.close()
    for node in (one, other):
        await listed(node, [every[0], {"room": "tea", "count": 1}])


async def listed(node: RunningServer, rooms: list[dict[str, Any]]) -> None:
    """Wait until a node lists these rooms."""
    async with asyncio.timeout(DEADLINE):
        while (await node.get("/v1/rooms")).json() != {  # noqa: ASYNC110  (asked, not told)
            "rooms": rooms,
            "more": False,
        }:
            await asyncio.sleep(0.05)


async def test_a_room_that_was_left_is_let_go_of_and_comes_back_unharmed(nodes: Nodes) -> None:
    one, other = await nodes.start(), await nodes.start()
    ann, joined = await one.member("ann", "tea")
    for number in range(3):
        ack = await ann.ask("publish", room="tea", data=number, echo=False)
    at = {"log": ack["log"], "seq": 2}
    await ann.ask("leave", room="tea")
    room = RoomId("tea")
    presence, broker = one.container.presence(), one.container.broker()
    await until(lambda: presence.rooms.find(room) is None)
    assert broker.timeline(room) is None
    assert one.container.hub().find(room) is None
    assert broker.held.rooms == 1  # ann's own
    bob, _ = await other.member("bob", "tea")
    await bob.ask("publish", room="tea", data=3, echo=False)
    back = await ann.ask("join", room="tea", position=at)
    assert [message["data"] for message in back["messages"]] == [2, 3]
    assert back["recovery"] == {"outcome": "ok"}
    assert [member["user"] for member in back["members"]] == ["ann", "bob"]
    assert back["version"] > joined["version"]
    await bob.expect("join", user="ann")
    await bob.ask("publish", room="tea", data=4)
    await ann.expect("message", data=4, seq=5)


async def test_the_tutorial_doors_meet_over_all_nodes(nodes: Nodes) -> None:
    first, second = await nodes.start(), await nodes.start()
    ann = await first.connect("/ws/scalable/ann")
    bob = await second.connect("/ws/scalable/bob")
    for peer, text in ((ann, "a"), (bob, "b")):
        await peer.send({"text": text})
    heard = {(await ann.receive())["text"], (await ann.receive())["text"]}
    assert heard == {"a", "b"}
    lobby = await first.connect("/ws/cleo")
    await lobby.expect("join", user="cleo", count=1)
    visitor = await second.connect("/ws/dan")
    await visitor.expect("join", user="dan", count=2)
    await lobby.expect("join", user="dan", count=2)
    await visitor.send({"any": "json"})
    await lobby.expect("message", **{"from": "dan"}, data={"any": "json"})


async def test_orders_reach_every_node(nodes: Nodes) -> None:
    first, second = await nodes.start(), await nodes.start()
    ann, _ = await first.member("ann", "chat")
    again, _ = await second.member("ann", "chat")
    await second.container.control().give(Kick(RoomId("chat"), UserId("ann"), "be nice"))
    for peer in (ann, again):
        await peer.expect("removed", room="chat", code="kicked", reason="be nice")
    await first.container.control().give(SendAway(UserId("ann"), "enough"))
    for peer in (ann, again):
        assert await peer.closed_after_farewell() == (4003, "enough")


async def test_orders_are_remembered_for_nodes_that_were_away(nodes: Nodes) -> None:
    first = await nodes.start()
    await first.container.control().give(RevokeTokens(UserId("ann"), 1.7e9))
    second = await nodes.start()
    await until(lambda: len(second.container.exclusions()) == 1)


async def test_a_node_is_not_ready_without_redis(
    start_redis: StartRedis, started: AsyncExitStack
) -> None:
    redis = start_redis()
    nodes = Nodes(redis.url, started)
    node = await nodes.start()

    async def answers(status: int) -> None:
        await until(lambda: node.container.node().ready == (status == 200))
        assert (await node.get("/readyz")).status_code == status

    await answers(200)
    redis.kill()
    await answers(503)
    assert (await node.get("/healthz")).status_code == 200
    redis.start()
    await answers(200)


async def test_a_node_is_not_ready_while_redis_has_no_memory(
    start_redis: StartRedis, started: AsyncExitStack
) -> None:
    redis = start_redis("maxmemory-policy noeviction")
    node = await Nodes(redis.url, started).start()
    await until(lambda: node.container.node().ready)
    redis.command("CONFIG", "SET", "maxmemory", 1)
    await until(lambda: not node.container.node().ready)  # nobody publishes: it finds out by itself

    def refused_for_a_while() -> bool:
        assert not node.container.node().ready
        return node.log.text.count("redis refuses") > 1  # a line every 5 s

    await until(refused_for_a_while)
    assert (await node.get("/readyz")).status_code == 503
    redis.command("CONFIG", "SET", "maxmemory", 0)
    await until(lambda: node.container.node().ready)
    node.log.errors.clear()


async def test_a_node_says_that_its_redis_hides_who_it_is(
    nodes: Nodes, start_redis: StartRedis, started: AsyncExitStack
) -> None:
    open_node = await nodes.start()
    hidden = Nodes(start_redis('rename-command INFO ""').url, started)
    node = await hidden.start()
    await node.member("ann", "r")
    told = (await node.get("/readyz")).json()
    assert told == {"status": "ready", "node": node.container.node_name(), "terms": "guessed"}
    assert "terms" not in (await open_node.get("/readyz")).json()


async def test_an_ack_says_whether_replicas_have_the_message(
    redis_url: str, nodes: Nodes, started: AsyncExitStack
) -> None:
    node = await nodes.start(redis_replicas=1)
    ann, _ = await node.member("ann", "r")
    assert (await ann.ask("publish", room="r", data=1))["replicated"] is False
    async with httpx.AsyncClient(base_url=node.url, trust_env=False) as client:
        answer = await client.post("/v1/rooms/r/messages", json={"data": 2})
    assert answer.json()["replicated"] is False
    assert "replicated" not in await ann.ask("publish", room="r", data=3, ephemeral=True)
    other = await nodes.start()
    bob, _ = await other.member("bob", "r")
    assert "replicated" not in await bob.ask("publish", room="r", data=4)


async def test_publishing_without_redis_is_told_and_may_be_repeated(
    start_redis: StartRedis, started: AsyncExitStack
) -> None:
    redis = start_redis()
    nodes = Nodes(redis.url, started)
    node = await nodes.start()
    ann, _ = await node.member("ann", "chat")
    redis.kill()
    refused = await ann.ask("publish", room="chat", data=1, key="k")
    assert (refused["type"], refused["retry"]) == ("error", True)
    assert refused["code"] in ("unavailable", "unknown")
    redis.start()
    async with asyncio.timeout(20):
        while (await ann.ask("publish", room="chat", data=1, key="k"))["type"] != "ack":
            pass


async def held(process: ServerProcess, workers: int) -> dict[str, float]:
    """How many sessions each worker has, once that many answer for each other."""
    async with (
        # Until a worker is there, a connection waits to be accepted.
        httpx.AsyncClient(base_url=process.url, trust_env=False, timeout=DEADLINE) as client,
        asyncio.timeout(DEADLINE),
    ):
        found: dict[str, float] = {}
        while len(found) < workers:
            text = (await client.get("/metrics")).text
            lines = re.findall(r'^hubbub_sessions\{node="([^"]+)"\} (.+)$', text, re.MULTILINE)
            found = {node: float(count) for node, count in lines}
        return found


async def test_workers_are_one_server_and_stop_together(
    redis_url: str, serve_process: ServeProcess
) -> None:
    process = await serve_process(
        "--workers", "2", HUBBUB_BACKEND="redis", HUBBUB_REDIS_URL=as_hubbub(redis_url)
    )
    await held(process, 2)
    peers = [await Peer.connect(f"{process.ws_url}/ws/rooms/r/user-{n}") for n in range(8)]
    for peer in peers:
        await hears(peer, "here")
    await peers[0].send({"text": "to all"})
    for peer in peers:
        while (await peer.receive()).get("text") != "to all":
            pass
    assert sum((await held(process, 2)).values()) == 8
    async with httpx.AsyncClient(base_url=process.url, trust_env=False) as client:
        page = (await client.get("/v1/sessions")).json()
    assert page["count"] == len(page["sessions"]) == 8
    assert {session["user"] for session in page["sessions"]} == {f"user-{n}" for n in range(8)}
    assert page["node"] in (await held(process, 2))
    process.signal(signal.SIGTERM)
    for peer in peers:
        _, code, _ = await peer.ending()
        assert code == 4200
    assert await process.ended() == 0
    assert "Traceback" not in process.stderr


async def test_who_was_on_a_node_that_is_killed_leaves_once(
    redis_url: str, nodes: Nodes, serve_process: ServeProcess
) -> None:
    node = await nodes.start(ping_interval=600)
    witness, _ = await node.member("witness", "r")
    doomed = await serve_process(HUBBUB_BACKEND="redis", HUBBUB_REDIS_URL=as_hubbub(redis_url))
    for user in ("ann", "bob"):
        await Peer.connect(f"{doomed.ws_url}/ws/rooms/r/{user}")
        await witness.expect("join", user=user)
    doomed.signal(signal.SIGKILL)
    started = asyncio.get_running_loop().time()
    left = [await witness.receive(within=40.0) for _ in range(2)]
    assert {frame["user"] for frame in left} == {"ann", "bob"}
    assert {frame["type"] for frame in left} == {"leave"}
    assert asyncio.get_running_loop().time() - started < 30  # promised are 20 s, on a free machine
    assert await witness.is_quiet()
    answer = await witness.ask("members", room="r")
    assert [member["user"] for member in answer["members"]] == ["witness"]
