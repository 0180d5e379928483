"""The `/ws…` doors, frame by frame as a client of a tutorial sees them."""

import json
import time

import pytest

from entrypoints.settings import AuthSettings
from tests.peer import Peer
from tests.running_server import RunningServer, Serve
from tests.tokens import BAD_TOKENS, SECRET, token

SECURE = {"auth": AuthSettings.model_validate({"hmac_secret": SECRET})}


async def in_order(server: RunningServer, *paths: str) -> list[Peer]:
    """Connections opened one after the other, each in its room before the next one comes."""
    peers = []
    for path in paths:
        peers.append(await server.connect(path))
        await server.lost(len(peers))
    return peers


# /ws


async def test_echo_returns_what_came_and_when(serve: Serve) -> None:
    peer = await (await serve()).connect("/ws")
    for value in ({"any": ["JSON", 1]}, [1, 2.5, None], "text", 7, None, True, {}):
        before = time.time()
        await peer.send(value)
        frame = await peer.receive()
        assert list(frame) == ["echo", "ts"]
        assert frame["echo"] == value
        assert before - 1 < frame["ts"] < time.time() + 1


async def test_echo_answers_malformed_input_and_stays(serve: Serve) -> None:
    peer = await (await serve()).connect("/ws")
    for text in ("{", "", "NaN", '"\\ud800"', "1e400", "[" * 65 + "]" * 65):
        await peer.send_raw(text)
        await peer.expect("error", code="bad_frame", retry=False)
    await peer.send_raw(b"\x00binary")
    await peer.expect("error", code="bad_frame")
    await peer.send("still here")
    assert (await peer.receive())["echo"] == "still here"


# /ws/binary


async def test_binary_returns_binary_frames(serve: Serve) -> None:
    peer = await (await serve()).connect("/ws/binary")
    for data in (b"", b"\x00\xff\xfe", bytes(range(256)) * 200):
        await peer.send_raw(data)
        assert await peer.receive_raw() == data


async def test_binary_answers_text_with_an_error_and_stays(serve: Serve) -> None:
    peer = await (await serve()).connect("/ws/binary")
    await peer.send_raw("text")
    await peer.expect("error", code="bad_frame")
    await peer.send_raw(b"data")
    assert await peer.receive_raw() == b"data"


# /ws/{client_id}


async def test_lobby_tells_everybody_who_comes_speaks_and_goes(serve: Serve) -> None:
    server = await serve()
    ann = await server.connect("/ws/ann")
    assert await ann.receive() == {"type": "join", "user": "ann", "count": 1}
    bob = await server.connect("/ws/bob")
    for peer in (ann, bob):
        assert await peer.receive() == {"type": "join", "user": "bob", "count": 2}

    for seq, value in enumerate(([1, {"any": "JSON"}], "text", None, {"text": "x"}), start=1):
        await bob.send(value)
        for peer in (ann, bob):
            frame = await peer.expect("message", data=value, seq=seq, **{"from": "bob"})
            assert set(frame) == {"type", "from", "data", "seq", "ts"}

    await bob.close()
    assert await ann.receive() == {"type": "leave", "user": "bob", "count": 1}


async def test_lobby_counts_users_and_not_their_tabs(serve: Serve) -> None:
    server = await serve()
    ann = await server.connect("/ws/ann")
    await ann.expect("join", user="ann", count=1)
    tab = await server.connect("/ws/ann")
    await tab.expect("join", user="ann", count=1)  # a newcomer always gets its own

    await ann.send("first")
    for peer in (ann, tab):
        await peer.expect("message", data="first")  # so the others were told nothing of the tab
    await tab.close()
    await server.lost(1)
    await ann.send("second")
    await ann.expect("message", data="second")


async def test_lobby_keeps_a_lost_member_for_the_grace(serve: Serve) -> None:
    server = await serve(presence_grace=0.05)
    ann, bob = await in_order(server, "/ws/ann", "/ws/bob")
    await ann.expect("join", user="ann")
    await ann.expect("join", user="bob", count=2)
    bob.vanish()
    await ann.expect("leave", user="bob", count=1)


