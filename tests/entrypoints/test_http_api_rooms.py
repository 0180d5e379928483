"""Rooms over HTTP: which there are, how they are set, who is in them, and putting people in."""

from typing import Any

import pytest

from tests.api import WITH_A_KEY, Api
from tests.peer import Peer
from tests.running_server import RunningServer, Serve
from tests.tokens import JWT, token


async def holder(server: RunningServer, user: str, **claims: object) -> Peer:
    """A user at the main door of a server that asks for tokens, past the greeting."""
    peer = await server.connect(f"/v1/ws?token={token(user, **claims)}")
    await peer.expect("connected", user_id=user)
    await peer.expect("joined", room=f"@{user}")
    return peer


# Looking


async def test_rooms_page_by_page(serve: Serve) -> None:
    server = await serve(rooms=[{"match": "quiet:*", "presence": "off"}])
    api = Api(server, None)
    ann = await server.user("ann")
    for room in ("chat:2", "chat:1", "news", "quiet:x"):
        await ann.ask("join", room=room)
    bob, _ = await server.member("bob", "news")
    entries = [
        {"room": "chat:1", "count": 1},
        {"room": "chat:2", "count": 1},
        {"room": "news", "count": 2},
        {"room": "quiet:x", "count": None},
    ]
    assert await api("GET", "/v1/rooms") == {"rooms": entries, "more": False}
    first = await api("GET", "/v1/rooms?limit=3")
    assert first == {"rooms": entries[:3], "more": True}
    assert await api("GET", "/v1/rooms?after=news") == {"rooms": entries[3:], "more": False}
    assert await api("GET", "/v1/rooms?prefix=chat:") == {"rooms": entries[:2], "more": False}
    await bob.ask("leave", room="news")
    assert (await api("GET", "/v1/rooms?prefix=news"))["rooms"][0]["count"] == 1


async def test_options_in_force(serve: Serve) -> None:
    rule = {
        "match": "chat:*",
        "history_size": 7,
        "history_ttl": 60,
        "presence": "count",
        "presence_limit": 9,
        "publish": "members",
        "max_members": 3,
        "rate": 2.5,
        "conflate": True,
    }
    api = Api(await serve(rooms=[rule]), None)
    answer = await api("GET", "/v1/rooms/chat:1")
    del rule["match"]
    assert answer == {"room": "chat:1", "options": rule}
    assert (await api("GET", "/v1/rooms/news"))["options"]["max_members"] is None
    assert (await api("GET", "/v1/rooms/@ann"))["options"]["presence"] == "off"


async def test_members_and_their_number(serve: Serve) -> None:
    server = await serve(rooms=[{"match": "hall", "presence": "count"}])
    api = Api(server, None)
    for name in ("bob", "ann", "cleo"):
        peer, _ = await server.member(name, "tea")
        await peer.ask("join", room="hall")
    await server.member("ann", "tea")
    page = await api("GET", "/v1/rooms/tea/members?limit=2")
    assert page == {
        "room": "tea",
        "members": [
            {"user": "ann", "info": None, "sessions": 2},
            {"user": "bob", "info": None, "sessions": 1},
        ],
        "count": 3,
        "version": 3,
        "more": True,
    }
    page = await api("GET", "/v1/rooms/tea/members?after=bob")
    assert ([member["user"] for member in page["members"]], page["more"]) == (["cleo"], False)
    hall = await api("GET", "/v1/rooms/hall/members")
    assert (hall["members"], hall["count"]) == (None, 3)
    personal = await api.refusal("GET", "/v1/rooms/@ann/members")
    assert personal == (403, "not_granted")


# Putting in and taking out


async def test_a_user_is_put_into_a_room_and_taken_out(serve: Serve) -> None:
    server = await serve(**JWT, **WITH_A_KEY)
    api = Api(server)
    ann = await holder(server, "ann", rooms={})
    assert (await ann.ask("join", room="tea"))["code"] == "not_granted"
    assert await api("PUT", "/v1/rooms/tea/members/ann") == {"ordered": "enter"}
    joined = await ann.expect("joined", room="tea", count=1)
    assert "id" not in joined
    assert joined["members"] == [{"user": "ann", "info": None, "sessions": 1}]
    await api("POST", "/v1/rooms/tea/messages", {"data": "hi"})
    await ann.expect("message", room="tea", data="hi")
    answer = await api("DELETE", "/v1/rooms/tea/members/ann?reason=be%20nice")
    assert answer == {"ordered": "kick"}
    await ann.expect("removed", room="tea", code="kicked", reason="be nice")
    assert (await ann.ask("join", room="tea"))["code"] == "not_granted"
    assert await ann.is_quiet()


async def test_putting_in_and_commands_of_the_client_keep_their_order(serve: Serve) -> None:
    server = await serve()
    api = Api(server, None)
    ann = await server.user("ann")
    await api("PUT", "/v1/rooms/tea/members/ann")
    assert (await ann.ask("join", room="tea", history=5))["type"] == "joined"
    await ann.expect("joined", room="tea")
    await api("PUT", "/v1/rooms/tea/members/ann")  # who is in is in
    assert await ann.is_quiet()
    assert (await ann.ask("leave", room="tea"))["type"] == "ack"
    assert server.metric("rooms") == 1  # her own


async def test_doors_into_one_room_are_not_led_into_another(serve: Serve) -> None:
    server = await serve()
    api = Api(server, None)
    ann = await server.connect("/ws/rooms/tea/ann")
    echo = await server.connect("/ws")
    await api("PUT", "/v1/rooms/news/members/ann")
    await ann.send({"text": "hello"})
    await ann.expect("message", text="hello")
    await echo.send(1)
    assert (await echo.receive())["echo"] == 1
    await api("DELETE", "/v1/rooms/tea/members/ann?reason=out")
    assert await ann.closed() == (4003, "out")


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_personal_rooms_have_their_one_member(serve: Serve, method: str) -> None:
    api = Api(await serve(), None)
    assert await api.refusal(method, "/v1/rooms/@ann/members/bob") == (403, "forbidden")


async def test_a_moderator_needs_no_key(serve: Serve) -> None:
    server = await serve(**JWT)
    ann = await holder(server, "ann")
    await ann.ask("join", room="tea")
    moderator = Api(server, token("mod", rooms={"tea": ["manage"]}))
    await moderator("DELETE", "/v1/rooms/tea/members/ann")
    await ann.expect("removed", room="tea", code="kicked")
    other: Any = ("DELETE", "/v1/rooms/news/members/ann")
    assert await moderator.refusal(*other) == (403, "not_granted")
    assert await Api(server, token("bob")).refusal(*other) == (403, "not_granted")
