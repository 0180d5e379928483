"""`/v1/ws`: commands of protocol v1 and their replies. Recovery, presence and tokens have files of
their own in tests/end_to_end."""

import asyncio
import json
import time

import pytest

from adapters.memory.broker import MemoryBroker
from application.refresh_token import RefreshToken
from application.session import Session
from domain.identifiers import RoomId, UserId
from domain.options import Retention
from domain.orders import Block
from tests.peer import Frame, Peer
from tests.running_server import Serve
from tests.tokens import JWT, token

# The greeting


async def test_connected_comes_first_and_tells_the_limits(serve: Serve) -> None:
    server = await serve(ping_interval=20, limits={"rooms_per_connection": 7})
    ann = await server.connect("/v1/ws?user=ann")
    connected = await ann.expect("connected", user_id="ann", ping_interval=20)
    assert set(connected) == {"type", "session_id", "user_id", "ping_interval", "limits"}
    assert connected["limits"]["rooms"] == 7
    assert connected["limits"]["frame_bytes"] == 65_536
    assert await ann.expect("joined", room="@ann")
    assert await ann.is_quiet()


async def test_the_nameless_are_guests_and_may_keep_their_name(serve: Serve) -> None:
    server = await serve()
    names = []
    for _ in range(2):
        guest = await server.connect("/v1/ws")
        names.append((await guest.expect("connected"))["user_id"])
    assert names[0] != names[1]
    again = await server.connect(f"/v1/ws?user={names[0]}")
    await again.expect("connected", user_id=names[0])


async def test_the_personal_room_is_joined_without_asking(serve: Serve) -> None:
    server = await serve()
    ann = await server.connect("/v1/ws?user=ann")
    await ann.expect("connected")
    joined = await ann.receive()
    assert joined.pop("position")["seq"] == 0
    assert joined == {
        "type": "joined",
        "room": "@ann",
        "recovery": {"outcome": "none"},
        "messages": [],
        "more": False,
        "members": None,
        "count": None,
        "version": None,
    }


# Replies


@pytest.mark.parametrize("request_id", ["", "x" * 64, 0, 2**53])
async def test_ids_are_echoed_as_they_came(serve: Serve, request_id: str | int) -> None:
    ann = await (await serve()).user("ann")
    for frame, kind in (
        ({"type": "ping"}, "pong"),
        ({"type": "join", "room": "r"}, "joined"),
        ({"type": "history", "room": "r"}, "history"),
        ({"type": "members", "room": "r"}, "members"),
        ({"type": "publish", "room": "r", "data": 1, "echo": False}, "ack"),
        ({"type": "leave", "room": "r"}, "ack"),
        ({"type": "leave", "room": "r"}, "error"),
        ({"type": "nonsense"}, "error"),
    ):
        await ann.send({**frame, "id": request_id})
        reply = await ann.expect(kind, id=request_id)
        assert type(reply["id"]) is type(request_id)


@pytest.mark.parametrize("request_id", ['a " {[', 7])
async def test_what_is_nested_too_deeply_is_answered_by_its_id(
    serve: Serve, request_id: str | int
) -> None:
    ann = await (await serve()).user("ann")
    deep = f'"data": {"[" * 5000}{{"id": "of nobody"}}{"]" * 5000}'
    shown = f'"id" : {json.dumps(request_id)}'
    for fields in (f"{deep}, {shown}", f'{shown}, "key": "\\"id\\": 1", {deep}'):
        await ann.send_raw(f'{{"type": "publish", "room": "r", {fields}}}')
        await ann.expect("error", id=request_id)


async def test_without_an_id_replies_have_none(serve: Serve) -> None:
    ann = await (await serve()).user("ann")
    for frame, kind in (
        ({"type": "ping"}, "pong"),
        ({"type": "join", "room": "r", "id": None}, "joined"),
        ({"type": "unknown"}, "error"),
        ({"type": "ping", "id": True}, "error"),
        ({"type": "ping", "id": "x" * 65}, "error"),
    ):
        await ann.send(frame)
        assert "id" not in await ann.expect(kind)


