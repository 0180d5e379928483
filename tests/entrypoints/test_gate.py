"""Who gets in: tokens at every door, origins, capacity."""

import asyncio
import base64
import time
from contextlib import suppress
from http import HTTPStatus

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from domain.identifiers import UserId
from domain.orders import Block, RevokeTokens
from entrypoints.settings import SettingsError, load_settings
from tests.peer import Peer, until
from tests.running_server import DOORS, RunningServer, Serve
from tests.server_process import ServeProcess
from tests.tokens import BAD_TOKENS, JWT, SECRET, token

DOORS_WITH_FIRST_FRAME = [door for door in DOORS if door != "/ws/secure"]


async def works(peer: Peer, door: str) -> bool:
    """Whether the connection got past the gate: it is answered."""
    if door == "/ws/binary":
        await peer.send_raw(b"data")
        return await peer.receive_raw() == b"data"
    if door == "/v1/ws":
        await peer.expect("connected", user_id="ann")
        await peer.expect("joined", room="@ann")
        return await peer.is_quiet()
    await peer.send({"text": "hello"})
    while "hello" not in str(await peer.receive()):
        pass
    return True


async def refusal(peer: Peer, door: str) -> tuple[int | None, str]:
    """Code of the close and first word of its reason. Nothing comes before it, but at the main
    door the frame that says the same."""
    frames, code, reason = await peer.ending()
    if door == "/v1/ws":
        assert frames == [{"type": "disconnect", "code": code, "reason": reason}]
    else:
        assert frames == []
    return code, reason.partition(":")[0]


# Tokens


@pytest.mark.parametrize("door", DOORS)
async def test_no_door_opens_without_a_good_token(serve: Serve, door: str) -> None:
    server = await serve(**JWT, limits={"auth_timeout": 0.05})
    for kind, (make, reason) in BAD_TOKENS.items():
        peer = await server.connect(f"{door}?token={make('ann')}")
        assert await refusal(peer, door) == (4001, reason), kind
    peer = await server.connect(door)
    assert await refusal(peer, door) == (4001, "token_missing")
    peer = await server.connect(f"{door}?user=ann")
    assert await refusal(peer, door) == (4001, "token_missing")
    assert server.metric("sessions_opened_total") == 0

    good = await server.connect(f"{door}?token={token('ann')}")
    assert await works(good, door)


@pytest.mark.parametrize("door", DOORS_WITH_FIRST_FRAME)
async def test_a_first_frame_may_bring_the_token(serve: Serve, door: str) -> None:
    server = await serve(**JWT)
    peer = await server.connect(door)
    await peer.send({"type": "auth", "token": token("ann")})
    assert await works(peer, door)
    for kind, (make, reason) in BAD_TOKENS.items():
        peer = await server.connect(door)
        await peer.send({"type": "auth", "token": make("ann")})
        assert await refusal(peer, door) == (4001, reason), kind


@pytest.mark.parametrize("door", DOORS_WITH_FIRST_FRAME)
async def test_no_other_frame_may_come_first(serve: Serve, door: str) -> None:
    server = await serve(**JWT)
    frames: list[str | bytes] = ['{"type":"ping"}', '{"type":"auth"}', "{", "", "[]", b"binary"]
    for frame in frames:
        peer = await server.connect(door)
        await peer.send_raw(frame)
        await peer.send({"type": "auth", "token": token("ann")})  # too late
        assert await refusal(peer, door) == (4001, "token_missing"), frame
    assert server.metric("sessions_opened_total") == 0


async def test_frames_behind_the_token_wait_for_it(serve: Serve) -> None:
    server = await serve(**JWT)
    peer = await server.connect("/v1/ws")
    await peer.send(
        {"type": "auth", "token": token("ann")},
        {"type": "join", "room": "r", "id": 1},
        {"type": "publish", "room": "r", "data": "x", "id": 2, "echo": False},
    )
    connected = await peer.expect("connected", user_id="ann")
    assert 590 < connected["expires_in"] <= 600
    await peer.expect("joined", room="@ann")
    await peer.expect("joined", id=1)
    await peer.expect("ack", id=2, seq=1)