async def test_lobby_answers_malformed_input_and_stays(serve: Serve) -> None:
    server = await serve()
    ann, bob = await in_order(server, "/ws/ann", "/ws/bob")
    await ann.expect("join", user="ann")
    for peer in (ann, bob):
        await peer.expect("join", user="bob")
    await ann.send_raw("not JSON")
    await ann.expect("error", code="bad_frame")
    await ann.send_raw(b"[]")
    await ann.expect("error", code="bad_frame")
    await ann.send("fine")
    for peer in (ann, bob):
        await peer.expect("message", data="fine")


async def test_fixed_paths_are_not_taken_for_names(serve: Serve) -> None:
    server = await serve(**SECURE)
    binary = await server.connect("/ws/binary")
    await binary.send_raw(b"1")
    assert await binary.receive_raw() == b"1"
    secure = await server.connect(f"/ws/secure?token={token('ann')}")
    await secure.expect("connected", user_id="ann")
    lobby = await server.connect("/ws/heartbeat")  # no such door without a name: a user then
    await lobby.expect("join", user="heartbeat", count=1)


# /ws/rooms/{room_id}/{user_id}


async def test_room_tells_the_others_who_comes_and_everybody_what_is_said(serve: Serve) -> None:
    server = await serve()
    ann, bob = await in_order(server, "/ws/rooms/r/ann", "/ws/rooms/r/bob")
    assert await ann.receive() == {"type": "join", "user": "bob"}

    await ann.send({"text": "hello"})
    for peer in (ann, bob):
        frame = await peer.expect("message", text="hello", seq=1, **{"from": "ann"})
        assert set(frame) == {"type", "from", "text", "seq", "ts"}
    await bob.close()
    assert await ann.receive() == {"type": "leave", "user": "bob"}


async def test_room_text_is_null_when_absent(serve: Serve) -> None:
    ann = await (await serve()).connect("/ws/rooms/r/ann")
    for sent, text in (
        ({}, None),
        ({"other": 1}, None),
        ({"text": None}, None),
        ({"text": ["any", "JSON"]}, ["any", "JSON"]),
        ({"text": "x", "other": "is left out"}, "x"),
    ):
        await ann.send(sent)
        frame = await ann.expect("message", text=text)
        assert "data" not in frame


async def test_room_refuses_what_is_no_object_and_stays(serve: Serve) -> None:
    server = await serve()
    ann, bob = await in_order(server, "/ws/rooms/r/ann", "/ws/rooms/r/bob")
    await ann.expect("join", user="bob")
    frames: list[str | bytes] = ["[]", '"text"', "1", "null", "{", "", b"{}"]
    for seq, frame in enumerate(frames, start=1):
        await ann.send_raw(frame)
        await ann.expect("error", code="bad_frame")
        await ann.send({"text": "fine"})
        for peer in (ann, bob):
            await peer.expect("message", text="fine", seq=seq)


async def test_rooms_do_not_hear_each_other(serve: Serve) -> None:
    server = await serve()
    ann, bob = await in_order(server, "/ws/rooms/a/ann", "/ws/rooms/b/bob")
    await ann.send({"text": "in a"})
    await ann.expect("message", text="in a")
    await bob.send({"text": "in b"})
    await bob.expect("message", text="in b", seq=1)


async def test_room_is_the_same_room_at_the_main_door(serve: Serve) -> None:
    server = await serve()
    alice = await server.connect("/ws/rooms/r/alice")
    bob, joined = await server.member("bob", "r")
    assert [member["user"] for member in joined["members"]] == ["alice", "bob"]
    await alice.expect("join", user="bob")

    await alice.send({"text": "hi"})
    await alice.expect("message", text="hi", seq=1)
    await bob.expect("message", room="r", seq=1, data={"text": "hi"}, **{"from": "alice"})

    for seq, (data, text) in enumerate(
        [([1, 2], None), ({"text": "x", "more": 1}, "x"), ("plain", None)], start=2
    ):
        await bob.send({"type": "publish", "room": "r", "data": data, "echo": False})
        await bob.expect("ack", seq=seq)
        await alice.expect("message", text=text, data=data, seq=seq, **{"from": "bob"})
    await bob.send({"type": "publish", "room": "r", "data": {"text": "same shape"}})
    assert "data" not in await alice.expect("message", text="same shape", seq=5)

    await bob.send({"type": "publish", "room": "r", "data": {"text": "…"}, "ephemeral": True})
    ephemeral = await alice.expect("message", text="…", ephemeral=True)
    assert "seq" not in ephemeral


