"""Whatever a client sends costs itself an error at most: its connection goes on working, and
nobody else notices."""

import json

import pytest
from websockets.frames import Close, Frame, Opcode

from tests.peer import Peer
from tests.running_server import RunningServer, Serve

FRAME_LIMIT = 65_536


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


BAD_DATA = {
    "NaN": "NaN",
    "Infinity": "-Infinity",
    "a lone surrogate": '"\\ud800"',
    "a lone surrogate in a key": '{"\\udc00":1}',
    "1e400": "1e400",
    "an integer beyond all doubles": "1" + "0" * 400,
    "depth 65": nested(65),
    "depth of objects": '{"a":' * 65 + "1" + "}" * 65,
    "depth 30000": nested(30_000),
    "unclosed": "[" * 5_000,
    "broken": "{]",
    "nothing": "",
    "a raw newline": '"a\nb"',
    "a comment": "1 // one",
    "single quotes": "'x'",
}

BAD_FRAMES = {
    "no JSON": "hello",
    "nothing": "",
    "white space": " \n ",
    "an array": "[]",
    "null": "null",
    "a number": "1",
    "a string": '"join"',
    "two frames": '{"type":"ping"}{"type":"ping"}',
    "an unclosed object": '{"type":"ping"',
    "depth": nested(60_000 // 2),
    "NUL": "\x00",
    "a byte order mark": '\ufeff{"type":"ping"}',
}


async def pair(server: RunningServer) -> tuple[Peer, Peer]:
    ann, _ = await server.member("ann", "r")
    bob, _ = await server.member("bob", "r")
    await ann.expect("join", user="bob")
    return ann, bob


async def still_works(ann: Peer, bob: Peer) -> bool:
    """Whether Ann still reaches Bob, who has noticed nothing so far."""
    ack = await ann.ask("publish", room="r", data="fine", echo=False)
    await bob.expect("message", data="fine", seq=ack["seq"])
    return await ann.is_quiet() and await bob.is_quiet()


async def test_data_that_cannot_be_passed_on_is_refused(serve: Serve) -> None:
    ann, bob = await pair(await serve())
    for kind, data in BAD_DATA.items():
        await ann.send_raw(f'{{"type":"publish","room":"r","id":"x","data":{data}}}')
        error = await ann.expect("error", code="bad_frame", retry=False)
        assert await still_works(ann, bob), kind
        assert data not in error["message"] or len(data) < 4, kind  # nothing is repeated


async def test_what_is_no_frame_is_refused(serve: Serve) -> None:
    server = await serve(limits={"commands_per_second": 0})
    ann, bob = await pair(server)
    for kind, text in BAD_FRAMES.items():
        await ann.send_raw(text)
        await ann.expect("error", code="bad_frame")
        assert await still_works(ann, bob), kind
    await ann.send_raw(b'{"type":"ping"}')
    await ann.expect("error", code="bad_frame")
    assert await still_works(ann, bob)


async def test_the_deepest_and_the_largest_that_is_allowed_arrives(serve: Serve) -> None:
    ann, bob = await pair(await serve())
    frame = {"type": "publish", "room": "r", "id": 1, "echo": False, "data": ""}
    room_left = FRAME_LIMIT - len(json.dumps(frame))
    deepest = json.loads(nested(64))
    for data in (deepest, "x" * room_left):
        await ann.send({**frame, "data": data})
        await ann.expect("ack")
        await bob.expect("message", data=data)
    await ann.send({**frame, "data": "x" * (room_left + 1)})
    error = await ann.expect("error", code="message_too_large")
    assert "id" not in error  # it was not read
    assert await still_works(ann, bob)


async def test_the_frame_limit_counts_bytes(serve: Serve) -> None:
    ann, bob = await pair(await serve())
    await ann.send_raw(json.dumps({"type": "publish", "room": "r", "data": "ü" * 40_000}))
    await ann.expect("error", code="message_too_large")  # 240,000 bytes of escapes
    text = json.dumps({"type": "ping", "x": "ü" * 40_000}, ensure_ascii=False)
    assert len(text) < FRAME_LIMIT < len(text.encode())
    await ann.send_raw(text)
    await ann.expect("error", code="message_too_large")
    await ann.send_raw("x" * 4 * FRAME_LIMIT)
    await ann.expect("error", code="message_too_large")
    assert await still_works(ann, bob)


@pytest.mark.parametrize("path", ["/ws", "/ws/binary", "/ws/rooms/r/ann", "/ws/heartbeat/ann"])
async def test_the_frame_limit_holds_at_every_door(serve: Serve, path: str) -> None:
    server = await serve()
    peer = await server.connect(path)
    await peer.send_raw(b"x" * (FRAME_LIMIT + 1) if "binary" in path else "x" * (FRAME_LIMIT + 1))
    await peer.expect("error", code="message_too_large")
    assert server.sessions() == 1


async def test_a_frame_over_four_times_the_limit_ends_the_connection(serve: Serve) -> None:
    server = await serve()
    ann, bob = await pair(server)
    await ann.send_raw("x" * (4 * FRAME_LIMIT + 1))
    assert (await ann.closed())[0] == 1009
    await server.lost(1)
    assert await bob.is_quiet()  # Ann may come back within the grace


async def send_frame(peer: Peer, opcode: Opcode, data: bytes, *, fin: bool = True) -> None:
    """What no library would send by itself."""
    connection = peer.connection
    frame = Frame(opcode, data, fin).serialize(mask=True)
    connection.transport.write(frame)


@pytest.mark.parametrize("path", ["/v1/ws?user=ann", "/ws", "/ws/rooms/r/ann"])
async def test_text_that_is_not_utf8_ends_the_connection(serve: Serve, path: str) -> None:
    server = await serve()
    bob, _ = await server.member("bob", "other")
    for data in (b"\xff", b'{"text":"\xed\xa0\x80"}', b"\xc3"):
        peer = await server.connect(path)
        await send_frame(peer, Opcode.TEXT, data)
        _, code, _ = await peer.ending()
        assert code == 1007, data
    await server.lost(1)
    assert await bob.is_quiet()


async def test_fragments_are_one_message(serve: Serve) -> None:
    ann, bob = await pair(await serve())
    text = '{"type":"publish","room":"r","data":"größe","echo":false,"id":1}'.encode()
    cut = text.index("ö".encode()) + 1  # in the middle of a character
    await send_frame(ann, Opcode.TEXT, text[:cut], fin=False)
    await send_frame(ann, Opcode.PING, b"in between")
    await send_frame(ann, Opcode.CONT, b"", fin=False)
    await send_frame(ann, Opcode.CONT, text[cut:])
    await ann.expect("ack", id=1)
    await bob.expect("message", data="größe")
    assert await still_works(ann, bob)


@pytest.mark.parametrize(
    "frame",
    [
        b"\xf1\x80\x00\x00\x00\x00",  # reserved bits
        b"\x83\x80\x00\x00\x00\x00",  # a reserved opcode
        b"\x81\x05hello",  # not masked
        b"\x80\x80\x00\x00\x00\x00",  # a continuation of nothing
        b"\x89\xfe\x00\x7e" + b"x" * 130,  # a ping of 126 bytes
    ],
    ids=["reserved bits", "reserved opcode", "unmasked", "continuation", "long ping"],
)
async def test_a_breach_of_the_websocket_protocol_ends_it(serve: Serve, frame: bytes) -> None:
    server = await serve()
    ann, bob = await pair(server)
    ann.connection.transport.write(frame)
    assert (await ann.closed())[0] == 1002
    await server.lost(1)
    assert await bob.is_quiet()


async def test_odd_close_frames_end_the_connection(serve: Serve) -> None:
    server = await serve()
    watcher = await server.user("watcher")
    for data in (b"", b"\x03", Close(1000, "x").serialize(), b"\x03\xe8\xff\xff", b"\x00\x00"):
        peer = await server.connect("/ws")
        await send_frame(peer, Opcode.CLOSE, data)
        await server.lost(1)
        peer.vanish()
    assert await watcher.is_quiet()