async def test_who_brings_no_token_in_time_is_closed(serve: Serve) -> None:
    server = await serve(**JWT, limits={"auth_timeout": 0.05})
    peer = await server.connect("/v1/ws")
    assert await refusal(peer, "/v1/ws") == (4001, "token_missing")


async def test_a_token_may_come_as_a_subprotocol(serve: Serve) -> None:
    server = await serve(**JWT)
    for door in DOORS:
        offered = ["hubbub.v1", f"bearer.{token('ann')}"]
        peer = await server.connect(door, subprotocols=offered)
        assert peer.subprotocol == "hubbub.v1"
        assert await works(peer, door)
    alone = await server.connect("/ws", subprotocols=[f"bearer.{token('ann')}"])
    assert alone.subprotocol is None
    assert await works(alone, "/ws")


async def test_a_token_may_come_in_a_header(serve: Serve) -> None:
    server = await serve(**JWT)
    for kind in ("Bearer", "bearer"):
        header = {"Authorization": f"{kind} {token('ann')}"}
        peer = await server.connect("/ws/secure", additional_headers=header)
        assert await works(peer, "/ws/secure")
    basic = base64.b64encode(b"ann:password").decode()
    peer = await server.connect(
        "/ws/secure", additional_headers={"Authorization": f"Basic {basic}"}
    )
    assert await refusal(peer, "/ws/secure") == (4001, "token_missing")


async def test_of_several_tokens_the_subprotocol_counts_then_the_header(serve: Serve) -> None:
    server = await serve(**JWT)
    bad = token("ann", -60)
    header = {"Authorization": f"Bearer {token('ann')}"}
    peer = await server.connect(f"/ws/secure?token={bad}", additional_headers=header)
    assert await works(peer, "/ws/secure")
    peer = await server.connect(
        f"/ws/secure?token={token('ann')}",
        additional_headers=header,
        subprotocols=["hubbub.v1", f"bearer.{bad}"],
    )
    assert await refusal(peer, "/ws/secure") == (4001, "token_expired")


async def test_the_subprotocol_is_selected_without_a_token_too(serve: Serve) -> None:
    server = await serve()
    peer = await server.connect("/v1/ws?user=ann", subprotocols=["other", "hubbub.v1"])
    assert peer.subprotocol == "hubbub.v1"
    peer = await server.connect("/v1/ws?user=ann", subprotocols=["other"])
    assert peer.subprotocol is None


@pytest.mark.parametrize(
    "door", ["/ws/bob", "/ws/rooms/r/bob", "/ws/scalable/bob", "/ws/heartbeat/bob"]
)
async def test_the_user_in_the_path_is_the_tokens(serve: Serve, door: str) -> None:
    server = await serve(**JWT)
    peer = await server.connect(f"{door}?token={token('ann')}")
    assert await refusal(peer, door) == (4003, "forbidden")
    peer = await server.connect(door)
    await peer.send({"type": "auth", "token": token("ann")})
    assert await refusal(peer, door) == (4003, "forbidden")
    assert server.metric("sessions_opened_total") == 0


async def test_the_main_door_takes_the_user_from_the_token(serve: Serve) -> None:
    server = await serve(**JWT)
    peer = await server.connect(f"/v1/ws?user=bob&token={token('ann')}")
    assert await works(peer, "/v1/ws")


@pytest.mark.parametrize("actions", [[], ["join"], ["publish"], ["join", "history", "members"]])
async def test_room_doors_need_join_and_publish(serve: Serve, actions: list[str]) -> None:
    server = await serve(**JWT)
    for door, room in (
        ("/ws/rooms/r/ann", "r"),
        ("/ws/ann", "lobby"),
        ("/ws/scalable/ann", "chat:global"),
    ):
        lacking = token("ann", rooms={room: actions, "other": ["join", "publish"]})
        peer = await server.connect(f"{door}?token={lacking}")
        assert await refusal(peer, door) == (4003, "not_granted")
        enough = token("ann", rooms={room: ["join", "publish"]})
        peer = await server.connect(f"{door}?token={enough}")
        assert await works(peer, door)


