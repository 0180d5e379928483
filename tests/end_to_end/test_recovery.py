"""Coming back: what a client gets for its last position, and what it is told when the numbering
could not be continued under a connection."""

import asyncio
import socket
from itertools import pairwise

import pytest

from tests.peer import Frame, Peer
from tests.running_server import RunningServer, Serve


async def publish(peer: Peer, room: str, *values: object) -> Frame:
    """Returns the position after the last of them."""
    for value in values:
        ack = await peer.ask("publish", room=room, data=value, echo=False)
        assert ack["type"] == "ack", ack
    return {"log": ack["log"], "seq": ack["seq"]}


def data(frame: Frame) -> list[object]:
    return [message["data"] for message in frame["messages"]]


def seqs(frame: Frame) -> list[int]:
    return [message["seq"] for message in frame["messages"]]


async def replayed(peer: Peer, joined: Frame, top: int) -> list[Frame]:
    """Everything up to seq `top`: the first page and the pushes behind it."""
    found = list(joined["messages"])
    while not found or found[-1]["seq"] < top:
        found.append(await peer.expect("message", room=joined["room"]))
    return found


# The outcomes


async def test_a_position_brings_exactly_what_was_missed(serve: Serve) -> None:
    server = await serve()
    ann, joined = await server.member("ann", "r")
    bob = await server.user("bob")
    at = await publish(bob, "r", "seen")
    await ann.expect("message", data="seen", seq=at["seq"], log=at["log"])
    ann.vanish()
    await server.lost(1)
    top = await publish(bob, "r", "missed 1", "missed 2")

    back, joined = await server.member("ann", "r", position=at)
    assert joined["recovery"] == {"outcome": "ok"}
    assert data(joined) == ["missed 1", "missed 2"]
    assert seqs(joined) == [2, 3]
    assert (joined["position"], joined["more"]) == (top, False)
    await publish(bob, "r", "live")
    await back.expect("message", seq=4, data="live")
    assert await back.is_quiet()


async def test_who_missed_nothing_gets_nothing(serve: Serve) -> None:
    server = await serve()
    bob = await server.user("bob")
    top = await publish(bob, "r", 1, 2)
    _, joined = await server.member("ann", "r", position=top, history=50)
    assert joined["recovery"] == {"outcome": "ok"}
    assert (joined["messages"], joined["position"]) == ([], top)


async def test_without_a_position_history_decides(serve: Serve) -> None:
    server = await serve()
    bob = await server.user("bob")
    top = await publish(bob, "r", *range(5))
    for wish, expected in ((None, []), (0, []), (2, [3, 4]), (500, [0, 1, 2, 3, 4])):
        _, joined = await server.member("ann", "r", history=wish)
        assert joined["recovery"] == {"outcome": "none"}
        assert data(joined) == expected
        assert joined["position"] == top


async def test_a_gap_is_told_with_what_is_kept(serve: Serve) -> None:
    server = await serve(rooms=[{"match": "r", "history_size": 3}])
    bob = await server.user("bob")
    at = await publish(bob, "r", 1)
    top = await publish(bob, "r", 2, 3, 4, 5)
    _, joined = await server.member("ann", "r", position=at)
    assert joined["recovery"] == {"outcome": "gap", "first": 3}
    assert (data(joined), joined["position"]) == ([3, 4, 5], top)
    _, joined = await server.member("ann", "r", position={**at, "seq": 2})
    assert joined["recovery"] == {"outcome": "ok"}  # 3 follows 2: nothing is missing


async def test_the_end_of_the_history_is_a_gap(serve: Serve) -> None:
    server = await serve(
        rooms=[{"match": "r", "history_ttl": 0.05}], limits={"commands_per_second": 0}
    )
    bob = await server.user("bob")
    at = await publish(bob, "r", 1)
    top = await publish(bob, "r", 2)
    async with asyncio.timeout(20):
        while (await bob.ask("history", room="r"))["messages"]:
            pass
    _, joined = await server.member("ann", "r", position=at)
    assert joined["recovery"] == {"outcome": "gap", "first": 3}
    assert (joined["messages"], joined["position"]) == ([], top)
    assert (await publish(bob, "r", 3))["seq"] == 3  # the count goes on