WRONG_SHAPES: list[Frame] = [
    {"type": "unknown"},
    {},
    {"type": ["join"]},
    {"type": "join"},
    {"type": "join", "room": 5},
    {"type": "join", "room": "r", "position": "top"},
    {"type": "join", "room": "r", "position": {"log": "x"}},
    {"type": "join", "room": "r", "position": {"log": "x", "seq": -1}},
    {"type": "join", "room": "r", "history": "all"},
    {"type": "publish", "room": "r"},
    {"type": "publish", "room": "r", "data": 1, "key": ""},
    {"type": "publish", "room": "r", "data": 1, "key": "x" * 129},
    {"type": "publish", "room": "r", "data": 1, "key": "ü"},
    {"type": "publish", "room": "r", "data": 1, "key": "k", "ephemeral": True},
    {"type": "history", "room": "r", "before": 1, "after": 1},
    {"type": "history", "room": "r", "limit": 0},
    {"type": "members", "room": "r", "after": 7},
    {"type": "auth"},
]


async def test_frames_of_the_wrong_shape_are_errors(serve: Serve) -> None:
    ann = await (await serve()).user("ann")
    for number, frame in enumerate(WRONG_SHAPES):
        await ann.send({**frame, "id": number})
        await ann.expect("error", id=number, code="bad_frame", retry=False)
    assert await ann.is_quiet()


@pytest.mark.parametrize("command", ["join", "leave", "history", "members", "publish"])
async def test_bad_room_names_are_errors(serve: Serve, command: str) -> None:
    ann = await (await serve()).user("ann")
    for room in ("", "bad name", "raum-ü", "x" * 129, "a/b", "@", "a\n", "r\x00"):
        reply = await ann.ask(command, room=room, data=1)
        assert (reply["type"], reply["code"]) == ("error", "bad_name"), room
    assert await ann.is_quiet()


async def test_unknown_fields_are_ignored(serve: Serve) -> None:
    ann = await (await serve()).user("ann")
    joined = await ann.ask("join", room="r", later="version", seq=[1])
    assert joined["type"] == "joined"
    ack = await ann.ask("publish", room="r", data={"later": 1}, ttl=5, echo=False)
    assert ack["seq"] == 1
    assert await ann.ask("ping", payload="x") == {"type": "pong"}


async def test_pong_is_not_answered(serve: Serve) -> None:
    ann = await (await serve()).user("ann")
    await ann.send({"type": "pong"}, {"type": "pong", "id": 1})
    assert await ann.is_quiet()


async def test_auth_in_open_mode_changes_nothing(serve: Serve) -> None:
    ann = await (await serve()).user("ann")
    assert await ann.ask("auth", token="whatever") == {"type": "ack"}
    assert (await ann.ask("publish", room="@ann", data=1))["type"] == "ack"
    await ann.expect("message", room="@ann", **{"from": "ann"})


# Joining and leaving


async def test_join_publish_leave(serve: Serve) -> None:
    server = await serve()
    ann, joined = await server.member("ann", "r")
    assert joined["position"] == {"log": joined["position"]["log"], "seq": 0}
    assert joined["recovery"] == {"outcome": "none"}
    assert (joined["messages"], joined["more"]) == ([], False)
    assert joined["members"] == [{"user": "ann", "info": None, "sessions": 1}]
    assert (joined["count"], joined["version"]) == (1, 1)

    ack = await ann.ask("publish", room="r", data={"text": "hi"})
    message = await ann.expect("message", room="r", seq=1, data={"text": "hi"}, **{"from": "ann"})
    assert ack == {
        "type": "ack",
        "room": "r",
        "seq": 1,
        "log": joined["position"]["log"],
        "message_id": message["id"],
        "duplicate": False,
    }
    assert message["log"] == ack["log"]  # the first one of a log names it

    await ann.ask("publish", room="r", data=None)
    assert set(await ann.expect("message", seq=2)) == {
        "type",
        "room",
        "seq",
        "id",
        "from",
        "data",
        "ts",
    }
    assert await ann.ask("leave", room="r") == {"type": "ack", "room": "r"}
    await ann.ask("publish", room="r", data="unheard")
    assert await ann.is_quiet()
    assert (await ann.ask("leave", room="r"))["code"] == "not_joined"