async def test_doors_without_rooms_need_no_grants(serve: Serve) -> None:
    server = await serve(**JWT)
    for door in ("/v1/ws", "/ws", "/ws/binary", "/ws/secure", "/ws/heartbeat/ann"):
        peer = await server.connect(f"{door}?token={token('ann', rooms={})}")
        assert await works(peer, door)


async def test_commands_need_their_grant(serve: Serve) -> None:
    server = await serve(**JWT)
    rooms = {
        "join": ["join"],
        "publish": ["publish"],
        "history": ["history"],
        "members": ["members"],
    }
    ann = await server.connect(f"/v1/ws?token={token('ann', rooms=rooms)}")
    assert await works(ann, "/v1/ws")
    for room in rooms:
        for command in rooms:
            reply = await ann.ask(command, room=room, data=1, echo=False)
            granted = room == command
            assert (reply.get("code") != "not_granted") is granted, (command, room, reply)
    reply = await ann.ask("join", room="join", history=1)
    assert reply["code"] == "not_granted"  # what was said before takes the grant `history`


async def test_publishing_to_a_personal_room_takes_a_grant_for_it(serve: Serve) -> None:
    server = await serve(**JWT)
    bob = await server.connect(f"/v1/ws?token={token('bob')}")
    await bob.expect("connected", user_id="bob")
    await bob.expect("joined", room="@bob")
    for rooms, granted in (
        (None, False),
        ({"*": ["join", "publish", "history", "members", "manage"]}, False),
        ({"@*": ["publish"]}, True),
        ({"@bob": ["publish", "join"]}, True),
    ):
        further = {} if rooms is None else {"rooms": rooms}
        ann = await server.connect(f"/v1/ws?token={token('ann', **further)}")
        assert await works(ann, "/v1/ws")
        reply = await ann.ask("publish", room="@bob", data=str(rooms))
        assert (reply["type"] == "ack") is granted, rooms
        if granted:
            await bob.expect("message", data=str(rooms))
        assert (await ann.ask("join", room="@bob"))["code"] == "not_granted"


async def test_info_of_the_token_is_shown_to_others(serve: Serve) -> None:
    server = await serve(**JWT)
    ann = await server.connect(f"/v1/ws?token={token('ann', info={'name': 'Ann ü'})}")
    assert await works(ann, "/v1/ws")
    await ann.ask("join", room="r")
    bob = await server.connect(f"/v1/ws?token={token('bob', info=['b'])}")
    await bob.expect("connected")
    await bob.expect("joined")
    joined = await bob.ask("join", room="r")
    assert [member["info"] for member in joined["members"]] == [{"name": "Ann ü"}, ["b"]]
    await ann.expect("join", user="bob", info=["b"])


# Tokens stay secret


def canaries() -> list[str]:
    """Tokens in all states; none of their parts may be found anywhere."""
    return [token("ann"), *(make("ann") for make, _ in BAD_TOKENS.values())]


async def show_everywhere(url: str, canary: str) -> None:
    """Hand a token in at every place there is, and at places where there is none."""
    for door in DOORS:
        for options in (
            {"url": f"{url}{door}?token={canary}"},
            {"url": f"{url}{door}?x=1&token={canary}&y=2"},
            {"url": url + door, "subprotocols": ["hubbub.v1", f"bearer.{canary}"]},
            {"url": url + door, "additional_headers": {"Authorization": f"Bearer {canary}"}},
        ):
            peer = await Peer.connect(**options)
            await peer.close()
        peer = await Peer.connect(url + door)
        with suppress(ConnectionClosed):
            await peer.send({"type": "auth", "token": canary}, {"type": "auth", "token": canary})
        await peer.close()
    for path in (f"/nowhere?token={canary}", f"/ws/a/b/c?token={canary}"):
        peer = await Peer.connect(url + path)
        assert (await peer.closed())[0] == 4000


def traces(text: str, canary: str) -> list[str]:
    return [part for part in canary.split(".") if len(part) > 8 and part in text]