async def test_a_restarted_server_says_reset(serve: Serve) -> None:
    before = await serve()
    at = await publish(await before.user("bob"), "r", 1, 2, 3)
    await before.stop()

    after = await serve()
    bob = await after.user("bob")
    top = await publish(bob, "r", "new 1", "new 2")
    _, joined = await after.member("ann", "r", position=at)
    assert joined["recovery"] == {"outcome": "reset"}
    assert (joined["messages"], joined["position"]) == ([], top)
    assert top["log"] != at["log"]
    _, joined = await after.member("cleo", "r", position=at, history=1)
    assert joined["recovery"] == {"outcome": "reset"}
    assert (data(joined), joined["position"]) == (["new 2"], top)


@pytest.mark.parametrize("log", ["", "x", "x.y", "x.y.z", ".0", "ü.0"])
async def test_a_log_nobody_knows_is_a_reset(serve: Serve, log: str) -> None:
    server = await serve()
    await publish(await server.user("bob"), "r", 1)
    _, joined = await server.member("ann", "r", position={"log": log, "seq": 0})
    assert joined["recovery"] == {"outcome": "reset"}
    assert joined["position"]["seq"] == 1


async def test_a_seq_above_the_top_is_rewound(serve: Serve) -> None:
    server = await serve()
    bob = await server.user("bob")
    top = await publish(bob, "r", 1, 2)
    ann, joined = await server.member("ann", "r", position={**top, "seq": 9})
    assert joined["recovery"] == {"outcome": "rewound", "valid_to": 2}
    assert (joined["messages"], joined["position"]) == ([], top)
    await publish(bob, "r", 3)
    await ann.expect("message", seq=3)


# Live connections


async def test_a_lost_log_is_told_to_who_is_connected(serve: Serve) -> None:
    server = await serve()
    ann, _ = await server.member("ann", "r")
    bob, _ = await server.member("bob", "r")
    await ann.expect("join", user="bob")
    old = await publish(ann, "r", 1, 2)
    for seq in (1, 2):
        await bob.expect("message", seq=seq)

    server.container.broker().forget("r")
    for peer in (ann, bob):
        resync = await peer.expect("resync", room="r", recovery={"outcome": "reset"})
        assert (resync["messages"], resync["more"]) == ([], False)
        assert resync["position"]["seq"] == 0
        assert resync["position"]["log"] != old["log"]
    new = await publish(ann, "r", "again 1")
    assert new == {"log": resync["position"]["log"], "seq": 1}
    # The first message of a new log names it.
    await bob.expect("message", seq=1, data="again 1", log=new["log"])
    await publish(ann, "r", "again 2")
    assert "log" not in await bob.expect("message", seq=2)
    _, joined = await server.member("cleo", "r", position=old)
    assert joined["recovery"] == {"outcome": "reset"}


async def test_joining_again_fills_what_lies_before_the_entry(serve: Serve) -> None:
    server = await serve()
    bob = await server.user("bob")
    start = await publish(bob, "r", 1)
    await publish(bob, "r", 2, 3)
    ann, joined = await server.member("ann", "r")
    assert (joined["messages"], joined["position"]["seq"]) == ([], 3)
    await publish(bob, "r", 4, 5)
    again = await ann.ask("join", room="r", position=start)
    assert again["recovery"] == {"outcome": "ok"}
    assert seqs(again) == [2, 3]  # 4 and 5 came live
    assert again["position"]["seq"] == 3
    for seq in (4, 5):
        await ann.expect("message", seq=seq)
    assert await ann.is_quiet()
    assert again["members"] == [{"user": "ann", "info": None, "sessions": 1}]