async def test_room_and_lobby_are_told_when_their_numbering_is_lost(serve: Serve) -> None:
    server = await serve()
    (ann,) = await in_order(server, "/ws/rooms/lobby/ann")
    lobby = await server.connect("/ws/bob")
    await lobby.expect("join", user="bob", count=2)
    await ann.expect("join", user="bob")
    await ann.send({"text": "x"})
    await ann.expect("message", seq=1)
    await lobby.expect("message", seq=1, data={"text": "x"})

    server.container.broker().forget("lobby")
    for peer in (ann, lobby):
        await peer.expect("resync", room="lobby", recovery={"outcome": "reset"}, messages=[])
    await ann.send({"text": "y"})
    await ann.expect("message", seq=1, text="y")


async def test_crowded_rooms_tell_no_joins_at_any_door(serve: Serve) -> None:
    server = await serve(rooms=[{"match": "*", "presence_limit": 1}])
    (ann,) = await in_order(server, "/ws/rooms/lobby/ann")
    bob = await server.connect("/ws/bob")
    await bob.expect("join", user="bob", count=2)  # its own, always
    await bob.send({"text": "x"})
    await ann.expect("message", text="x")


# /ws/scalable/{client_id}


async def test_scalable_is_one_chat_without_joins(serve: Serve) -> None:
    server = await serve()
    ann, bob = await in_order(server, "/ws/scalable/ann", "/ws/scalable/bob")
    main, _ = await server.member("cleo", "chat:global")
    await ann.send({"text": "hello"})
    for peer in (ann, bob):  # nothing of who came before it
        frame = await peer.expect("message", text="hello", seq=1, **{"from": "ann"})
        assert set(frame) == {"type", "from", "text", "seq", "ts"}
    await main.expect("message", room="chat:global", data={"text": "hello"})

    await main.send({"type": "publish", "room": "chat:global", "data": [1], "echo": False})
    await main.expect("ack", seq=2)
    await ann.expect("message", text=None, data=[1], **{"from": "cleo"})
    await ann.send_raw("[]")
    await ann.expect("error", code="bad_frame")
    await bob.expect("message", data=[1])
    await bob.close()
    await server.lost(2)
    await ann.send({})
    await ann.expect("message", text=None, seq=3)  # and nothing of who went


# /ws/secure


async def acknowledges(peer: Peer, *values: object) -> None:
    """Any JSON is confirmed; what is none is an error, and the connection stays."""
    for value in values:
        await peer.send(value)
        assert await peer.receive() == {"type": "ack", "received": value}
    await peer.send_raw("{")
    await peer.expect("error", code="bad_frame")
    await peer.send(1)
    await peer.expect("ack", received=1)


async def test_secure_lets_a_good_token_in(serve: Serve) -> None:
    server = await serve(**SECURE)
    peer = await server.connect(f"/ws/secure?token={token('ann')}")
    assert await peer.receive() == {"type": "connected", "user_id": "ann"}
    await acknowledges(peer, {"any": "JSON"}, [1], "text", None)


@pytest.mark.parametrize("kind", BAD_TOKENS)
async def test_secure_refuses_a_bad_token(serve: Serve, kind: str) -> None:
    server = await serve(**SECURE)
    make, reason = BAD_TOKENS[kind]
    peer = await server.connect(f"/ws/secure?token={make('ann')}")
    code, told = await peer.closed()
    assert (code, told.startswith(reason)) == (4001, True), told
    assert server.metric("sessions_opened_total") == 0


async def test_secure_refuses_a_missing_token(serve: Serve) -> None:
    server = await serve(**SECURE)
    for path in ("/ws/secure", "/ws/secure?token=", "/ws/secure?other=1"):
        peer = await server.connect(path)
        code, told = await peer.closed()
        assert (code, told.startswith("token_")) == (4001, True), told
    assert server.metric("sessions_opened_total") == 0