async def test_any_number_of_rooms_on_one_connection(serve: Serve) -> None:
    server = await serve()
    ann = await server.user("ann")
    rooms = [f"room-{number}" for number in range(20)]
    await ann.send(*({"type": "join", "room": room, "id": room} for room in rooms))
    for room in rooms:
        await ann.expect("joined", id=room, room=room)
    await ann.send(*({"type": "publish", "room": room, "data": room} for room in rooms))
    frames = [await ann.receive() for _ in range(2 * len(rooms))]
    heard = {frame["room"]: frame["data"] for frame in frames if frame["type"] == "message"}
    assert heard == {room: room for room in rooms}


async def test_too_many_rooms_are_refused_and_leaving_makes_place(serve: Serve) -> None:
    server = await serve(limits={"rooms_per_connection": 2})
    ann = await server.user("ann")
    for room in ("a", "b", "a", "@ann"):  # the personal room and a room again do not count
        assert (await ann.ask("join", room=room))["type"] == "joined"
    refused = await ann.ask("join", room="c")
    assert (refused["type"], refused["code"]) == ("error", "too_many_rooms")
    await ann.ask("leave", room="a")
    assert (await ann.ask("join", room="c"))["type"] == "joined"


async def test_a_server_with_all_its_rooms_open_opens_no_other(serve: Serve) -> None:
    server = await serve(limits={"rooms": 4})
    ann = await server.user("ann")
    for room in ("a", "b", "c"):
        assert (await ann.ask("join", room=room))["type"] == "joined"
    bob = await server.user("bob")  # into a room of his own, whatever the others do
    refused = await bob.ask("join", room="d")
    assert (refused["code"], refused["retry"]) == ("over_capacity", True)
    assert (await bob.ask("join", room="c"))["type"] == "joined"
    reader = await server.events("room=d&user=cleo")
    assert (await reader.rest())[-1].frame["code"] == 4100
    _, code, reason = await (await server.connect("/ws/rooms/d/cleo")).ending()
    assert (code, reason.partition(":")[0]) == (4100, "over_capacity")
    assert (await bob.ask("publish", room="d", data=1))["type"] == "ack"  # nobody need be in it
    await ann.close()
    await server.lost(1)
    assert (await bob.ask("join", room="d"))["type"] == "joined"


async def test_a_full_room_refuses_users_and_not_tabs(serve: Serve) -> None:
    server = await serve(rooms=[{"match": "full", "max_members": 1}])
    await server.member("ann", "full")
    await server.member("ann", "full")
    bob = await server.user("bob")
    assert (await bob.ask("join", room="full"))["code"] == "room_full"
    assert await bob.is_quiet()


async def test_commands_on_one_room_take_effect_in_the_order_sent(serve: Serve) -> None:
    server = await serve()
    ann = await server.user("ann")
    publish = {"type": "publish", "room": "r", "data": 1}
    await ann.send(
        {"type": "join", "room": "r", "id": 1},
        {**publish, "id": 2},
        {"type": "history", "room": "r", "id": 3},
        {"type": "leave", "room": "r", "id": 4},
        {**publish, "id": 5},
        {"type": "join", "room": "r", "id": 6},
    )
    frames = [await ann.receive() for _ in range(7)]
    replies = [frame for frame in frames if frame["type"] != "message"]
    (message,) = [frame for frame in frames if frame["type"] == "message"]
    assert [reply["id"] for reply in replies] == [1, 2, 3, 4, 5, 6]
    assert message["seq"] == 1  # of the publish right behind the join, and not of the later one
    assert [past["seq"] for past in replies[2]["messages"]] == [1]
    assert replies[4]["seq"] == 2
    assert replies[5]["position"]["seq"] == 2
    assert frames.index(replies[0]) < frames.index(message) < frames.index(replies[3])
    assert await ann.is_quiet()


