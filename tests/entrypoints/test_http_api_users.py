"""What is done to users over HTTP: disconnecting, blocking, revoking tokens."""

import time

import pytest

from tests.api import WITH_A_KEY, Api
from tests.peer import Peer
from tests.running_server import RunningServer, Serve
from tests.tokens import JWT, token


async def gone(peer: Peer) -> tuple[int | None, str]:
    """Code and reason of the close that must come, whatever came before."""
    _, code, reason = await peer.ending()
    return code, reason


async def comes_in(server: RunningServer, credential: str) -> bool:
    peer = await server.connect(f"/v1/ws?token={credential}")
    first = await peer.receive()
    return bool(first["type"] == "connected")


async def test_a_user_is_disconnected_everywhere_and_may_come_back(serve: Serve) -> None:
    server = await serve()
    api = Api(server, None)
    ann = [await server.user("ann"), await server.connect("/ws/rooms/tea/ann")]
    bob = await server.user("bob")
    answer = await api("POST", "/v1/users/ann/disconnect", {"reason": "be nice"})
    assert answer == {"ordered": "send_away"}
    assert [await gone(peer) for peer in ann] == [(4003, "be nice")] * 2
    assert await bob.is_quiet()
    again = await server.user("ann")
    await api("POST", "/v1/users/ann/disconnect")  # a reason is no must
    assert (await gone(again))[0] == 4003


async def test_a_user_is_blocked_until_a_time(serve: Serve) -> None:
    server = await serve(**JWT, **WITH_A_KEY)
    api, ann = Api(server), token("ann")
    assert await comes_in(server, ann)
    body = {"until": time.time() + 60, "reason": "a pause"}
    assert await api("PUT", "/v1/users/ann/block", body) == {"ordered": "block"}
    assert not await comes_in(server, ann)
    assert await Api(server, ann).refusal("GET", "/v1/rooms/tea") == (403, "forbidden")
    assert await comes_in(server, token("bob"))
    assert await api("DELETE", "/v1/users/ann/block") == {"ordered": "unblock"}
    assert await comes_in(server, ann)
    assert await Api(server, ann)("GET", "/v1/rooms/tea")
    await api("PUT", "/v1/users/ann/block", {"until": time.time() - 1})
    assert await comes_in(server, ann)


async def test_one_token_is_revoked(serve: Serve) -> None:
    server = await serve(**JWT, **WITH_A_KEY)
    api = Api(server)
    one, other = token("ann", jti="1"), token("ann", jti="2")
    peer = await server.connect(f"/v1/ws?token={one}")
    await peer.expect("connected")
    assert await api("POST", "/v1/tokens/revoke", {"token_id": "1"}) == {"ordered": "revoke_token"}
    assert await gone(peer) == (4001, "token_revoked: this token was revoked")
    assert await Api(server, one).refusal("GET", "/v1/rooms") == (401, "token_revoked")
    assert await Api(server, other)("GET", "/v1/rooms")


async def test_the_tokens_of_a_user_are_revoked_up_to_a_time(serve: Serve) -> None:
    server = await serve(**JWT, **WITH_A_KEY)
    api, now = Api(server), time.time()
    old, new = token("ann", iat=int(now) - 100), token("ann", iat=int(now) - 10)
    await api("POST", "/v1/users/ann/revoke-tokens", {"issued_before": now - 50})
    assert not await comes_in(server, old)
    assert await comes_in(server, new)
    assert await api("POST", "/v1/users/ann/revoke-tokens") == {"ordered": "revoke_tokens"}
    assert not await comes_in(server, new)
    assert await comes_in(server, token("bob", iat=int(now) - 100))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "block", {}),
        ("PUT", "block", {"until": "tomorrow"}),
        ("PUT", "block", {"until": -1}),
        ("PUT", "block", {"until": time.time() * 1000}),  # milliseconds
        ("PUT", "block", {"until": 1, "unless": 2}),
        ("POST", "disconnect", {"reason": "x" * 201}),
        ("POST", "disconnect", {"raison": "x"}),
        ("POST", "disconnect", []),
        ("POST", "revoke-tokens", {"issued_before": True}),
    ],
)
async def test_what_is_no_order_does_nothing(
    serve: Serve, method: str, path: str, body: object
) -> None:
    server = await serve()
    ann = await server.user("ann")
    outcome = await Api(server, None).refusal(method, f"/v1/users/ann/{path}", body)
    assert outcome == (400, "bad_frame")
    assert await ann.is_quiet()


async def test_managing_a_user_takes_a_grant_for_the_personal_room(serve: Serve) -> None:
    server = await serve(**JWT)
    reach = Api(server, token("op", rooms={"@ann": ["manage"]}))
    await reach("POST", "/v1/users/ann/disconnect")
    for method, path, body in (
        ("POST", "/v1/users/bob/disconnect", {}),
        ("PUT", "/v1/users/bob/block", {"until": 1}),
        ("DELETE", "/v1/users/bob/block", ...),
        ("POST", "/v1/users/bob/revoke-tokens", {}),
        ("POST", "/v1/tokens/revoke", {"token_id": "1"}),
    ):
        assert await reach.refusal(method, path, body) == (403, "not_granted")
    everybody = Api(server, token("op", rooms={"@*": ["manage"]}))
    await everybody("POST", "/v1/tokens/revoke", {"token_id": "1"})