async def test_a_personal_room_is_recovered_by_a_later_join(serve: Serve) -> None:
    server = await serve()
    ann = await server.connect("/v1/ws?user=ann")
    await ann.expect("connected")
    at = (await ann.expect("joined", room="@ann"))["position"]
    ann.vanish()
    await server.lost(0)
    bob = await server.user("bob")
    await publish(bob, "@ann", "while you were away")

    back = await server.connect("/v1/ws?user=ann")
    await back.expect("connected")
    entry = await back.expect("joined", room="@ann")
    assert (entry["messages"], entry["position"]["seq"]) == ([], 1)
    joined = await back.ask("join", room="@ann", position=at)
    assert data(joined) == ["while you were away"]
    await publish(bob, "@ann", "live")
    await back.expect("message", room="@ann", data="live", seq=2)


# Long ways


async def test_more_than_a_page_comes_in_order_before_anything_live(serve: Serve) -> None:
    server = await serve(
        rooms=[{"match": "r", "history_size": 1000}], limits={"messages_per_second": 0}
    )
    bob = await server.user("bob")
    start = await publish(bob, "r", 0)
    await publish(bob, "r", *range(1, 350))
    ann = await server.user("ann")
    await ann.send({"type": "join", "room": "r", "position": start, "id": 1})
    await bob.send({"type": "publish", "room": "r", "data": "live", "echo": False})
    joined = await ann.expect("joined", recovery={"outcome": "ok"}, more=True)
    assert seqs(joined) == list(range(2, 102))
    assert joined["position"]["seq"] == 101
    found = await replayed(ann, joined, 351)
    assert [message["seq"] for message in found] == list(range(2, 352))
    assert found[-1]["data"] == "live"


async def test_a_page_is_bounded_in_bytes(serve: Serve) -> None:
    server = await serve()
    bob = await server.user("bob")
    start = await publish(bob, "r", 0)
    await publish(bob, "r", *("x" * 60_000 for _ in range(10)))
    ann, joined = await server.member("ann", "r", position=start)
    assert joined["more"]
    assert seqs(joined) == [2, 3, 4, 5]
    found = await replayed(ann, joined, 11)
    assert [message["seq"] for message in found] == list(range(2, 12))
    page = await ann.ask("history", room="r", after=1)
    assert (seqs(page), page["more"]) == ([2, 3, 4, 5], True)


class SlowPeer(Peer):
    """Takes what comes at a fixed speed, through small buffers."""

    BYTES_PER_SECOND = 2_000_000

    @classmethod
    async def connect_slowly(cls, server: RunningServer, path: str) -> "SlowPeer":
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", server.port))
        peer = await cls.connect(server.ws_url + path, sock=connection, max_queue=1)
        assert isinstance(peer, SlowPeer)
        return peer

    async def receive_raw(self, within: float = 5.0) -> str | bytes:
        frame = await super().receive_raw(within)
        await asyncio.sleep(len(frame) / self.BYTES_PER_SECOND)  # the speed is what is tested
        return frame


@pytest.mark.parametrize("outbox", [1_048_576, 262_144], ids=["default", "smallest"])
async def test_a_slow_reader_recovers_more_than_its_outbox_holds(serve: Serve, outbox: int) -> None:
    """6 MB through an outbox of 1 MiB: pages are read as the outbox drains, so being slow is no
    reason to be cut, and what is published meanwhile waits for its turn in the log."""
    server = await serve(
        rooms=[{"match": "r", "history_size": 200}], limits={"outbox_bytes": outbox}
    )
    server.narrow()
    bob = await server.user("bob")
    text = "x" * 60 * 1024
    start = {**await publish(bob, "r", *([text] * 100)), "seq": 0}

    ann = await SlowPeer.connect_slowly(server, "/v1/ws?user=ann")
    try:
        await ann.expect("connected")
        await ann.expect("joined")
        await ann.send({"type": "join", "room": "r", "position": start})
        joined = await ann.expect("joined", room="r", recovery={"outcome": "ok"}, more=True)
        backlogs = []
        found = list(joined["messages"])
        while len(found) < 120:
            found.append(await ann.expect("message", room="r"))
            backlogs.append(
                max(s.transport.backlog for s in server.container.hub().sessions.values())
            )
            if len(found) % 5 == 0 and len(found) <= 100:
                await publish(bob, "r", "meanwhile")
    finally:
        await ann.close()
    assert [message["seq"] for message in found] == list(range(1, 121))
    assert [message["data"] for message in found] == [text] * 100 + ["meanwhile"] * 20
    assert len(text) < max(backlogs) <= outbox  # it was slow indeed


