"""permessage-deflate with a real client: same frames, fewer bytes, one compression per message."""

import json

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate

from application import compressed
from tests.peer import Peer
from tests.running_server import RunningServer, Serve
from tests.wire import Wire, text

pytestmark = pytest.mark.lane_only("other servers compress by themselves, for each member")

TEXT = "so long, " * 500


async def member(server: RunningServer, name: str, *, deflate: bool = True) -> Peer:
    """A user in room `r`, with compression as browsers offer it."""
    kind = "deflate" if deflate else None
    peer = await server.connect(f"/v1/ws?user={name}", compression=kind)
    agreed = peer.connection.protocol.extensions
    assert [type(extension) for extension in agreed] == [PerMessageDeflate] * deflate
    await peer.expect("connected")
    await peer.expect("joined", room=f"@{name}")
    await peer.ask("join", room="r")
    return peer


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of frames that were compressed."""
    sizes: list[int] = []
    deflated = compressed.deflated

    def counting(frame: bytes) -> bytes:
        sizes.append(len(frame))
        return deflated(frame)

    monkeypatch.setattr(compressed, "deflated", counting)
    return sizes


async def test_a_message_is_compressed_once_for_all_members(
    serve: Serve, counted: list[int]
) -> None:
    server = await serve(compression=True, rooms=[{"match": "r", "presence": "off"}])
    members = [await member(server, f"user-{number}") for number in range(5)]
    members += [await member(server, f"plain-{number}", deflate=False) for number in range(2)]
    for number in range(3):
        counted.clear()
        ack = await members[0].ask("publish", room="r", data={"text": TEXT, "n": number})
        for peer in members:
            message = await peer.expect("message", room="r", seq=ack["seq"])
            assert message["data"] == {"text": TEXT, "n": number}
        assert len(counted) == 1
        assert counted[0] > len(TEXT)
    counted.clear()
    await members[0].ask("publish", room="r", data="short")
    for peer in members:
        await peer.expect("message", data="short")
    assert counted == []


async def test_who_is_skipped_changes_nothing_for_the_others(serve: Serve) -> None:
    server = await serve(compression=True)
    ann, bob = await member(server, "ann"), await member(server, "bob")
    await ann.expect("join", user="bob")
    await ann.ask("publish", room="r", data=TEXT, echo=False)
    await bob.expect("message", data=TEXT)
    assert await ann.is_quiet()


async def test_history_and_recovery_read_the_same(serve: Serve) -> None:
    server = await serve(compression=True, limits={"messages_per_second": 0})
    ann = await member(server, "ann")
    acks = [await ann.ask("publish", room="r", data=TEXT, echo=False) for _ in range(100)]
    start = {"log": acks[0]["log"], "seq": 0}
    await ann.ask("leave", room="r")
    joined = await ann.ask("join", room="r", position=start)
    seqs = [message["seq"] for message in joined["messages"]]
    while seqs[-1] < acks[-1]["seq"]:
        seqs.append((await ann.expect("message", data=TEXT))["seq"])
    assert seqs == [ack["seq"] for ack in acks]


@pytest.mark.parametrize("path", ["/ws/ann", "/ws/rooms/r/ann", "/ws/scalable/ann"])
async def test_it_is_there_at_every_door(serve: Serve, path: str) -> None:
    server = await serve(compression=True)
    peer = await server.connect(path, compression="deflate")
    await peer.send({"text": TEXT})
    while (frame := await peer.receive())["type"] != "message":
        pass
    assert TEXT in (frame.get("text"), frame.get("data", {}).get("text"))


async def test_fewer_bytes_cross_the_wire(serve: Serve) -> None:
    server = await serve(compression=True)
    wire = await Wire.upgraded(
        server.port, "/ws/scalable/ann", Sec_WebSocket_Extensions="permessage-deflate"
    )
    await wire.sent(text(json.dumps({"text": TEXT})))
    ((opcode, data),) = await wire.frames()
    assert opcode == 0x41
    assert len(data) < len(TEXT) / 20
    await wire.shut()


async def test_off_is_the_default(serve: Serve) -> None:
    server = await serve()
    peer = await server.connect("/ws", compression="deflate")
    assert peer.connection.protocol.extensions == []
