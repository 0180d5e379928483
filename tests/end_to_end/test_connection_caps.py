"""Connections are bounded: in all, for an address, for a user, and without a token."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from websockets.exceptions import InvalidStatus

from tests.peer import Peer, until
from tests.raw_client import RawClient
from tests.running_server import RunningServer, Serve
from tests.tokens import JWT, token

ECHO = "/ws"


async def status(server: RunningServer, path: str = ECHO, **headers: str) -> int:
    """101 for somebody who gets in, and goes again; otherwise the HTTP status of the refusal,
    which says when to come back if it is 503."""
    try:
        peer = await server.connect(path, additional_headers=named(headers))
    except InvalidStatus as refused:
        response = refused.response
        assert (response.status_code == 503) is ("Retry-After" in response.headers)
        assert int(response.headers.get("Retry-After", 1)) >= 1
        return response.status_code
    await peer.close()
    return 101


def named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


async def echoes(peer: Peer) -> bool:
    """Whether a connection at `/ws` still works."""
    await peer.send("here")
    return bool((await peer.receive())["echo"] == "here")


async def let_in(server: RunningServer, path: str = ECHO, **headers: str) -> None:
    """Wait until there is room for one more."""
    async with asyncio.timeout(20):
        while await status(server, path, **headers) != 101:  # noqa: ASYNC110  (nobody tells)
            await asyncio.sleep(0.01)


# In all


async def test_of_many_at_once_as_many_get_in_as_may(serve: Serve) -> None:
    server = await serve(limits={"connections": 5})
    doors = [ECHO, "/v1/ws", "/ws/binary", "/ws/rooms/r/ann", "/ws/heartbeat/ann"] * 4

    async def knock(door: str) -> int | Peer:
        try:
            return await server.connect(door)
        except InvalidStatus as refused:
            return refused.response.status_code

    answers = await asyncio.gather(*map(knock, doors))
    assert Counter(answer for answer in answers if isinstance(answer, int)) == {503: 15}
    assert server.sessions() == 5
    assert [await status(server, door) for door in doors[:5]] == [503] * 5


async def test_who_is_refused_takes_no_place(serve: Serve) -> None:
    server = await serve(limits={"connections": 2})
    first = await server.connect(ECHO)
    evil = {"Origin": "https://evil.example"}
    for _ in range(5):
        assert await status(server, **evil) == 403
    for _ in range(5):
        assert (await (await server.connect("/nowhere")).closed())[0] == 4000
    second = await server.connect(ECHO)
    for _ in range(5):
        assert await status(server) == 503
    await second.close()
    await let_in(server)
    assert await echoes(first)


async def test_requests_without_a_websocket_are_not_connections(serve: Serve) -> None:
    server = await serve(limits={"connections": 1})
    peer = await server.connect(ECHO)
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await server.get(path)).status_code == 200
    assert await echoes(peer)


# Whatever the end is, it makes room

End = Callable[[RunningServer], Awaitable[None]]


async def says_goodbye(server: RunningServer) -> None:
    await (await server.connect(ECHO)).close()


async def says_goodbye_with_a_code_of_its_own(server: RunningServer) -> None:
    await (await server.connect(ECHO)).close(4999)


async def vanishes(server: RunningServer) -> None:
    (await server.connect(ECHO)).vanish()


async def vanishes_in_the_middle_of_a_frame(server: RunningServer) -> None:
    peer = await server.connect(ECHO)
    peer.connection.transport.write(b"\x81\xfe")
    peer.vanish()


async def has_a_bad_name(server: RunningServer) -> None:
    _, code, _ = await (await server.connect("/ws/rooms/bad%20name/ann")).ending()
    assert code == 4000


async def has_no_good_token(server: RunningServer) -> None:
    assert (await (await server.connect("/ws/secure?token=x")).closed())[0] == 4001


async def is_too_large(server: RunningServer) -> None:
    peer = await server.connect(ECHO)
    await peer.send_raw("x" * (4 * server.settings.limits.frame_bytes + 1))
    assert (await peer.ending())[1] == 1009


async def is_no_websocket_any_more(server: RunningServer) -> None:
    peer = await server.connect(ECHO)
    peer.connection.transport.write(b"GET / HTTP/1.1\r\n\r\n")
    assert (await peer.ending())[1] == 1002


async def does_not_answer_pings(server: RunningServer) -> None:
    peer = await server.connect("/ws/heartbeat/ann")
    assert (await peer.ending())[1] == 4103


async def does_not_answer_the_close(server: RunningServer) -> None:
    """Turned away, and stays: until the deadline."""
    client = await RawClient.connect(server.port, "/ws/secure?token=x")
    try:
        await until(lambda: server.connections() == 1)
        await until(lambda: server.connections() == 0)
    finally:
        client.close()


ENDS = [
    says_goodbye,
    says_goodbye_with_a_code_of_its_own,
    vanishes,
    vanishes_in_the_middle_of_a_frame,
    has_a_bad_name,
    has_no_good_token,
    is_too_large,
    is_no_websocket_any_more,
    does_not_answer_pings,
    pytest.param(
        does_not_answer_the_close,
        marks=pytest.mark.lane_only("elsewhere it is the server that stops waiting"),
    ),
]


@pytest.mark.parametrize("end", ENDS)
async def test_every_end_makes_room(
    serve: Serve, end: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.transport.lane.CLOSE_DEADLINE", 0.2)
    server = await serve(limits={"connections": 1}, ping_interval=0.2, ping_timeout=0.1)
    for _ in range(2):
        await end(server)
        await let_in(server)
        await until(lambda: not server.connections())


# An address


async def test_an_address_behind_the_proxy_of_this_machine_is_counted(serve: Serve) -> None:
    server = await serve(limits={"connections_per_address": 2})
    ann = {"X-Forwarded-For": "192.0.2.1"}
    peers = [await server.connect(ECHO, additional_headers=ann) for _ in range(2)]
    for spelled in ("192.0.2.1", "192.0.2.1:4711", " 192.0.2.1 ", "198.51.100.9, 192.0.2.1"):
        assert await status(server, X_Forwarded_For=spelled) == 503, spelled
    for other in ("192.0.2.2", "2001:db8::1", "192.0.2.1, 198.51.100.9"):
        assert await status(server, X_Forwarded_For=other) == 101, other
    assert await status(server) == 101
    await peers[0].close()
    await let_in(server, X_Forwarded_For="192.0.2.1")
    assert await echoes(peers[1])


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Forwarded_For": "127.0.0.1"},
        {"X_Forwarded_For": "::1"},
        {"X_Forwarded_For": "unknown"},
        {"X_Forwarded_For": ""},
        {"Forwarded": "for=192.0.2.1"},
        {"X_Real_IP": "192.0.2.1"},
    ],
)
async def test_no_header_makes_anybody_this_machine(serve: Serve, headers: dict[str, str]) -> None:
    """Whoever is spoken for is counted, if only as one with everybody whose address is hidden."""
    server = await serve(limits={"connections_per_address": 1})
    await server.connect(ECHO, additional_headers=named(headers))
    assert await status(server, **headers) == 503
    assert await status(server) == 101


async def test_this_machine_may_have_any_number_up_to_the_total(serve: Serve) -> None:
    server = await serve(limits={"connections_per_address": 1, "connections": 10})
    for _ in range(10):
        await server.connect(ECHO)
    assert await status(server) == 503


async def test_every_end_makes_room_for_its_address(serve: Serve) -> None:
    server = await serve(limits={"connections_per_address": 1})
    ann = {"X-Forwarded-For": "192.0.2.1"}
    for vanishes in (True, False):
        peer = await server.connect(ECHO, additional_headers=ann)
        assert await status(server, X_Forwarded_For="192.0.2.1") == 503
        if vanishes:
            peer.vanish()
        else:
            await peer.close()
        await let_in(server, X_Forwarded_For="192.0.2.1")
    for path, expected in (("/ws/secure?token=x", 4001), ("/ws/rooms/bad%20name/ann", 4000)):
        peer = await server.connect(path, additional_headers=ann)
        assert (await peer.ending())[1] == expected
        await let_in(server, X_Forwarded_For="192.0.2.1")


# At once


async def test_of_a_crowd_as_many_get_in_at_once_as_may(serve: Serve) -> None:
    server = await serve(limits={"handshakes_per_second": 0.001, "handshakes_burst": 5})
    crowd = [f"192.0.2.{number}" for number in range(20)]
    found = await asyncio.gather(*(status(server, X_Forwarded_For=one) for one in crowd))
    assert Counter(found) == {101: 5, 503: 15}
    assert await status(server) == 101  # this machine, for itself
    ann = await server.connect("/ws")
    assert await echoes(ann)


async def test_who_comes_without_end_keeps_nobody_out(serve: Serve) -> None:
    server = await serve(limits={"handshakes_per_second": 0.001, "handshakes_burst": 12})
    greedy = [await status(server, X_Forwarded_For="192.0.2.1") for _ in range(20)]
    assert greedy == 3 * [101] + 17 * [503]
    others = [f"198.51.100.{number}" for number in range(9)]
    assert {await status(server, X_Forwarded_For=one) for one in others} == {101}
    assert await status(server, X_Forwarded_For="198.51.100.9") == 503
    assert server.metric("refused_connections_total", "address_rush") == 17
    assert server.metric("refused_connections_total", "rush") == 1


async def test_a_reader_that_comes_without_end_keeps_nobody_out(serve: Serve) -> None:
    server = await serve(limits={"handshakes_per_second": 0.001, "handshakes_burst": 12})
    greedy, other = {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.2"}
    for _ in range(3):
        reader = await server.events("room=r", **greedy)
        await reader.joined("r")
    refused = await server.events("room=r", **greedy)
    assert (await refused.refused()).frame["code"] == 4100
    assert await status(server, X_Forwarded_For="192.0.2.1") == 503  # it is the same share
    reader = await server.events("room=r", **other)
    await reader.joined("r")


async def test_the_crowd_is_told_to_come_back_at_different_times(serve: Serve) -> None:
    server = await serve(limits={"handshakes_per_second": 0.001, "handshakes_burst": 1})
    outside = {"X-Forwarded-For": "192.0.2.1"}
    await server.connect(ECHO, additional_headers=outside)
    told = set()
    for _ in range(40):
        with pytest.raises(InvalidStatus) as refused:
            await server.connect(ECHO, additional_headers=outside)
        told.add(int(refused.value.response.headers["Retry-After"]))
    assert told <= set(range(5, 16))
    assert len(told) > 3


async def test_readers_among_the_crowd_are_told_by_an_event(serve: Serve) -> None:
    server = await serve(limits={"handshakes_per_second": 0.001, "handshakes_burst": 1})
    outside = {"X-Forwarded-For": "192.0.2.1"}
    reader = await server.events("room=r&user=ann", **outside)
    await reader.joined("r")
    pauses = set()
    for _ in range(10):
        refused = await server.events("room=r&user=bob", **outside)
        event = await refused.refused()
        assert event.frame["code"] == 4100
        assert refused.parser.retry is not None
        pauses.add(refused.parser.retry)
    assert len(pauses) > 3
    assert all(5_000 <= pause <= 15_000 for pause in pauses)


async def test_who_is_refused_for_another_reason_takes_nobodys_turn(serve: Serve) -> None:
    server = await serve(
        limits={"handshakes_per_second": 0.001, "handshakes_burst": 1, "connections_per_address": 1}
    )
    for _ in range(5):
        evil = {"X-Forwarded-For": "192.0.2.1", "Origin": "https://evil.example"}
        with pytest.raises(InvalidStatus):
            await server.connect(ECHO, additional_headers=evil)
    assert await status(server, X_Forwarded_For="192.0.2.1") == 101


# Proxies


async def test_proxies_are_believed_hop_by_hop(serve: Serve) -> None:
    server = await serve(
        limits={"connections_per_address": 1}, trusted_proxies=["192.0.2.0/24", "2001:db8::7"]
    )
    await server.connect(ECHO, additional_headers={"X-Forwarded-For": "203.0.113.5"})
    for spelled in (
        "203.0.113.5, 192.0.2.9",
        "198.51.100.1, 203.0.113.5, 192.0.2.9, 2001:db8::7, 127.0.0.1",
        "192.0.2.9, 203.0.113.5",
        "127.0.0.1, 203.0.113.5",
    ):
        assert await status(server, X_Forwarded_For=spelled) == 503, spelled
    # Behind somebody who is not trusted anybody may be named: that one counts.
    await server.connect(ECHO, additional_headers={"X-Forwarded-For": "203.0.113.6"})
    for made_up in ("198.51.100.1, 203.0.113.6", "192.0.2.9, 203.0.113.6", "::1,203.0.113.6"):
        assert await status(server, X_Forwarded_For=made_up) == 503, made_up


async def test_the_environment_makes_nobody_trusted(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    server = await serve(limits={"connections_per_address": 1})
    await server.connect(ECHO, additional_headers={"X-Forwarded-For": "203.0.113.5"})
    assert await status(server, X_Forwarded_For="198.51.100.1, 203.0.113.5") == 503


# A user


@pytest.mark.parametrize(
    "door",
    ["/v1/ws?user=ann", "/ws/ann", "/ws/rooms/r/ann", "/ws/scalable/ann", "/ws/heartbeat/ann"],
)
async def test_a_user_with_enough_connections_is_told_to_come_back_later(
    serve: Serve, door: str
) -> None:
    server = await serve(limits={"connections_per_user": 3})
    tabs = [await server.user("ann") for _ in range(3)]
    bob = await server.user("bob")
    frames, code, reason = await (await server.connect(door)).ending()
    assert (code, reason.partition(":")[0]) == (4100, "over_capacity")
    said = [{"type": "disconnect", "code": 4100, "reason": reason}]
    assert frames == (said if door.startswith("/v1") else [])
    assert [await tab.is_quiet() for tab in [*tabs, bob]] == [True] * 4
    assert server.metric("sessions_opened_total") == 4

    await tabs[0].close()
    await server.lost(3)
    back = await server.user("ann")
    assert await back.is_quiet()


async def test_of_many_tabs_at_once_as_many_get_in_as_may(serve: Serve) -> None:
    server = await serve(limits={"connections_per_user": 3})
    peers = await asyncio.gather(*(server.connect("/v1/ws?user=ann") for _ in range(10)))
    first = [(await peer.receive())["type"] for peer in peers]
    assert Counter(first) == {"connected": 3, "disconnect": 7}
    assert server.sessions() == 3


async def test_strangers_do_not_share_the_connections_of_one_user(serve: Serve) -> None:
    server = await serve(limits={"connections_per_user": 1})
    guests = [await server.connect("/v1/ws") for _ in range(3)]
    users = {(await guest.expect("connected"))["user_id"] for guest in guests}
    assert len(users) == 3


# Without a token


async def test_who_shows_no_token_has_its_place_for_so_long(serve: Serve) -> None:
    server = await serve(**JWT, limits={"unauthenticated": 2, "auth_timeout": 0.3})
    waiting = [await server.connect("/v1/ws") for _ in range(2)]
    assert await status(server, "/v1/ws") == 503
    ends = await asyncio.gather(*(peer.ending() for peer in waiting))
    assert [code for _, code, _ in ends] == [4001, 4001]
    await let_in(server, "/v1/ws")


async def test_who_shows_no_token_keeps_nobody_out(serve: Serve) -> None:
    server = await serve(**JWT, limits={"unauthenticated": 8, "auth_timeout": 60})
    silent = {"X-Forwarded-For": "192.0.2.1"}

    async def knock() -> int:
        try:
            await server.connect("/v1/ws", additional_headers=silent)
        except InvalidStatus as refused:
            return refused.response.status_code
        return 101

    found = await asyncio.gather(*(knock() for _ in range(20)))
    assert Counter(found) == {101: 2, 503: 18}
    assert server.metric("refused_connections_total", "address_unauthenticated") == 18
    ann = await server.connect("/v1/ws", additional_headers={"X-Forwarded-For": "192.0.2.2"})
    await ann.send({"type": "auth", "token": token("ann")})
    await ann.expect("connected", user_id="ann")


async def test_who_brings_a_token_does_not_wait_for_those_who_bring_none(serve: Serve) -> None:
    server = await serve(**JWT, limits={"unauthenticated": 1})
    waiting = await server.connect("/v1/ws")
    assert await status(server, "/v1/ws") == 503
    assert await status(server, f"/v1/ws?token={token('ann')}") == 101
    assert await status(server, "/v1/ws", Authorization=f"Bearer {token('ann')}") == 101
    await waiting.send({"type": "auth", "token": token("bob")})
    await waiting.expect("connected", user_id="bob")
    assert await status(server, "/v1/ws") == 101


async def test_every_end_makes_room_for_somebody_without_a_token(serve: Serve) -> None:
    server = await serve(**JWT, limits={"unauthenticated": 1})

    async def shows_a_token(peer: Peer) -> None:
        await peer.send({"type": "auth", "token": token("ann")})
        await peer.expect("connected")

    async def shows_a_bad_one(peer: Peer) -> None:
        await peer.send({"type": "auth", "token": "x"})
        assert (await peer.ending())[1] == 4001

    async def says_something_else(peer: Peer) -> None:
        await peer.send({"type": "ping"})
        assert (await peer.ending())[1] == 4001

    async def loses_the_connection(peer: Peer) -> None:
        peer.vanish()

    for end in (
        Peer.close,
        shows_a_token,
        shows_a_bad_one,
        says_something_else,
        loses_the_connection,
    ):
        peer = await server.connect("/v1/ws")
        assert await status(server, "/v1/ws") == 503
        await end(peer)
        await let_in(server, "/v1/ws")
