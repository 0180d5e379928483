"""Stopping under load: everybody is told, loses nothing, and comes back one by one."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.peer import Frame, Peer, until
from tests.raw_client import RawClient
from tests.running_server import DOORS, RunningServer, Serve
from tests.server_process import ServeProcess, ServerProcess
from tests.tokens import JWT, token

SLOWLY = {"drain_window": 4 * 3600.0}
RESTARTING = (4200, "restarting")


def is_draining(server: RunningServer) -> bool:
    return bool(server.container.node().draining)


@asynccontextmanager
async def draining(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """A drain of two sessions: one goes at once, the other one in an hour, or at the end."""
    monkeypatch.setattr("application.drain._SETTLE", 2 * 2 * 3600.0)
    server.begin_to_stop()
    await until(lambda: is_draining(server))
    yield
    server.begin_to_stop()
    assert await server.ended() == 0


def farewell(frames: list[Frame]) -> float:
    """When somebody at the main door was told to come back; said once, and last."""
    *others, last = frames
    assert [frame for frame in others if frame["type"] == "disconnect"] == []
    assert (last["type"], last["code"], last["reason"]) == ("disconnect", *RESTARTING)
    return float(last["reconnect_after"])


# In a process of its own


async def members(server: ServerProcess, number: int, room: str = "r") -> list[Peer]:
    async def member(name: str) -> Peer:
        peer = await Peer.connect(f"{server.ws_url}/v1/ws?user={name}")
        await peer.expect("connected")
        await peer.expect("joined", room=f"@{name}")
        await peer.ask("join", room=room)
        return peer

    return list(await asyncio.gather(*(member(f"user{each}") for each in range(number))))


async def publish_until_the_end(peer: Peer, room: str = "r") -> int:
    """Publish as fast as acks come. Returns the seq of the last one."""
    seq = 0
    try:
        while True:
            seq = (await peer.ask("publish", room=room, data="x" * 100, echo=False))["seq"]
    except (ConnectionClosed, KeyError):
        return seq


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_everybody_is_told_and_hears_all_until_then(
    serve_process: ServeProcess, number: signal.Signals
) -> None:
    process = await serve_process(HUBBUB_LIMITS__MESSAGES_PER_SECOND="0")
    peers = await members(process, 60)
    (publisher,) = await members(process, 1)
    publishing = asyncio.create_task(publish_until_the_end(publisher))
    first = await asyncio.gather(*(peer.receive() for peer in peers))
    assert all(first)
    process.signal(number)
    ends = await asyncio.gather(*(peer.ending() for peer in peers))
    assert await process.ended() == 0
    published = await publishing

    waits = []
    for before, (frames, *close) in zip(first, ends, strict=True):
        assert tuple(close) == RESTARTING
        waits.append(farewell(frames))
        seqs = [frame["seq"] for frame in [before, *frames] if frame["type"] == "message"]
        assert seqs == list(range(seqs[0], seqs[-1] + 1))
        assert seqs[-1] <= published + 1  # the last ack may have been lost with the connection
    # All at another time, and evenly so: 61 sessions have half of 1 s + 61/50 s.
    waits.sort()
    steps = [later - sooner for sooner, later in pairwise(waits)]
    assert max(steps) < 3 * 1.11 / 61
    assert min(steps) > 0.5 * 1.11 / 61
    for bad in ("Traceback", "ERROR", "WARNING"):
        assert bad not in process.stderr


async def test_a_second_signal_ends_it_at_once(serve_process: ServeProcess) -> None:
    process = await serve_process()
    peers = await members(process, 50)
    ending = [asyncio.create_task(peer.ending()) for peer in peers]
    process.signal(signal.SIGTERM)
    await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
    process.signal(signal.SIGTERM)
    ends = await asyncio.gather(*ending)
    assert {tuple(close) for _, *close in ends} == {RESTARTING}
    waits = sorted(farewell(frames) for frames, *_ in ends)
    assert len(set(waits)) == len(waits)  # they come back one by one all the same
    assert await process.ended() == 0
    assert "Traceback" not in process.stderr


async def test_without_anybody_it_stops_at_once(serve_process: ServeProcess) -> None:
    process = await serve_process()
    process.signal(signal.SIGTERM)
    assert await process.ended(within=5) == 0
    assert "Finished server process" in process.stderr


async def test_who_comes_back_to_a_restarted_server_is_told_that_the_log_is_another(
    serve_process: ServeProcess,
) -> None:
    """In memory a log lives as long as its process."""
    first = await serve_process()
    (ann,) = await members(first, 1)
    ack = await ann.ask("publish", room="r", data="old", echo=False)
    first.signal(signal.SIGTERM)
    frames, *close = await ann.ending()
    assert tuple(close) == RESTARTING
    assert farewell(frames) == 0
    assert await first.ended() == 0

    second = await serve_process()
    (bob, back) = await members(second, 2, room="other")
    await bob.ask("publish", room="r", data="new", echo=False)
    position = {"log": ack["log"], "seq": ack["seq"]}
    joined = await back.ask("join", room="r", position=position, history=10)
    assert joined["recovery"] == {"outcome": "reset"}
    assert [(message["seq"], message["data"]) for message in joined["messages"]] == [(1, "new")]
    assert joined["position"]["log"] != ack["log"]
    for peer in (bob, back):
        await peer.close()


# While it lasts


async def test_nobody_gets_in_any_more(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await serve(**SLOWLY)
    assert (await server.get("/readyz")).status_code == 200
    for name in ("ann", "bob"):
        await server.user(name)
    async with draining(server, monkeypatch):
        await server.lost(1)
        assert (await server.get("/readyz")).status_code == 503
        assert (await server.get("/healthz")).status_code == 200
        assert (await server.get("/metrics")).status_code == 200
        for door in DOORS:
            with pytest.raises(InvalidStatus) as refused:
                await server.connect(door)
            response = refused.value.response
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) >= 1
    assert server.metric("sessions_opened_total") == 2


async def test_who_has_yet_to_go_works_on(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await serve(**SLOWLY)
    peers = [(await server.member(name, "r"))[0] for name in ("ann", "bob")]
    async with draining(server, monkeypatch):
        await server.lost(1)
        (session,) = server.container.hub().sessions.values()
        (left,) = (p for p, name in zip(peers, ("ann", "bob"), strict=True)
                   if name == session.identity.user)  # fmt: skip
        ack = await left.ask("publish", room="r", data=1)
        assert (await left.ask("history", room="r"))["messages"][-1]["seq"] == ack["seq"]
        assert (await left.ask("members", room="r"))["count"] == 2  # the other one may come back
        assert (await left.ask("join", room="another"))["type"] == "joined"
    frames, *close = await left.ending()
    assert tuple(close) == RESTARTING
    assert farewell(frames) > 0


async def test_who_shows_its_token_late_is_told_too(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve(**JWT, **SLOWLY)
    for name in ("ann", "bob"):
        peer = await server.connect(f"/v1/ws?token={token(name)}")
        await peer.expect("connected")
    late = await server.connect("/v1/ws")
    async with draining(server, monkeypatch):
        await server.lost(1)
        await late.send({"type": "auth", "token": token("cid")})
        await late.expect("connected")
    frames, *close = await late.ending()
    assert tuple(close) == RESTARTING
    assert farewell(frames) > 0


async def test_who_shows_no_token_does_not_hold_it_up(serve: Serve) -> None:
    server = await serve(**JWT, limits={"auth_timeout": 3600})
    waiting = await server.connect("/v1/ws")
    server.begin_to_stop()
    assert await server.ended() == 0
    assert (await waiting.ending())[1] == 1012


async def test_every_door_closes_with_the_same_code(serve: Serve) -> None:
    server = await serve(**JWT, drain_window=0)
    peers = [await server.connect(f"{door}?token={token('ann')}") for door in DOORS]
    await server.lost(len(DOORS))
    server.begin_to_stop()
    for door, peer in zip(DOORS, peers, strict=True):
        frames, *close = await peer.ending()
        assert tuple(close) == RESTARTING, door
        farewells = [frame for frame in frames if frame["type"] == "disconnect"]
        assert len(farewells) == (door == "/v1/ws"), door
    assert await server.ended() == 0


async def test_whoever_does_not_answer_the_close_is_not_waited_for_long(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.transport.lane.CLOSE_DEADLINE", 0.3)
    server = await serve()
    monkeypatch.setattr("entrypoints.server._STOP_TIMEOUT", 0.3)
    client = await RawClient.connect(server.port, "/v1/ws?user=deaf")
    try:
        await server.lost(1)
        server.begin_to_stop()
        assert await server.ended() == 0
    finally:
        client.close()


# What lies in buffers


@asynccontextmanager
async def deaf_member(server: RunningServer) -> AsyncIterator[RawClient]:
    """Somebody in `r` who reads only at the end."""
    client = await RawClient.connect(server.port, "/v1/ws?user=deaf")
    try:
        await client.send({"type": "join", "room": "r"})
        await until(lambda: "r" in rooms_of(server, "deaf"))
        yield client
    finally:
        client.close()


def rooms_of(server: RunningServer, user: str) -> set[str]:
    sessions = server.container.hub().sessions.values()
    return {str(room) for s in sessions if s.identity.user == user for room in s.memberships}


def is_whole(frames: list[tuple[int, bytes]], messages: int) -> bool:
    """Whether this is what a member is sent to its end: so many messages, and the farewell."""
    *texts, (_, close) = frames
    assert (int.from_bytes(close[:2], "big"), close[2:].decode()) == RESTARTING
    decoded = [json.loads(text) for opcode, text in texts if opcode == 1]
    assert farewell(decoded) == pytest.approx(0)
    seqs = [frame["seq"] for frame in decoded if frame["type"] == "message"]
    return seqs == list(range(1, messages + 1))


async def test_what_was_said_before_comes_before_the_farewell(serve: Serve) -> None:
    server = await serve(limits={"messages_per_second": 0}, drain_window=0)
    talker = await server.user("talker")
    server.narrow()
    async with deaf_member(server) as client:
        for _ in range(50):
            await talker.ask("publish", room="r", data="x" * 8_000)
        assert server.backlog() > 200_000  # it waits in the server, and goes out after its end
        server.begin_to_stop()
        await server.lost(0)
        frames = await client.read_to_the_close()
    assert await server.ended() == 0
    assert is_whole(frames, 50)


async def test_who_goes_on_talking_gets_it_all_the_same(serve: Serve) -> None:
    """What waits in the kernel would be thrown away if the socket was closed on unread input."""
    server = await serve(drain_window=0)
    talker = await server.user("talker")
    async with deaf_member(server) as client:
        for _ in range(50):
            await talker.ask("publish", room="r", data="x" * 1_000)
        assert server.backlog() == 0
        server.begin_to_stop()
        await server.lost(0)
        await client.send({"type": "publish", "room": "r", "data": "too late"})
        await until(lambda: server.connections() <= 1)
        frames = await client.read_to_the_close()
    assert await server.ended() == 0
    assert is_whole(frames, 50)
