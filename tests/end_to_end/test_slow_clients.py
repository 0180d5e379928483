"""A client that reads little or nothing costs itself only: so many bytes, so many seconds, then it
is cut."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from application.session import Session
from domain.identifiers import RoomId
from tests.peer import DEADLINE, Frame, Peer, until
from tests.raw_client import RawClient
from tests.running_server import RunningServer, Serve

TEXT = "x" * 20_000


def deaf(server: RunningServer) -> list[Session]:
    sessions = server.container.hub().sessions.values()
    return [session for session in sessions if session.identity.user == "deaf"]


@asynccontextmanager
async def deaf_member(
    server: RunningServer, path: str = "/v1/ws?user=deaf"
) -> AsyncIterator[RawClient]:
    """Somebody in room `r` who never reads."""
    server.narrow()
    client = await RawClient.connect(server.port, path)
    try:
        if path.startswith("/v1"):
            await client.send({"type": "join", "room": "r"})
        await until(lambda: any(RoomId("r") in session.memberships for session in deaf(server)))
        yield client
    finally:
        client.close()


class Sipping:
    """Reads about a kilobyte a second, by the clock of the loop."""

    def __init__(self, client: RawClient) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self.taken = 0

    async def sip(self) -> None:
        """A twentieth of a second, and what may be read by then."""
        await asyncio.sleep(0.05)  # the fault itself
        due = int(1000 * (self._loop.time() - self._began)) - self.taken
        self.taken += len(await self._client.read(due))


async def _nothing() -> None:
    pass


async def talk(
    server: RunningServer,
    talker: Peer,
    *listeners: Peer,
    meanwhile: Callable[[], Awaitable[None]] = _nothing,
) -> tuple[list[int], int]:
    """Publish until somebody is cut, and ten times more. Every listener gets everything in order
    all the while. Returns the seqs, and the most that waited for anybody."""
    seqs: list[int] = []
    backlog = 0
    left = 10
    while left:
        await meanwhile()
        ack = await talker.ask("publish", room="r", data=TEXT, echo=False)
        seqs.append(ack["seq"])
        for listener in listeners:
            await listener.expect("message", room="r", seq=ack["seq"])
        backlog = max(backlog, server.backlog())
        left -= bool(server.metric("disconnects_total"))
        assert len(seqs) < 1000, "nobody is ever cut"
    return seqs, backlog


@pytest.mark.parametrize("path", ["/v1/ws?user=deaf", "/ws/rooms/r/deaf"])
@pytest.mark.lane_only("a send that nobody reads ends when the server ends it")
async def test_who_never_reads_is_cut_at_its_limit_and_nobody_else_notices(
    serve: Serve, path: str
) -> None:
    server = await serve(limits={"messages_per_second": 0})
    limit = server.settings.limits.outbox_bytes
    async with deaf_member(server, path):
        talker, _ = await server.member("talker", "r")
        listener, _ = await server.member("listener", "r")
        await talker.expect("join", user="listener")

        seqs, backlog = await talk(server, talker, listener)
        assert seqs == list(range(1, len(seqs) + 1))
        assert limit / 2 < backlog <= limit + 2 * len(TEXT)
        assert server.metric("disconnects_total", "4102") == 1
        assert server.sessions() == 2
        # The socket and what waits for it are gone 5 s later at the latest, though nobody reads.
        await until(lambda: server.connections() == 2, within=7)
    assert await listener.is_quiet()  # a slow member may come back within the grace


@pytest.mark.lane_only("a send that nobody reads ends when the server ends it")
async def test_who_reads_a_kilobyte_a_second_is_cut_and_a_hundred_others_do_not_notice(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.transport.lane.CLOSE_DEADLINE", 0.3)
    limit = 262_144
    server = await serve(
        rooms=[{"match": "r", "presence": "off"}],
        limits={"messages_per_second": 0, "outbox_bytes": limit},
    )
    others = [(await server.member(f"user{number}", "r"))[0] for number in range(100)]
    talker, _ = await server.member("talker", "r")
    async with deaf_member(server) as client:
        (outbox,) = (session.transport for session in deaf(server))
        reader = Sipping(client)
        seqs, backlog = await talk(server, talker, *others, meanwhile=reader.sip)

        assert seqs == list(range(1, len(seqs) + 1))
        assert limit / 2 < backlog <= limit + 2 * len(TEXT)
        assert server.metric("disconnects_total", "4102") == 1
        assert server.sessions() == 101
        # Going on to read buys no time: what waited for it is given back at the deadline.
        async with asyncio.timeout(DEADLINE):
            while server.connections() > 101:
                await reader.sip()
        assert reader.taken > 500
        assert outbox.backlog == 0
    for member in (talker, *others):
        assert await member.is_quiet()


async def test_who_is_cut_learns_why_and_resumes_without_loss(serve: Serve) -> None:
    server = await serve(
        rooms=[{"match": "r", "history_size": 2000}], limits={"messages_per_second": 0}
    )
    async with deaf_member(server) as client:
        talker, _ = await server.member("talker", "r")
        seqs, _ = await talk(server, talker)
        frames = await client.read_to_the_close()
    *texts, (_, farewell) = frames
    assert int.from_bytes(farewell[:2], "big") == 4102
    decoded: list[Frame] = [json.loads(text) for opcode, text in texts if opcode == 1]
    assert decoded[-1]["type"] == "disconnect"
    assert decoded[-1]["code"] == 4102
    messages = [frame for frame in decoded if frame["type"] == "message"]
    heard = [message["seq"] for message in messages]
    assert heard == list(range(1, len(heard) + 1))  # in order and without a hole, as far as it got
    assert len(heard) < len(seqs)

    position = {"log": messages[0]["log"], "seq": heard[-1]}
    back, joined = await server.member("deaf", "r", position=position)
    assert joined["recovery"] == {"outcome": "ok"}
    rest = [message["seq"] for message in joined["messages"]]
    while rest[-1] < seqs[-1]:
        rest.append((await back.expect("message", room="r"))["seq"])
    assert heard + rest == seqs


async def test_small_frames_are_counted_in_bytes_too(serve: Serve) -> None:
    """Four bytes for each of these characters on the wire, and none of them is plain ASCII."""
    server = await serve(
        limits={"messages_per_second": 0, "outbox_bytes": 262_144, "frame_bytes": 65_536}
    )
    async with deaf_member(server):
        talker, _ = await server.member("talker", "r")
        sent = 0
        async with asyncio.timeout(20):
            while not server.metric("disconnects_total", "4102"):
                await talker.ask("publish", room="r", data="🎈" * 500, echo=False)
                sent += 4 * 500
        assert sent < 2 * 262_144


async def test_who_sends_and_never_reads_bounds_itself(serve: Serve) -> None:
    """Its own replies pile up; it is not read from any further, and nobody else waits."""
    server = await serve(limits={"messages_per_second": 0, "commands_per_second": 0})
    ann = await server.user("ann")
    server.narrow()
    client = await RawClient.connect(server.port, "/v1/ws?user=deaf")
    frames = [{"type": "publish", "room": "@deaf", "data": TEXT} for _ in range(20)]
    backlog = 0
    try:
        while await client.takes(*frames):
            backlog = max(backlog, server.backlog())
            assert await ann.is_quiet()
        assert backlog <= server.settings.limits.outbox_bytes + len(frames) * len(TEXT)
        assert await ann.is_quiet()
    finally:
        client.close()
    await server.lost(1)


@pytest.mark.lane_only("only our own classes send WebSocket pings")
async def test_who_stops_reading_while_catching_up_is_found_by_its_silence(serve: Serve) -> None:
    server = await serve(ping_interval=0.2, ping_timeout=1)
    talker = await server.user("talker")
    for _ in range(100):
        ack = await talker.ask("publish", room="r", data=TEXT, echo=False)
    server.narrow()
    client = await RawClient.connect(server.port, "/v1/ws?user=deaf")
    try:
        start = {"log": ack["log"], "seq": 0}
        await client.send({"type": "join", "room": "r", "position": start})
        await until(lambda: server.metric("disconnects_total", "4103") == 1)
        assert server.sessions() == 1
    finally:
        client.close()


async def test_in_a_conflating_room_it_gets_the_newest_and_is_told_how_many_are_left_out(
    serve: Serve,
) -> None:
    server = await serve(
        rooms=[{"match": "r", "conflate": True}], limits={"messages_per_second": 0}
    )
    server.narrow()
    slow, _ = await server.member("slow", "r")
    talker, _ = await server.member("talker", "r")
    listener, _ = await server.member("listener", "r")
    await slow.expect("join", user="talker")
    await slow.expect("join", user="listener")
    await talker.expect("join", user="listener")

    slow.connection.transport.pause_reading()
    for seq in range(1, 301):  # six times what the outbox holds
        await talker.ask("publish", room="r", data=TEXT, echo=False)
        await listener.expect("message", seq=seq)
    assert server.backlog() <= server.settings.limits.outbox_bytes
    slow.connection.transport.resume_reading()

    seq = 0
    left_out = 0
    while seq < 300:
        message = await slow.expect("message", room="r")
        assert message["seq"] == seq + message.get("skipped", 0) + 1
        seq = message["seq"]
        left_out += message.get("skipped", 0)
    assert left_out > 100
    assert await slow.is_quiet()
    assert await listener.is_quiet()