# Behind a command that has to wait, as with a store that is slow to answer


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Rooms are opened once this is set, as it is at first."""
    gate, subscribe = asyncio.Event(), MemoryBroker.subscribe
    gate.set()

    async def slow(broker: MemoryBroker, room: RoomId, keep: Retention) -> None:
        await gate.wait()
        await subscribe(broker, room, keep)

    monkeypatch.setattr(MemoryBroker, "subscribe", slow)
    return gate


async def test_what_waits_behind_a_join_counts_when_it_comes(
    serve: Serve, store: asyncio.Event
) -> None:
    server = await serve(limits={"messages_per_second": 0.1, "messages_burst": 3})
    ann = await server.user("ann")
    store.clear()
    await ann.send({"type": "join", "room": "r", "id": "join"})
    for number in range(5):
        await ann.send({"type": "publish", "room": "r", "data": 1, "echo": False, "id": number})
    for number in (3, 4):
        await ann.expect("error", id=number, code="rate_limited")
    store.set()
    await ann.expect("joined", id="join")
    for number in range(3):
        await ann.expect("ack", id=number, seq=number + 1)
    assert await ann.is_quiet()


@pytest.mark.parametrize("data", ["x" * 50_000, "ä" * 25_000], ids=["ASCII", "not ASCII"])
async def test_only_so_many_bytes_of_a_connection_wait(
    serve: Serve, store: asyncio.Event, data: str
) -> None:
    server = await serve()
    ann = await server.user("ann")
    store.clear()
    large = {"type": "publish", "data": data, "echo": False}
    for number in range(30):
        room = f"r{number}"
        await ann.send({"type": "join", "room": room})
        await ann.send_raw(json.dumps({**large, "room": room, "id": number}, ensure_ascii=False))
    for number in range(20, 30):
        await ann.expect("error", id=number, code="rate_limited", retry=True)
    store.set()
    kinds = [(await ann.receive())["type"] for _ in range(30 + 20)]
    assert (kinds.count("joined"), kinds.count("ack")) == (30, 20)
    assert await ann.is_quiet()


async def test_what_waits_when_the_session_ends_is_not_published(
    serve: Serve, store: asyncio.Event
) -> None:
    server = await serve()
    ann = await server.user("ann")
    bob = await server.user("bob")
    store.clear()
    await ann.send({"type": "join", "room": "r"}, {"type": "publish", "room": "r", "data": 1})
    assert await ann.is_quiet()  # both have arrived
    await server.container.control().give(Block(UserId("ann"), time.time() + 60))
    store.set()
    assert (await ann.ending())[1] == 4003
    assert (await bob.ask("join", room="r", history=10))["messages"] == []


async def test_no_room_s_name_gets_behind_a_token(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve(**JWT)
    ann = await server.connect(f"/v1/ws?token={token('ann')}")
    await ann.expect("connected")
    await ann.expect("joined")
    gate = asyncio.Event()

    async def slow(refresh: RefreshToken, session: Session, given: str) -> float | None:
        await gate.wait()
        return None

    monkeypatch.setattr(RefreshToken, "__call__", slow)
    await ann.send({"type": "auth", "token": "x", "id": "auth"})
    assert (await ann.ask("publish", room="a token", data=1))["code"] == "bad_name"
    gate.set()
    await ann.expect("ack", id="auth")


# Publishing


async def test_publishing_needs_no_membership(serve: Serve) -> None:
    server = await serve()
    ann, _ = await server.member("ann", "r")
    bob = await server.user("bob")
    assert (await bob.ask("publish", room="r", data="from outside"))["seq"] == 1
    await ann.expect("message", data="from outside", **{"from": "bob"})
    assert await bob.is_quiet()


async def test_rooms_may_reserve_publishing(serve: Serve) -> None:
    server = await serve(
        rooms=[
            {"match": "members", "publish": "members"},
            {"match": "backend", "publish": "backend"},
        ]
    )
    ann = await server.user("ann")
    assert (await ann.ask("publish", room="members", data=1))["code"] == "not_joined"
    await ann.ask("join", room="members")
    assert (await ann.ask("publish", room="members", data=1))["type"] == "ack"
    await ann.ask("join", room="backend")
    assert (await ann.ask("publish", room="backend", data=1))["code"] == "not_granted"


async def test_every_member_gets_every_message_in_one_order(serve: Serve) -> None:
    server = await serve()
    peers = [(await server.member(f"user-{number}", "r"))[0] for number in range(5)]

    async def publish(number: int, peer: Peer) -> None:
        await peer.send(*({"type": "publish", "room": "r", "data": [number, i]} for i in range(20)))

    async def heard(peer: Peer) -> list[Frame]:
        found: list[Frame] = []
        while len(found) < 100:
            frame = await peer.receive()
            if frame["type"] == "message":
                found.append({name: frame.get(name) for name in ("seq", "id", "from", "data")})
        return found

    await asyncio.gather(*(publish(*pair) for pair in enumerate(peers)))
    first, *others = await asyncio.gather(*map(heard, peers))
    assert [message["seq"] for message in first] == list(range(1, 101))
    assert all(other == first for other in others)
    for number in range(5):
        own = [i for sender, i in (message["data"] for message in first) if sender == number]
        assert own == list(range(20))  # each connection's in the order it sent them


async def test_without_echo_only_the_others_hear_it(serve: Serve) -> None:
    server = await serve()
    ann, _ = await server.member("ann", "r")
    tab, _ = await server.member("ann", "r")
    bob, _ = await server.member("bob", "r")
    await ann.expect("join", user="bob")
    await tab.expect("join", user="bob")
    ack = await ann.ask("publish", room="r", data="x", echo=False)
    for peer in (tab, bob):
        await peer.expect("message", data="x", seq=1, id=ack["message_id"])
    assert await ann.is_quiet()
    await bob.ask("publish", room="r", data="y")
    await ann.expect("message", data="y", seq=2)


async def test_ephemeral_messages_leave_no_trace(serve: Serve) -> None:
    server = await serve()
    ann, _ = await server.member("ann", "r")
    bob, _ = await server.member("bob", "r")
    await ann.expect("join", user="bob")
    ack = await ann.ask("publish", room="r", data={"typing": True}, ephemeral=True)
    assert ack == {"type": "ack", "room": "r", "ephemeral": True}
    for peer in (ann, bob):
        frame = await peer.receive()
        assert frame.pop("ts") > 0
        assert frame == {
            "type": "message",
            "room": "r",
            "ephemeral": True,
            "from": "ann",
            "data": {"typing": True},
        }
    await ann.ask("publish", room="r", data=1, ephemeral=True, echo=False)
    await bob.expect("message", data=1, ephemeral=True)
    assert await ann.is_quiet()
    history = await bob.ask("history", room="r")
    assert history["messages"] == []
    assert (await bob.ask("publish", room="r", data=2))["seq"] == 1


async def test_a_key_makes_a_message_once(serve: Serve) -> None:
    server = await serve()
    ann, _ = await server.member("ann", "r")
    bob, _ = await server.member("bob", "r")
    acks = [await bob.ask("publish", room="r", data={"a": 1, "b": 2}, key="k") for _ in range(3)]
    assert [ack.pop("duplicate") for ack in acks] == [False, True, True]
    assert acks[0] == acks[1] == acks[2]
    await ann.expect("join", user="bob")
    await ann.expect("message", seq=1, id=acks[0]["message_id"])
    assert await ann.is_quiet()

    conflict = await bob.ask("publish", room="r", data={"a": 2}, key="k")
    assert (conflict["code"], conflict["retry"]) == ("key_conflict", False)
    # A key is one user's, in one room.
    assert not (await ann.ask("publish", room="r", data=0, key="k"))["duplicate"]
    assert not (await bob.ask("publish", room="s", data=0, key="k"))["duplicate"]
    again = await server.user("bob")
    assert (await again.ask("publish", room="r", data={"a": 1, "b": 2}, key="k"))["duplicate"]


async def test_a_retry_with_echo_false_brings_no_message_either(serve: Serve) -> None:
    server = await serve()
    ann, _ = await server.member("ann", "r")
    for duplicate in (False, True):
        ack = await ann.ask("publish", room="r", data=1, key="k", echo=False)
        assert ack["duplicate"] is duplicate
    assert await ann.is_quiet()


async def test_data_arrives_as_it_was(serve: Serve) -> None:
    server = await serve()
    ann, _ = await server.member("ann", "r")
    values: list[object] = [
        *(None, 0, -1.5, 2**63, 10**300, "", [], {}),
        '\u2028 line\nbreak \x00 "quoted" \\ 🎈 ü',
        {"": {"nested": [[[]]]}, "type": "error", "room": "other"},
        {"a" * 1000: "b" * 10_000},
    ]
    for value in values:
        await ann.ask("publish", room="r", data=value)
        await ann.expect("message", data=value)
    history = await ann.ask("history", room="r")
    assert [message["data"] for message in history["messages"]] == values


async def test_of_duplicate_keys_the_last_counts(serve: Serve) -> None:
    server = await serve()
    ann, _ = await server.member("ann", "r")
    await ann.send_raw('{"type":"publish","room":"r","data":{"a":1,"a":2}}')
    texts = [str(await ann.receive_raw()) for _ in range(2)]
    assert [text for text in texts if '"data":{"a":2}' in text]


# Errors of one are nobody else's


async def test_rate_limits_answer_with_the_wait_and_leave_others_alone(serve: Serve) -> None:
    limits = {"messages_per_second": 0.1, "messages_burst": 3}
    server = await serve(limits=limits)
    ann, _ = await server.member("ann", "r")
    bob, _ = await server.member("bob", "r")
    await ann.expect("join", user="bob")
    replies = [await ann.ask("publish", room="r", data=i, echo=False) for i in range(6)]
    assert [reply["type"] for reply in replies] == ["ack"] * 3 + ["error"] * 3
    for reply in replies[3:]:
        assert (reply["code"], reply["retry"]) == ("rate_limited", True)
        assert 0 < reply["retry_after"] <= 10
    assert await ann.is_quiet()  # other commands are counted apart
    assert (await bob.ask("publish", room="r", data="mine", echo=False))["seq"] == 4
    for seq in (1, 2, 3):
        await bob.expect("message", seq=seq)
    assert await bob.is_quiet()


async def test_other_commands_have_a_limit_of_their_own(serve: Serve) -> None:
    server = await serve(limits={"commands_per_second": 0.1, "commands_burst": 3})
    ann = await server.user("ann")
    kinds = [(await ann.ask("ping"))["type"] for _ in range(5)]
    assert kinds == ["pong"] * 3 + ["error"] * 2
    assert (await ann.ask("publish", room="r", data=1))["type"] == "ack"


async def test_rubbish_counts_as_commands(serve: Serve) -> None:
    server = await serve(limits={"commands_per_second": 0.1, "commands_burst": 3})
    ann = await server.user("ann")
    await ann.send_raw("{")
    await ann.send_raw(b"binary")
    await ann.send_raw("x" * 70_000)
    await ann.send_raw("{")
    codes = [(await ann.expect("error"))["code"] for _ in range(4)]
    assert codes == ["bad_frame", "bad_frame", "message_too_large", "rate_limited"]


async def test_a_room_may_have_a_rate_of_its_own(serve: Serve) -> None:
    server = await serve(rooms=[{"match": "slow", "rate": 0.1}])
    ann = await server.user("ann")
    bob = await server.user("bob")
    await ann.ask("publish", room="slow", data=1)
    refused = await bob.ask("publish", room="slow", data=2)
    assert refused["code"] == "rate_limited"
    assert 0 < refused["retry_after"] <= 10
    assert (await ann.ask("publish", room="fast", data=3))["type"] == "ack"


@pytest.mark.parametrize("rate", [0.1, 1, 100])
async def test_who_ignores_the_limit_is_cut(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    monkeypatch.setattr("domain.throttle.PATIENCE", 0.7)
    server = await serve(limits={"commands_per_second": rate, "commands_burst": 1})
    ann = await server.user("ann")
    bob = await server.user("bob")

    async def flood() -> None:
        while server.sessions() == 2:
            await ann.send({"type": "ping"})
            await asyncio.sleep(0)  # a send does not wait by itself

    async with asyncio.timeout(20):
        flooding = asyncio.gather(flood(), return_exceptions=True)
        frames, code, _ = await ann.ending()
        await flooding
    assert code == 4104
    assert {frame.get("code", "pong") for frame in frames[:-1]} == {"rate_limited", "pong"}
    assert frames[-1]["type"] == "disconnect"
    assert await bob.is_quiet()