async def test_tokens_are_in_no_log(serve: Serve) -> None:
    server = await serve(**JWT, log_level="debug")
    shown = canaries()
    for canary in shown:
        await show_everywhere(server.ws_url, canary)
        await server.get(f"/healthz?token={canary}", headers={"Authorization": f"Bearer {canary}"})
    assert server.log.lines
    assert [trace for canary in shown for trace in traces(server.log.text, canary)] == []
    assert "canary" not in server.log.text


@pytest.mark.parametrize("log_format", ["console", "json"])
async def test_tokens_are_not_in_what_a_process_writes(
    serve_process: ServeProcess, log_format: str
) -> None:
    process = await serve_process(
        *("--log-level", "debug", "--log-format", log_format),
        HUBBUB_AUTH__MODE="jwt",
        HUBBUB_AUTH__HMAC_SECRET=SECRET,
    )
    shown = canaries()
    for canary in shown:
        await show_everywhere(process.ws_url, canary)
    await process.stop()
    assert "Application startup complete" in process.stderr
    assert [trace for canary in shown for trace in traces(process.stderr, canary)] == []
    assert "canary" not in process.stderr
    assert SECRET not in process.stderr


# Exclusions


@pytest.mark.parametrize("door", DOORS)
async def test_a_revoked_token_is_refused_and_a_newer_one_is_not(serve: Serve, door: str) -> None:
    server = await serve(**JWT)
    await server.container.control().give(RevokeTokens(UserId("ann"), time.time()))
    stale = await server.connect(f"{door}?token={token('ann', iat=time.time() - 60)}")
    assert await refusal(stale, door) == (4001, "token_revoked")
    fresh = await server.connect(f"{door}?token={token('ann', iat=time.time() + 1)}")
    assert await works(fresh, door)


@pytest.mark.parametrize("door", ["/v1/ws?user=ann", "/ws/ann", "/ws/rooms/r/ann"])
async def test_a_blocked_user_is_refused_in_open_mode_as_well(serve: Serve, door: str) -> None:
    server = await serve()
    await server.container.control().give(Block(UserId("ann"), time.time() + 60))
    assert await refusal(await server.connect(door), door.partition("?")[0]) == (4003, "forbidden")


# Origins


async def status(server: RunningServer, *origins: str, door: str = "/v1/ws") -> int:
    """101 when a page of these origins gets in (and what it came for), else the HTTP status."""
    headers = [("Origin", origin) for origin in origins]
    try:
        peer = await server.connect(door, additional_headers=headers)
    except InvalidStatus as refused:
        return refused.response.status_code
    await peer.close()
    return HTTPStatus.SWITCHING_PROTOCOLS


async def test_in_open_mode_pages_of_this_machine_get_in(serve: Serve) -> None:
    server = await serve()
    own = f"http://127.0.0.1:{server.port}"
    for origin in (own, "http://localhost", "http://localhost:3000", "http://127.0.0.1:5173"):
        assert await status(server, origin) == 101, origin
    assert await status(server) == 101  # no browser
    for origin in (
        "https://example.com",
        "null",
        "",
        "http://localhost.evil.example",
        "http://evil-localhost",
        "http://127.0.0.1.evil.example:80",
        "https://localhost",
        "http://localhost@evil.example",
        "file://",
        "http://[::1]",
    ):
        assert await status(server, origin) == 403, origin


async def test_in_jwt_mode_only_the_own_origin_gets_in(serve: Serve) -> None:
    server = await serve(**JWT)
    assert await status(server, f"http://127.0.0.1:{server.port}") == 101
    for origin in ("http://localhost:3000", "http://127.0.0.1:1", "null", "https://example.com"):
        assert await status(server, origin) == 403, origin


async def test_listed_origins_get_in_and_nothing_that_looks_like_them(serve: Serve) -> None:
    server = await serve(**JWT, origins=["https://example.com", "http://intra:8080"])
    for origin in ("https://example.com", "https://example.com:443", "http://intra:8080"):
        assert await status(server, origin) == 101, origin
    for origin in (
        "https://example.com.evil.example",
        "https://evil-example.com",
        "https://sub.example.com",
        "http://example.com",
        "https://example.com:8443",
        "https://example.com/",
        "https://example.com evil",
        "http://intra",
        "null",
    ):
        assert await status(server, origin) == 403, origin


