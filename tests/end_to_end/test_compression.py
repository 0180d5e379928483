"""permessage-deflate, where the operator has switched it on."""

import pytest

from tests.peer import Peer
from tests.running_server import RunningServer, Serve


async def member(server: RunningServer, name: str, **options: object) -> Peer:
    peer = await server.connect(f"/v1/ws?user={name}", **options)
    await peer.expect("connected")
    await peer.expect("joined")
    assert (await peer.ask("join", room="r"))["type"] == "joined"
    return peer


def is_compressed(peer: Peer) -> bool:
    return bool(peer.connection.protocol.extensions)


async def test_it_is_off_unless_switched_on(serve: Serve) -> None:
    server = await serve()
    assert not is_compressed(await member(server, "ann", compression="deflate"))


async def test_who_asks_for_it_and_who_does_not_share_rooms(serve: Serve) -> None:
    server = await serve(compression=True)
    small = await member(server, "small", compression="deflate")
    plain = await member(server, "plain", compression=None)
    assert is_compressed(small)
    assert not is_compressed(plain)
    await small.expect("join", user="plain")
    texts = ["", "x", "größe 🎈" * 1000, "x" * 60_000, "the same " * 100, "the same " * 100]
    for talker, listener in ((small, plain), (plain, small)):
        for text in texts:
            await talker.ask("publish", room="r", data=text)
            for peer in (talker, listener):
                await peer.expect("message", data=text)
    history = await small.ask("history", room="r")
    assert [message["data"] for message in history["messages"]] == texts * 2


@pytest.mark.parametrize("path", ["/ws/binary", "/ws/rooms/r/ann"])
async def test_tutorial_doors_take_it_as_well(serve: Serve, path: str) -> None:
    server = await serve(compression=True)
    peer = await server.connect(path, compression="deflate")
    assert is_compressed(peer)
    if path == "/ws/binary":
        await peer.send_raw(b"\x00" * 5000)
        assert await peer.receive_raw() == b"\x00" * 5000
    else:
        await peer.send({"text": "x" * 5000})
        await peer.expect("message", text="x" * 5000)


async def test_the_limits_hold_for_what_it_unpacks_to(serve: Serve) -> None:
    server = await serve(compression=True)
    ann = await member(server, "ann", compression="deflate")
    bob = await member(server, "bob", compression="deflate")
    await ann.expect("join", user="bob")
    await ann.send_raw("x" * 100_000)
    await ann.expect("error", code="message_too_large")
    assert await ann.is_quiet()
    await ann.send_raw("x" * 50_000_000)  # some 50 KB on the wire
    assert (await ann.closed())[0] == 1009
    await server.lost(1)
    assert await bob.is_quiet()
