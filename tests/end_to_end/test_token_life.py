"""A token while its connection lasts: refreshed, narrowed, run out."""

import pytest

from tests.peer import Peer
from tests.running_server import RunningServer, Serve
from tests.tokens import BAD_TOKENS, JWT, token

ALL = ["join", "publish", "history", "members"]


async def user(server: RunningServer, name: str, *expires_in: float, **claims: object) -> Peer:
    peer = await server.connect(f"/v1/ws?token={token(name, *expires_in, **claims)}")
    await peer.expect("connected", user_id=name)
    await peer.expect("joined", room=f"@{name}")
    return peer


async def test_a_refresh_tells_how_long_it_lasts(serve: Serve) -> None:
    server = await serve(**JWT)
    ann = await user(server, "ann", 100)
    ack = await ann.ask("auth", token=token("ann", 1000))
    assert ack.pop("expires_in") == pytest.approx(1000, abs=5)
    assert ack == {"type": "ack"}
    assert await ann.is_quiet()


async def test_another_users_token_is_forbidden_and_changes_nothing(serve: Serve) -> None:
    server = await serve(**JWT)
    ann = await user(server, "ann", rooms={"a": ALL})
    reply = await ann.ask("auth", token=token("bob"))
    assert (reply["type"], reply["code"]) == ("error", "forbidden")
    assert (await ann.ask("join", room="b"))["code"] == "not_granted"
    assert (await ann.ask("join", room="a"))["type"] == "joined"


async def test_a_bad_token_is_refused_and_changes_nothing(serve: Serve) -> None:
    server = await serve(**JWT)
    ann = await user(server, "ann")
    for kind, (make, code) in BAD_TOKENS.items():
        reply = await ann.ask("auth", token=make("ann"))
        assert (reply["type"], reply["code"]) == ("error", code), kind
    assert (await ann.ask("join", room="r"))["type"] == "joined"


async def test_rooms_whose_grants_are_gone_are_left(serve: Serve) -> None:
    server = await serve(**JWT)
    ann = await user(server, "ann", rooms={"*": ALL})
    bob = await user(server, "bob")
    for room in ("kept", "gone"):
        await ann.ask("join", room=room)
        await bob.ask("join", room=room)
        await ann.expect("join", room=room, user="bob")

    await ann.send({"type": "auth", "id": 1, "token": token("ann", rooms={"kept": ["join"]})})
    await ann.expect("removed", room="gone", code="not_granted")
    await ann.expect("ack", id=1)
    await bob.expect("leave", room="gone", user="ann")
    await bob.ask("publish", room="gone", data="unheard", echo=False)
    await bob.ask("publish", room="@ann", data="refused", echo=False)
    await bob.ask("publish", room="kept", data="heard", echo=False)
    await ann.expect("message", room="kept", data="heard")
    assert (await ann.ask("publish", room="kept", data=1))["code"] == "not_granted"
    assert (await ann.ask("join", room="gone"))["code"] == "not_granted"
    assert await ann.is_quiet()


async def test_new_grants_open_new_rooms(serve: Serve) -> None:
    server = await serve(**JWT)
    ann = await user(server, "ann", rooms={})
    assert (await ann.ask("join", room="r"))["code"] == "not_granted"
    await ann.ask("auth", token=token("ann", rooms={"r": ["join"]}))
    assert (await ann.ask("join", room="r"))["type"] == "joined"


async def test_the_connection_ends_five_seconds_after_its_token(serve: Serve) -> None:
    """The token ran out 3.5 s ago, which is within the leeway for clocks that differ."""
    server = await serve(**JWT)
    watcher = await user(server, "watcher")
    await watcher.ask("join", room="r")
    ann = await server.connect(f"/v1/ws?token={token('ann', -3.5)}")
    await ann.expect("connected", expires_in=0)
    await ann.expect("joined")
    assert (await ann.ask("join", room="r"))["type"] == "joined"
    await watcher.expect("join", user="ann")
    frames, code, reason = await ann.ending()
    assert (code, reason.startswith("token expired")) == (4101, True)
    assert frames == [{"type": "disconnect", "code": 4101, "reason": reason}]
    assert await watcher.is_quiet()  # it may come back within the grace


@pytest.mark.parametrize("path", ["/ws", "/ws/secure", "/ws/rooms/r/ann", "/ws/heartbeat/ann"])
async def test_other_doors_end_with_their_token_too(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("application.session.EXPIRY_LEEWAY", -99.9)
    server = await serve(**JWT)
    peer = await server.connect(f"{path}?token={token('ann', 100)}")
    frames, code, reason = await peer.ending()
    assert (code, reason.startswith("token expired")) == (4101, True)
    assert {frame["type"] for frame in frames} <= {"connected"}


async def test_a_refresh_in_time_saves_the_connection(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("application.session.EXPIRY_LEEWAY", 0.0)
    server = await serve(**JWT)
    ann = await user(server, "ann", 1)
    bob = await user(server, "bob", 1)
    await ann.ask("auth", token=token("ann"))
    assert (await bob.closed_after_farewell())[0] == 4101  # so Ann's time is over as well
    assert await ann.is_quiet()
