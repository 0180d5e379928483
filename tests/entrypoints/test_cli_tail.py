"""`hubbub tail`: nothing is missing and nothing comes twice, whatever happens to the connection."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from application.disconnects import TOKEN_EXPIRED
from entrypoints.remote.event_stream import Event, EventParser, NoEvents
from entrypoints.remote.follow import Follower, Wish
from entrypoints.remote.problems import Exit
from entrypoints.remote.server import Target
from tests.api import KEY, WITH_A_KEY, Api
from tests.clients.conftest import fall_back
from tests.command_line import RunningCommand, complaint, running
from tests.peer import until
from tests.redis_proxy import RedisProxy
from tests.running_server import RunningServer, Serve
from tests.tokens import JWT, token


@pytest.fixture
def transport() -> str:
    """Readers do not see the difference."""
    return "lane"


class Scene:
    """A server behind a proxy, which is what commands know."""

    def __init__(self, serve: Serve, stack: AsyncExitStack) -> None:
        self._serve = serve
        self._stack = stack
        self.proxy: RedisProxy

    async def begin(self, **settings: Any) -> RunningServer:
        """With every further call another server takes the place of the one before."""
        server = await self._serve(**settings)
        if not hasattr(self, "proxy"):
            self.proxy = RedisProxy(server.port)
            await self.proxy.listen()
            self._stack.push_async_callback(self.proxy.stop)
        self.proxy.target = server.port
        return server

    async def tail(self, *arguments: str, **environ: str) -> RunningCommand:
        url = f"http://127.0.0.1:{self.proxy.port}"
        command = running("tail", *arguments, "--url", url, environ=environ)
        return await self._stack.enter_async_context(command)

    async def away(self, tail: RunningCommand) -> None:
        """Take the network away, until `back`."""
        self.proxy.refuse()
        self.proxy.drop()
        await tail.says("coming back in")

    async def back(self, tail: RunningCommand) -> None:
        await self.proxy.listen()
        await tail.says("connected again")


@pytest.fixture
async def scene(serve: Serve) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        yield Scene(serve, stack)


async def say(server: RunningServer, *data: object, room: str = "lobby") -> None:
    for each in data:
        await Api(server, None)("POST", f"/v1/rooms/{room}/messages", {"data": each, "from": "ann"})


async def frame(tail: RunningCommand, kind: str, **fields: object) -> dict[str, Any]:
    """The next line of --json, which must be a frame of this type with these fields."""
    found: dict[str, Any] = json.loads(await tail.line())
    wanted = {"type": kind, **fields}
    assert {name: found.get(name, ...) for name in wanted} == wanted, found
    return found


async def test_messages_are_shown_as_they_come(scene: Scene) -> None:
    server = await scene.begin()
    await say(server, "old", {"text": "older \x1b[2J"})
    tail = await scene.tail("lobby", "--history", "2")
    shown = [await tail.line() for _ in range(2)]
    await say(server, {"a": 1})
    shown.append(await tail.line())
    assert [line.split("  ", 1)[1] for line in shown] == [
        'lobby 1  ann  "old"',
        "lobby 2  ann  older \\u001b[2J",
        'lobby 3  ann  {"a":1}',
    ]
    tail.interrupt()
    assert await tail.ended() == 130
    assert tail.errors == ""


async def test_frames_are_shown_as_they_are(scene: Scene) -> None:
    server = await scene.begin()
    tail = await scene.tail("lobby", "news", "--json")
    for room in ("lobby", "news"):
        await frame(tail, "joined", room=room)
    await say(server, {"text": "\x9b"})
    line = await tail.line()
    assert "\x9b" not in line
    assert json.loads(line)["data"] == {"text": "\x9b"}
    await say(server, 1, room="news")
    await frame(tail, "message", room="news", seq=1, data=1)


async def test_it_goes_on_where_the_connection_broke(scene: Scene) -> None:
    server = await scene.begin()
    tail = await scene.tail("lobby", "news", "--json")
    for room in ("lobby", "news"):
        await frame(tail, "joined", room=room)
    await say(server, 1, 2)
    for seq in (1, 2):
        await frame(tail, "message", room="lobby", seq=seq)
    for cut in range(2):
        await scene.away(tail)
        await say(server, f"while away {cut}")
        await say(server, f"while away {cut}", room="news")
        await scene.back(tail)
        tail.errors = ""
        for room, seq in (("lobby", 3 + cut), ("news", 1 + cut)):
            joined = await frame(tail, "joined", room=room)
            assert joined["recovery"]["outcome"] == "ok"
            await frame(tail, "message", room=room, seq=seq, data=f"while away {cut}")


async def test_what_is_gone_meanwhile_is_told(scene: Scene) -> None:
    server = await scene.begin(rooms=[{"match": "*", "history_size": 2}])
    holder, _ = await server.member("holder", "lobby")
    tail = await scene.tail("lobby", "--json")
    await frame(tail, "joined")
    await say(server, 1)
    await frame(tail, "message", seq=1)
    await scene.away(tail)
    await say(server, *range(2, 7))
    await scene.back(tail)
    await frame(tail, "joined")
    for seq in (5, 6):
        await frame(tail, "message", seq=seq)
    await tail.says("lobby: what came before 5 is gone (gap)")
    await holder.close()


async def test_a_store_that_fell_back_is_told(scene: Scene) -> None:
    server = await scene.begin()
    tail = await scene.tail("lobby", "--json")
    await frame(tail, "joined")
    await say(server, 1, 2, 3)
    for seq in (1, 2, 3):
        await frame(tail, "message", seq=seq)
    await scene.away(tail)
    fall_back(server, "lobby", 2)
    await scene.back(tail)
    await frame(tail, "joined")
    await tail.says("lobby: the store lost what came after 2: forget it (rewound)")


async def test_a_server_that_begins_anew_is_told(scene: Scene) -> None:
    server = await scene.begin()
    tail = await scene.tail("lobby")
    await say_until_seen(server, tail)
    await scene.away(tail)
    await server.stop()
    server = await scene.begin()
    await scene.back(tail)
    await tail.says("lobby: another log, whose numbers begin anew (reset)")
    await say(server, "new")
    assert (await tail.line()).endswith('lobby 1  ann  "new"')


async def say_until_seen(server: RunningServer, tail: RunningCommand) -> None:
    """A message that a tail shows which has only just begun."""
    listening = asyncio.create_task(tail.line())
    while not listening.done():
        await say(server, "is anybody there?")
        await asyncio.wait({listening}, timeout=0.1)
    await listening


async def test_a_stop_sends_it_away_and_it_comes_back(scene: Scene) -> None:
    server = await scene.begin(drain_window=0.1)
    tail = await scene.tail("lobby", "--json")
    await frame(tail, "joined")
    server.begin_to_stop()
    await tail.says("the server ends the stream")
    await server.ended()
    await scene.begin()
    await tail.says("connected again")
    await frame(tail, "joined")


async def test_who_comes_and_goes_is_shown(scene: Scene) -> None:
    server = await scene.begin(presence_grace=0.1)
    tail = await scene.tail("lobby", "--presence", "--user", "cleo")
    assert await tail.line() == "lobby  here (1 user): cleo"
    ann, _ = await server.member("ann", "lobby")
    assert await tail.line() == "lobby  ann joins (2 users)"
    await ann.close()
    assert await tail.line() == "lobby  ann leaves (1 user)"


async def test_a_reader_is_no_member(scene: Scene) -> None:
    server = await scene.begin()
    tail = await scene.tail("lobby", "--json")
    await frame(tail, "joined", members=None, count=None)
    assert (await Api(server, None)("GET", "/v1/rooms/lobby/members"))["count"] == 0


async def test_out_of_one_room_and_then_out_of_all(scene: Scene) -> None:
    server = await scene.begin()
    tail = await scene.tail("lobby", "news", "--json", "--user", "bob")
    for _ in range(2):
        await frame(tail, "joined")
    api = Api(server, None)
    await api("DELETE", "/v1/rooms/lobby/members/bob?reason=be%20nice")
    await frame(tail, "removed", room="lobby", code="kicked")
    await tail.says("lobby: taken out (kicked: be nice)")
    await api("POST", "/v1/users/bob/disconnect", {"reason": "enough"})
    assert await tail.ended() == Exit.REFUSED
    assert "sends us away" in tail.errors
    assert "enough" in tail.errors


async def test_a_key_reads_what_it_may_join(scene: Scene) -> None:
    rooms = {"news:*": ["join"]}
    keys = [{"name": "app", "key": "the-key-of-the-app", "rooms": rooms}]
    server = await scene.begin(**JWT, **WITH_A_KEY, api_keys=keys)
    api = Api(server)
    tail = await scene.tail("news:1", "--json", HUBBUB_API_KEY="the-key-of-the-app")
    await frame(tail, "joined")
    assert (await api("GET", "/v1/rooms/news:1/members"))["count"] == 0
    await api("POST", "/v1/rooms/news:1/messages", {"data": 1})
    await frame(tail, "message", seq=1)
    for arguments, why in (
        (("lobby",), "no grant to join lobby"),
        (("@ann",), "no grant to join @ann"),
        (("news:1", "--history", "1"), "no grant to read the history of news:1"),
        (("news:1", "--presence"), "an API key is nobody's member"),
    ):
        ask = ("tail", *arguments, "--url", server.url)
        assert why in await complaint(Exit.REFUSED, *ask, HUBBUB_API_KEY="the-key-of-the-app")


async def test_where_everybody_is_let_in_a_key_does_no_harm(scene: Scene) -> None:
    await scene.begin(**WITH_A_KEY)
    for key in (KEY, "of-some-other-server"):
        options = ("--presence", "--user", "cleo")
        tail = await scene.tail("lobby", *options, HUBBUB_API_KEY=key)
        assert await tail.line() == "lobby  here (1 user): cleo"
        await tail.stop()


@pytest.mark.parametrize("query", [f"token={KEY}", f"api_key={KEY}"])
async def test_a_key_is_not_taken_from_the_address(serve: Serve, query: str) -> None:
    server = await serve(**JWT, **WITH_A_KEY)
    source = await server.events(f"room=lobby&{query}")
    assert (await source.refused()).frame["code"] == 4001


async def test_a_token_that_runs_out_ends_it(scene: Scene) -> None:
    server = await scene.begin(**JWT)
    tail = await scene.tail("lobby", "--json", HUBBUB_TOKEN=token("ann"))
    await frame(tail, "joined")
    (session,) = server.container.hub().sessions.values()
    session.end(TOKEN_EXPIRED)
    await tail.says("token expired")
    await tail.says("connected again")  # with the same one, as it is good yet
    tail.interrupt()
    assert await tail.ended() == 130


async def test_too_many_rooms_are_refused() -> None:
    said = await complaint(Exit.USAGE, "tail", *(f"room-{n}" for n in range(17)))
    assert "16 at most" in said


async def test_it_ends_when_nobody_reads_any_more(scene: Scene) -> None:
    """Also while nothing happens."""
    server = await scene.begin()
    reading, writing = os.pipe()
    url = f"http://127.0.0.1:{scene.proxy.port}"
    async with running("tail", "lobby", "--url", url, stdout=writing) as tail:
        os.close(writing)
        await until(lambda: server.sessions() == 1)
        os.close(reading)
        assert await tail.ended() == 0
        assert tail.errors == ""


class Silence:
    """A stream that says hello and then nothing, however often one comes."""

    def __init__(self) -> None:
        self.came = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.came += 1
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
            b'retry: 1000\nevent: connected\ndata: {"type":"connected","ping_interval":0.05}\n\n'
        )
        await writer.drain()
        await reader.read()
        writer.close()


async def test_a_connection_that_falls_silent_counts_as_broken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("entrypoints.remote.follow._MARGIN", 0.05)
    silence, notes = Silence(), []
    enough = asyncio.Event()

    def note(text: str) -> None:
        notes.append(text)
        if text == "connected again":
            enough.set()

    server = await asyncio.start_server(silence.serve, "127.0.0.1", 0)
    async with server:
        target = Target(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        follower = Follower(target, Wish(["r"]), lambda seen: None, note)
        following = asyncio.create_task(follower.run())
        async with asyncio.timeout(20):
            await enough.wait()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert silence.came == 2
    assert notes[0].startswith("nothing was heard for")


def test_waits_grow_and_are_never_shorter_than_the_server_asks() -> None:
    follower = Follower(Target("http://x"), Wish(["r"]), lambda seen: None, lambda text: None)
    follower._retry = 2.0
    waits = [follower._wait() for _ in range(2000)]
    assert waits[0] == 2.0
    assert all(2.0 <= wait <= 30.0 for wait in waits)
    assert waits[-1] >= 15.0
    follower._retry = 45.0
    assert follower._wait() == 45.0


# The parser

STREAM = (
    b"retry: 1730\r\nevent: connected\ndata: {}\n\n: ping\n\n"
    b"id: 4.x\ndata: one\ndata:two\n\nid: 5.x\n\n\rdata: \xe2\x98\x83\r\n\r\n"
    b"event: e\n\nid\ndata\n\n"
)
EVENTS = [
    Event("connected", "{}", ""),
    Event("message", "one\ntwo", "4.x"),
    Event("message", "\N{SNOWMAN}", "5.x"),
    Event("message", "", ""),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_the_same_however_they_come(size: int) -> None:
    parser = EventParser()
    parts = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    assert [event for part in parts for event in parser.feed(part)] == EVENTS
    assert parser.retry == 1.73


def test_an_event_without_its_end_has_not_been_there() -> None:
    parser = EventParser()
    assert parser.feed(b"id: 1.x\ndata: 1\n\nid: 2.x\ndata: 2\n") == [Event("message", "1", "1.x")]


def test_what_never_ends_is_no_event() -> None:
    parser, part = EventParser(), b"data: " + b"x" * 1_000_000
    for _ in range(16):
        assert not parser.feed(part)
    with pytest.raises(NoEvents):
        parser.feed(part)
    with pytest.raises(NoEvents):
        EventParser().feed(b"data: \xff\n")


def test_events_without_end_are_fine() -> None:
    parser = EventParser()
    for _ in range(40):
        assert len(parser.feed(b"data: " + b"x" * 1_000_000 + b"\n\n")) == 1