async def test_a_star_lets_every_page_in_but_null(serve: Serve) -> None:
    server = await serve(origins=["*"])
    assert await status(server, "https://anything.example:1234") == 101
    assert await status(server, "null") == 403
    server = await serve(origins=["*", "null"])
    assert await status(server, "null") == 101


async def test_two_origins_are_none(serve: Serve) -> None:
    server = await serve(origins=["https://example.com"])
    for origins in (
        ("https://example.com", "https://evil.example"),
        ("https://evil.example", "https://example.com"),
    ):
        assert await status(server, *origins) in (403, 400)  # 400: another server saw it first


@pytest.mark.parametrize("door", DOORS)
async def test_a_bad_origin_is_refused_before_the_upgrade_at_every_door(
    serve: Serve, door: str
) -> None:
    server = await serve()
    assert await status(server, "https://evil.example", door=door) == 403
    assert server.metric("sessions_opened_total") == 0
    assert "https://evil.example" in server.log.text
    assert "HUBBUB_ORIGINS" in server.log.text


# Capacity


@pytest.mark.parametrize("door", ["/v1/ws", "/ws", "/ws/rooms/r/x"])
async def test_a_full_server_says_so_before_the_upgrade(serve: Serve, door: str) -> None:
    server = await serve(limits={"connections": 2})
    first = await server.user("first")
    second = await server.user("second")
    with pytest.raises(InvalidStatus) as refused:
        await server.connect(door)
    response = refused.value.response
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert await first.is_quiet()
    await second.close()
    await server.lost(1)
    assert await (await server.user("third")).is_quiet()


@pytest.mark.parametrize("limit", ["connections", "unauthenticated"])
async def test_who_has_yet_to_show_a_token_takes_a_place(serve: Serve, limit: str) -> None:
    server = await serve(**JWT, limits={limit: 2})
    waiting = [await server.connect("/v1/ws") for _ in range(2)]
    assert await status(server) == 503
    await asyncio.gather(*(peer.close() for peer in waiting))
    await until(lambda: not server.connections())
    assert await status(server) == 101


async def test_a_user_has_so_many_connections(serve: Serve) -> None:
    server = await serve(limits={"connections_per_user": 2})
    first = await server.user("ann")
    await server.connect("/ws/rooms/r/ann")
    third = await server.connect("/v1/ws?user=ann")
    assert await refusal(third, "/v1/ws") == (4100, "over_capacity")
    lobby = await server.connect("/ws/ann")
    assert await refusal(lobby, "/ws/ann") == (4100, "over_capacity")
    assert await first.is_quiet()
    assert await (await server.user("bob")).is_quiet()
    await first.close()
    await server.lost(2)
    assert await (await server.user("ann")).is_quiet()


async def test_an_address_has_so_many_connections_and_this_machine_any(serve: Serve) -> None:
    server = await serve(limits={"connections_per_address": 1})
    for _ in range(3):
        await server.connect("/ws")  # from this machine
    behind_a_proxy = {"X-Forwarded-For": "192.0.2.7"}  # whoever it is, it is not this machine
    await server.connect("/ws", additional_headers=behind_a_proxy)
    with pytest.raises(InvalidStatus) as refused:
        await server.connect("/ws", additional_headers=behind_a_proxy)
    assert refused.value.response.status_code == 503
    await server.connect("/ws")


# Settings


def test_open_mode_stays_on_this_machine() -> None:
    with pytest.raises(SettingsError, match="HUBBUB_AUTH__MODE=jwt"):
        load_settings({"HUBBUB_HOST": "0.0.0.0"}, None, {})
    for host in ("192.0.2.1", "::", "example.com"):
        with pytest.raises(SettingsError, match="allow-anonymous"):
            load_settings({"HUBBUB_HOST": host}, None, {})
    assert load_settings({"HUBBUB_HOST": "::1"}, None, {}).host == "::1"
    assert load_settings({"HUBBUB_HOST": "0.0.0.0"}, None, {"allow_anonymous": True}).host
