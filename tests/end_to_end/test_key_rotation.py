"""Tokens of an issuer that publishes its keys: at every door, while keys come, go and are away."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapters.tokens.remote_keys import Pace, RemoteKeys
from tests import key_server
from tests.api import Api
from tests.key_server import Issuer, KeyServer
from tests.peer import Peer, until
from tests.running_server import DOORS, RunningServer, Serve
from tests.tokens import claims

OLD, NEW, STRANGER = Issuer("old"), Issuer("new", "RS256"), Issuer("stranger")


@pytest.fixture
async def issuer() -> AsyncIterator[KeyServer]:
    server = await KeyServer(OLD).start()
    yield server
    await server.stop()


def trusting(issuer: KeyServer) -> dict[str, Any]:
    return {"auth": {"mode": "jwt", "jwks_url": issuer.url}}


def keys_of(server: RunningServer) -> RemoteKeys:
    keys = server.container.authenticator()._more
    assert isinstance(keys, RemoteKeys)
    return keys


async def rotated(serve: Serve, issuer: KeyServer) -> RunningServer:
    """A server that has fetched the old key and not yet the new one, without a cooldown."""
    server = await serve(**trusting(issuer))
    await until(lambda: keys_of(server).usable)
    keys_of(server)._pace = Pace(cooldown=0)
    issuer.keys = [OLD.published(), NEW.published()]
    return server


async def comes_in(server: RunningServer, door: str, token: str, way: str) -> Peer:
    match way:
        case "header":
            headers = {"Authorization": f"Bearer {token}"}
            return await server.connect(door, additional_headers=headers)
        case "subprotocol":
            return await server.connect(door, subprotocols=["hubbub.v1", f"bearer.{token}"])
        case "query":
            return await server.connect(f"{door}?token={token}")
    peer = await server.connect(door)
    await peer.send({"type": "auth", "token": token})
    return peer


@pytest.mark.parametrize("way", ["header", "subprotocol", "query", "frame"])
@pytest.mark.parametrize("door", DOORS)
async def test_every_door_takes_a_token_of_a_key_that_is_new(
    serve: Serve, issuer: KeyServer, door: str, way: str
) -> None:
    if (door, way) == ("/ws/secure", "frame"):
        pytest.skip("takes no token by frame")
    server = await rotated(serve, issuer)
    stranger = await comes_in(server, door, STRANGER.sign(claims("ann")), way)
    frames, code, reason = await stranger.ending()
    assert (code, reason[:13]) == (4001, "token_invalid"), frames
    ann = await comes_in(server, door, NEW.sign(claims("ann")), way)
    await until(lambda: server.sessions() == 1)
    assert ann.connection.close_code is None
    assert set(issuer.targets) == {"/keys.json"}


async def test_an_event_stream_does(serve: Serve, issuer: KeyServer) -> None:
    server = await rotated(serve, issuer)
    stream = await server.events(f"room=r&token={NEW.sign(claims('ann'))}")
    await stream.joined("r")
    stranger = await server.events(f"room=r&token={STRANGER.sign(claims('ann'))}")
    assert (await stranger.refused()).frame["code"] == 4001


async def test_the_http_api_does(serve: Serve, issuer: KeyServer) -> None:
    server = await rotated(serve, issuer)
    ann = Api(server, NEW.sign(claims("ann")))
    assert (await ann("POST", "/v1/rooms/r/messages", {"data": 1}))["seq"] == 1
    stranger = Api(server, STRANGER.sign(claims("ann")))
    outcome = await stranger.refusal("POST", "/v1/rooms/r/messages", {"data": 1})
    assert outcome == (401, "token_invalid")


async def user(server: RunningServer, token: str) -> Peer:
    peer = await server.connect(f"/v1/ws?token={token}")
    await peer.expect("connected")
    await peer.expect("joined")
    return peer


async def test_a_live_connection_renews_its_token_with_a_key_that_is_new(
    serve: Serve, issuer: KeyServer
) -> None:
    server = await rotated(serve, issuer)
    ann = await user(server, OLD.sign(claims("ann", 100)))
    ack = await ann.ask("auth", token=NEW.sign(claims("ann", 1000)))
    assert ack["expires_in"] == pytest.approx(1000, abs=15)
    refused = await ann.ask("auth", token=STRANGER.sign(claims("ann")))
    assert refused["code"] == "token_invalid"
    assert await ann.is_quiet()


async def test_the_last_of_two_tokens_counts_though_the_first_has_to_wait(
    serve: Serve, issuer: KeyServer
) -> None:
    server = await rotated(serve, issuer)
    ann = await user(server, OLD.sign(claims("ann")))
    gate = asyncio.Event()

    async def late(server: KeyServer, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        await key_server.publish(server, writer)

    issuer.answer = late
    asked = len(issuer.heads)
    narrow, wide = {"none": ["join"]}, {"r": ["join"]}
    await ann.send({"type": "auth", "id": 1, "token": NEW.sign(claims("ann", rooms=narrow))})
    await until(lambda: len(issuer.heads) > asked)
    await ann.send({"type": "auth", "id": 2, "token": OLD.sign(claims("ann", rooms=wide))})
    assert await ann.is_quiet()  # and other commands do not wait
    gate.set()
    await ann.expect("ack", id=1)
    await ann.expect("ack", id=2)
    assert (await ann.ask("join", room="r"))["type"] == "joined"


async def test_without_keys_the_server_is_up_and_not_ready(serve: Serve, issuer: KeyServer) -> None:
    issuer.answer = key_server.hang_up
    server = await serve(**trusting(issuer))
    await until(lambda: "this node is not ready" in server.log.text)
    assert (await server.get("/healthz")).status_code == 200
    assert (await server.get("/readyz")).status_code == 503
    token = OLD.sign(claims("ann"))
    for door in DOORS:
        peer = await server.connect(f"{door}?token={token}")
        frames, code, _ = await peer.ending()
        assert code == 4100, frames  # come back later
    stream = await server.events(f"room=r&token={token}")
    assert (await stream.refused()).frame["code"] == 4100
    api = Api(server, token)
    assert await api.refusal("POST", "/v1/rooms/r/messages", {"data": 1}) == (503, "unavailable")
    issuer.answer = key_server.publish
    await until(lambda: keys_of(server).usable)
    assert (await server.get("/readyz")).status_code == 200
    await user(server, token)
    server.log.errors.clear()


async def test_connections_live_on_while_the_keys_cannot_be_had(
    serve: Serve, issuer: KeyServer
) -> None:
    server = await rotated(serve, issuer)
    ann = await user(server, OLD.sign(claims("ann")))
    issuer.answer = key_server.garbage
    peer = await server.connect(f"/v1/ws?token={NEW.sign(claims('bob'))}")
    assert (await peer.ending())[1] == 4100
    assert await ann.is_quiet()
    await user(server, OLD.sign(claims("cleo")))
    assert (await server.get("/readyz")).status_code == 200
    issuer.answer = key_server.publish
    await user(server, NEW.sign(claims("bob")))
