"""A dashboard over a line that is too slow for it: the newest value, and how many it leaves out."""

import asyncio
import random
import socket
from typing import Any

import pytest

from tests.peer import Frame, Peer
from tests.running_server import RunningServer, Serve

VALUE = "x" * 4_000
CONFLATED: dict[str, Any] = {
    "rooms": [{"match": "board", "conflate": True}],
    "limits": {"messages_per_second": 0},
}


async def slow(server: RunningServer, path: str = "/v1/ws?user=slow") -> Peer:
    """A connection of which little is taken in as long as nobody asks for frames."""
    server.narrow()
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.setblocking(False)
    await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", server.port))
    return await server.connect(path, sock=line, max_queue=1)


async def slow_member(server: RunningServer) -> Peer:
    peer = await slow(server)
    await peer.expect("connected")
    await peer.expect("joined", room="@slow")
    assert (await peer.ask("join", room="board"))["type"] == "joined"
    return peer


async def publish(talker: Peer, number: int, *listeners: Peer) -> None:
    """Publish the value with that number; listeners get it and nothing else."""
    data = {"number": number, "value": VALUE}
    ack = await talker.ask("publish", room="board", data=data, echo=False)
    assert ack["seq"] == number
    for listener in listeners:
        message = await listener.expect("message", seq=number, data=data)
        assert "skipped" not in message


async def read_up_to(peer: Peer, newest: int) -> list[Frame]:
    """The messages that come until the one with that seq has."""
    frames: list[Frame] = []
    while not frames or frames[-1]["seq"] < newest:
        frames.append(await peer.receive())
        assert frames[-1]["type"] == "message", frames[-1]
    return frames


def adds_up(frames: list[Frame], published: int) -> bool:
    """Whether these are messages in order, each of which tells what it leaves out since the one
    before it, up to the newest."""
    seqs = [frame["seq"] for frame in frames]
    jumps = [later - sooner for sooner, later in zip([0, *seqs], seqs, strict=False)]
    told = [frame.get("skipped", 0) + 1 for frame in frames]
    return jumps == told and sum(told) == published


async def test_who_reads_late_gets_the_newest_and_is_told_how_much_it_missed(serve: Serve) -> None:
    server = await serve(**CONFLATED)
    talker = await server.user("talker")
    quick, _ = await server.member("quick", "board")
    late = await slow_member(server)
    await quick.expect("join", user="slow")

    most = 0
    for number in range(1, 201):
        await publish(talker, number, quick)
        most = max(most, server.backlog())
    assert most < 2 * len(VALUE) + 1_000  # whatever is published, this is what waits for it

    frames = await read_up_to(late, 200)
    assert frames[-1]["data"]["number"] == 200
    assert adds_up(frames, 200), [(frame["seq"], frame.get("skipped")) for frame in frames]
    assert len(frames) < 50
    assert server.metric("conflated_total") == 200 - len(frames)
    assert server.metric("disconnects_total") == 0

    for number in range(201, 206):  # from here on it keeps up
        await publish(talker, number, quick, late)
    assert await late.is_quiet()


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_its_pace_what_it_gets_adds_up(serve: Serve, seed: int) -> None:
    server = await serve(**CONFLATED)
    dice = random.Random(seed)
    talker = await server.user("talker")
    late = await slow_member(server)
    frames: list[Frame] = []
    for number in range(1, 151):
        await publish(talker, number)
        if dice.random() < 0.2:
            for _ in range(dice.randrange(4)):
                if not frames or frames[-1]["seq"] < number:
                    frames.append(await late.receive())
    if frames[-1]["seq"] < 150:
        frames += await read_up_to(late, 150)
    assert adds_up(frames, 150), [(frame["seq"], frame.get("skipped")) for frame in frames]
    assert await late.is_quiet()


async def test_bursts_do_not_make_anybody_slow(serve: Serve) -> None:
    """Many messages in one turn of the loop are no reason to leave one out."""
    server = await serve(**CONFLATED)
    talker = await server.user("talker")
    quick, _ = await server.member("quick", "board")
    for burst in range(10):
        first = 20 * burst + 1
        numbers = range(first, first + 20)
        await talker.send(
            *({"type": "publish", "room": "board", "data": number} for number in numbers)
        )
        heard = [await quick.expect("message") for _ in numbers]
        assert [(frame["seq"], frame.get("skipped", 0)) for frame in heard] == [
            (number, 0) for number in numbers
        ]
        for _ in numbers:
            await talker.expect("ack")


async def test_who_comes_and_goes_is_seen_by_who_is_slow(serve: Serve) -> None:
    server = await serve(**CONFLATED)
    talker = await server.user("talker")
    late = await slow_member(server)
    for number in range(1, 31):
        await publish(talker, number)
    guest, _ = await server.member("guest", "board")
    assert (await guest.ask("leave", room="board"))["type"] == "ack"
    for number in range(31, 61):
        await publish(talker, number)
    frames: list[Frame] = []
    while not frames or frames[-1].get("seq") != 60:
        frames.append(await late.receive())
    presence = [(f["type"], f["user"]) for f in frames if f["type"] != "message"]
    assert presence == [("join", "guest"), ("leave", "guest")]
    assert adds_up([frame for frame in frames if frame["type"] == "message"], 60)


async def test_a_position_gained_by_skipping_is_good_for_coming_back(serve: Serve) -> None:
    server = await serve(**CONFLATED)
    talker = await server.user("talker")
    late = await slow_member(server)
    for number in range(1, 61):
        await publish(talker, number)
    frames = await read_up_to(late, 60)
    assert "log" in frames[0]
    position = {"log": frames[0]["log"], "seq": 60}
    late.vanish()
    await server.lost(1)
    for number in range(61, 64):
        await publish(talker, number)
    _, joined = await server.member("slow", "board", position=position)
    assert joined["recovery"] == {"outcome": "ok"}
    assert [message["seq"] for message in joined["messages"]] == [61, 62, 63]


async def test_a_tutorial_door_is_told_as_well(serve: Serve) -> None:
    server = await serve(**CONFLATED)
    talker = await server.user("talker")
    late = await slow(server, "/ws/rooms/board/slow")
    await until_member(talker)
    for number in range(1, 61):
        await talker.ask("publish", room="board", data={"text": VALUE, "number": number})
    frames = await read_up_to(late, 60)
    assert frames[-1]["data"]["number"] == 60
    assert adds_up(frames, 60)
    assert len(frames) < 30


async def until_member(observer: Peer) -> None:
    """Wait until somebody is in the room."""
    async with asyncio.timeout(20):
        while not (await observer.ask("members", room="board"))["count"]:
            pass