async def test_secure_takes_no_token_in_a_first_frame(serve: Serve) -> None:
    server = await serve(**SECURE)
    peer = await server.connect("/ws/secure")
    code, told = await peer.closed()
    assert (code, told.startswith("token_missing")) == (4001, True), told


# /ws/heartbeat/{client_id}


async def heartbeat(serve: Serve) -> Peer:
    server = await serve(ping_interval=0.1, ping_timeout=0.5)
    return await server.connect("/ws/heartbeat/ann")


async def test_heartbeat_pings_and_swallows_pongs(serve: Serve) -> None:
    peer = await heartbeat(serve)
    for _ in range(12):  # twice as long as a silent client lives
        assert await peer.receive() == {"type": "ping"}
        await peer.send({"type": "pong"})


async def test_heartbeat_acknowledges_other_json(serve: Serve) -> None:
    server = await serve()
    peer = await server.connect("/ws/heartbeat/ann")
    await peer.send({"type": "pong"})
    await acknowledges(peer, {"type": "hello"}, ["pong"], "pong", {"type": ["pong"]}, None)


async def test_heartbeat_ends_without_a_pong(serve: Serve) -> None:
    """WebSocket pongs, which every client sends by itself, do not count at this door."""
    peer = await heartbeat(serve)
    frames, code, _ = await peer.ending()
    assert code == 4103
    assert frames
    assert frames == [{"type": "ping"}] * len(frames)


async def test_other_doors_need_no_json_pong(serve: Serve) -> None:
    server = await serve(ping_interval=0.05, ping_timeout=0.5)
    ann = await server.connect("/v1/ws?user=ann")
    await ann.expect("connected", ping_interval=0.05)
    await ann.expect("joined")
    for _ in range(15):  # longer than a silent client lives
        await ann.expect("ping")


@pytest.mark.parametrize("path", ["/ws", "/ws/ann", "/ws/rooms/r/ann", "/ws/scalable/ann"])
@pytest.mark.lane_only("only our own classes send WebSocket pings")
async def test_silence_is_found_out_at_every_door(serve: Serve, path: str) -> None:
    server = await serve(ping_interval=0.05, ping_timeout=0.1)
    peer = await server.connect(path)
    peer.connection.transport.pause_reading()  # so that its library answers no pings
    await server.lost(0)
    assert server.metric("disconnects_total", "4103") == 1
    peer.vanish()


# Names


@pytest.mark.parametrize(
    "path",
    [
        "/ws/{}",
        "/ws/rooms/{}/ann",
        "/ws/rooms/r/{}",
        "/ws/scalable/{}",
        "/ws/heartbeat/{}",
        "/v1/ws?user={}",
    ],
)
async def test_bad_names_are_answered_and_closed(serve: Serve, path: str) -> None:
    server = await serve()
    for name in ("bad%20name", "%C3%A4nn", "x" * 129, "a%00b", "caf%CC%81", "%0d%0a"):
        peer = await server.connect(path.format(name))
        await peer.expect("error", code="bad_name")
        if path.startswith("/v1"):
            await peer.expect("disconnect", code=4000)
        code, reason = await peer.closed()
        assert (code, reason.startswith("bad_name")) == (4000, True), name
    assert server.metric("sessions_opened_total") == 0


async def test_a_personal_room_is_nobody_elses_at_a_room_door(serve: Serve) -> None:
    server = await serve()
    peer = await server.connect("/ws/rooms/@bob/ann")
    code, reason = await peer.closed()
    assert (code, reason.startswith("not_granted")) == (4003, True)


async def test_the_longest_and_oddest_names_are_fine(serve: Serve) -> None:
    server = await serve()
    room, user = "a.b:c@d~e-F_9", "x" * 128
    peer = await server.connect(f"/ws/rooms/{room}/{user}")
    await peer.send({"text": json.dumps("quoted")})
    await peer.expect("message", text='"quoted"', **{"from": user})