async def test_a_log_that_moves_past_the_cursor_is_a_told_gap(serve: Serve) -> None:
    server = await serve(
        rooms=[{"match": "r", "history_size": 30}], limits={"messages_per_second": 0}
    )
    server.narrow()
    bob = await server.user("bob")
    text = "x" * 60 * 1024
    start = {**await publish(bob, "r", *([text] * 30)), "seq": 0}
    ann = await SlowPeer.connect_slowly(server, "/v1/ws?user=ann")
    try:
        await ann.expect("connected")
        await ann.expect("joined")
        await ann.send({"type": "join", "room": "r", "position": start})
        joined = await ann.expect("joined", room="r", more=True)
        top = await publish(bob, "r", *([text] * 30))
        seen = seqs(joined)
        while (frame := await ann.receive())["type"] == "message":
            seen.append(frame["seq"])
        assert seen == list(range(1, len(seen) + 1))
        assert frame["type"] == "resync", frame
        assert frame["recovery"]["outcome"] == "gap"
        first = frame["recovery"]["first"]
        assert first > seen[-1] + 1
        found = await replayed(ann, frame, top["seq"])
        assert [message["seq"] for message in found] == list(range(first, top["seq"] + 1))
    finally:
        await ann.close()


# History


async def test_history_pages_backwards_and_forwards(serve: Serve) -> None:
    server = await serve()
    bob = await server.user("bob")
    top = await publish(bob, "r", *range(1, 11))

    newest = await bob.ask("history", room="r", limit=4)
    assert newest == {
        "type": "history",
        "room": "r",
        "log": top["log"],
        "messages": newest["messages"],
        "more": True,
    }
    assert set(newest["messages"][0]) == {"seq", "id", "from", "data", "ts"}
    backwards = [newest]
    while backwards[-1]["more"]:
        before = backwards[-1]["messages"][0]["seq"]
        backwards.append(await bob.ask("history", room="r", before=before, limit=4))
    assert [seqs(page) for page in backwards] == [[7, 8, 9, 10], [3, 4, 5, 6], [1, 2]]

    forwards = [await bob.ask("history", room="r", after=0, limit=4)]
    while forwards[-1]["more"]:
        after = forwards[-1]["messages"][-1]["seq"]
        forwards.append(await bob.ask("history", room="r", after=after, limit=4, log=top["log"]))
    pages = [seqs(page) for page in forwards]
    assert pages == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    assert all(one[-1] < two[0] for one, two in pairwise(pages))


async def test_history_at_the_edges(serve: Serve) -> None:
    server = await serve(rooms=[{"match": "r", "history_size": 5}])
    bob = await server.user("bob")
    empty = await bob.ask("history", room="nothing-here")
    assert (empty["messages"], empty["more"]) == ([], False)
    top = await publish(bob, "r", *range(1, 11))
    for wish, expected, more in (
        ({}, [6, 7, 8, 9, 10], False),
        ({"limit": 10_000}, [6, 7, 8, 9, 10], False),
        ({"before": 6}, [], False),
        ({"before": 0}, [], False),
        ({"before": 99}, [6, 7, 8, 9, 10], False),
        ({"after": 10}, [], False),
        ({"after": 99}, [], False),
        ({"after": 2, "limit": 2}, [6, 7], True),
    ):
        page = await bob.ask("history", room="r", **wish)
        assert (seqs(page), page["more"]) == (expected, more), wish
    other = await bob.ask("history", room="r", after=7, log="another.log")
    assert (other["messages"], other["log"]) == ([], top["log"])
