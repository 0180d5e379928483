"""Peers that break rules, sizes and patience: it costs them their connection, and nobody else
anything."""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable

import pytest
from websockets.frames import Close, Opcode

from adapters.transport import uvicorn_frames, uvicorn_http
from adapters.transport.uvicorn_http import MAX_HEADER_BYTES
from tests.peer import until
from tests.running_server import RunningServer, Serve
from tests.server_process import ServeProcess, ServerProcess
from tests.wire import NO_HANDSHAKES, Wire, close, masked, request, text

pytestmark = pytest.mark.lane_only("other servers have other bounds, or none")

DOOR = "/v1/ws?user=mallory"
FRAME_LIMIT = 65_536
PING = masked(Opcode.PING, b"p" * 125)


@pytest.fixture
async def server(serve: Serve) -> AsyncIterator[RunningServer]:
    """A server with a member who must not notice anything, and which is left as it was."""
    running = await serve(limits={"commands_per_second": 0, "messages_per_second": 0})
    bob, _ = await running.member("bob", "r")
    yield running
    await until(lambda: running.connections() == 1)
    assert running.sessions() == 1
    assert await bob.is_quiet()
    ann, _ = await running.member("ann", "r")
    await bob.expect("join", user="ann")
    await ann.ask("publish", room="r", data="fine", echo=False)
    await bob.expect("message", data="fine")


async def mallory(server: RunningServer, path: str = DOOR) -> Wire:
    """Past the handshake, and at the main door past the greeting."""
    wire = await Wire.upgraded(server.port, path)
    if path == DOOR:
        assert json.loads(await wire.text())["type"] == "connected"
        assert json.loads(await wire.text())["type"] == "joined"
    return wire


async def answered(wire: Wire) -> dict[str, object]:
    frame = json.loads(await wire.text())
    assert isinstance(frame, dict)
    return frame


# Before the upgrade


@pytest.mark.parametrize("path", ["/", "/healthz", DOOR])
async def test_a_header_bomb_is_refused_after_its_first_bytes(
    server: RunningServer, path: str
) -> None:
    wire = await Wire.connect(server.port)
    start = request(path).removesuffix(b"\r\n")
    wire.send(start, b"X: ", b"x" * 1_000_000)
    assert (await wire.rest()).startswith(b"HTTP/1.1 431 ")
    assert not wire.was_reset


async def test_headers_have_a_limit_to_the_byte(server: RunningServer) -> None:
    for more, status in ((0, b"200"), (1, b"431")):
        wire = await Wire.connect(server.port)
        head = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nX: "
        wire.send(head, b"x" * (MAX_HEADER_BYTES - len(head) - 4 + more), b"\r\n\r\n")
        assert (await wire.rest()).split()[1] == status


async def test_slow_handshakes_end_at_the_deadline(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_http, "HEADER_DEADLINE", 0.3)
    slow = [await Wire.connect(server.port) for _ in range(50)]
    for byte in range(10):
        for wire in slow:
            wire.send(request(DOOR)[byte : byte + 1])
        await asyncio.sleep(0.01)
    assert (await server.get("/healthz")).status_code == 200
    half, silent = await Wire.connect(server.port), await Wire.connect(server.port)
    half.send(request(DOOR)[:-2])
    for wire in (*slow, half, silent):
        assert (await wire.rest()).startswith(b"HTTP/1.1 408 ")


async def test_pipelined_requests_are_served(server: RunningServer) -> None:
    wire = await Wire.connect(server.port)
    get = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    wire.send(get * 199, get[:-2], b"Connection: close\r\n\r\n")
    assert (await wire.rest()).count(b"HTTP/1.1 200 ") == 200


async def test_bodies_do_not_count_as_headers(server: RunningServer) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10_000):
            yield b"x" * 10

    for body in (b"x" * 2_000_000, chunks()):
        answer = await server.request("POST", "/healthz", content=body)
        assert answer.status_code == 405


@pytest.mark.parametrize("changed", NO_HANDSHAKES, ids=str)
async def test_what_is_no_handshake_gets_no_session(
    server: RunningServer, changed: dict[str, str]
) -> None:
    wire = await Wire.connect(server.port)
    wire.send(request(DOOR, **changed), text('{"type":"ping"}'))
    received = await wire.rest()
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in received


async def test_a_frame_may_follow_the_handshake_at_once(server: RunningServer) -> None:
    wire = await Wire.connect(server.port)
    wire.send(request(DOOR), text('{"type":"ping","id":1}'))
    assert (await wire.head()).startswith(b"HTTP/1.1 101 ")
    kinds = [(await answered(wire))["type"] for _ in range(3)]
    assert kinds == ["connected", "joined", "pong"]
    await wire.shut()


# Frames that end the connection

ENDINGS: dict[str, tuple[list[bytes], int]] = {
    "unmasked": ([b"\x81\x05hello"], 1002),
    "RSV1": ([b"\xc1\x80\x00\x00\x00\x00"], 1002),
    "RSV2": ([b"\xa1\x80\x00\x00\x00\x00"], 1002),
    "RSV3": ([b"\x91\x80\x00\x00\x00\x00"], 1002),
    **{f"opcode {code:x}": ([bytes((0x80 | code, 0x80, 0, 0, 0, 0))], 1002)
       for code in (3, 7, 0xB, 0xF)},
    "a long ping": ([masked(Opcode.PING, b"x" * 126)], 1002),
    "a fragmented ping": ([masked(Opcode.PING, b"", fin=False)], 1002),
    "a continuation of nothing": ([masked(Opcode.CONT, b"x")], 1002),
    "a text inside a fragmented one": ([text("a", fin=False), text("b")], 1002),
    "UTF-8, whole": ([text(b"\xff")], 1007),
    "UTF-8, behind a good one": ([text('{"type":"ping"}'), text(b"\xc3(")], 1007),
    "UTF-8, in fragments": ([text(b"\xe2", fin=False), masked(Opcode.CONT, b"(")], 1007),
    "UTF-8, cut off": ([text(b"\xe2\x82", fin=False), masked(Opcode.CONT)], 1007),
    "over four times the limit": ([text("x" * (4 * FRAME_LIMIT + 1))], 1009),
    "that in fragments": (
        [text("x" * 3 * FRAME_LIMIT, fin=False), masked(Opcode.CONT, b"x" * FRAME_LIMIT + b"x")],
        1009,
    ),
    "a length of 2^63": ([b"\x81\xff\x7f" + b"\xff" * 7 + b"\x00" * 4], 1009),
    "100,000 empty fragments": (
        [text("", fin=False), masked(Opcode.CONT, b"", fin=False) * 100_000], 4004
    ),
    "a flood of pings": ([PING * 10_000], 4104),
    "a flood of pongs": ([masked(Opcode.PONG, b"") * 10_000], 4104),
    "a close": ([close(1000)], 1000),
    "a close without a code": ([close(None)], 1005),
    "a close with a code of its own": ([close(4321)], 4321),
    "half a code": ([masked(Opcode.CLOSE, b"\x03")], 1002),
    **{f"code {code}": ([masked(Opcode.CLOSE, code.to_bytes(2))], 1002)
       for code in (0, 999, 1004, 1005, 1006, 1016, 2999, 5000)},
    "a reason that is no UTF-8": ([masked(Opcode.CLOSE, b"\x03\xe8\xff")], 1007),
    "a long close": ([masked(Opcode.CLOSE, Close(1000, "x" * 123).serialize() + b"x")], 1002),
}  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_peer_is_told_why_it_is_closed(server: RunningServer, ending: str) -> None:
    frames, code = ENDINGS[ending]
    wire = await mallory(server)
    wire.send(*frames)
    found, closed = await wire.ending()
    assert closed == code
    assert all(opcode in (Opcode.TEXT, Opcode.PONG) for opcode, _ in found)
    assert not wire.was_reset


@pytest.mark.parametrize("path", ["/ws", "/ws/binary", "/ws/mallory", "/ws/rooms/r2/mallory"])
async def test_that_holds_at_every_door(server: RunningServer, path: str) -> None:
    for frames, code in (ENDINGS["RSV1"], ENDINGS["UTF-8, whole"], ENDINGS["a close"]):
        wire = await mallory(server, path)
        wire.send(*frames)
        _, closed = await wire.ending()
        assert closed == code


async def test_a_message_that_never_ends_has_a_deadline(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_frames, "FRAGMENTS_DEADLINE", 0.2)
    wire = await mallory(server)
    wire.send(text('{"type":', fin=False))
    assert await wire.closed() == 4004


@pytest.mark.parametrize("ending", [Wire.reset, Wire.half_close])
async def test_a_reset_or_half_a_connection_is_a_loss(
    server: RunningServer, ending: Callable[[Wire], None]
) -> None:
    for start in (b"", text('{"type":"ping"}')[:9], text("x", fin=False)):
        wire = await mallory(server)
        await wire.sent(start)
        ending(wire)
        await server.lost(1)
        await wire.shut()


# Frames that do not


async def test_the_frame_limit_to_the_byte(server: RunningServer) -> None:
    wire = await mallory(server)
    for size, reply in (
        (FRAME_LIMIT, "pong"),
        (FRAME_LIMIT + 1, "message_too_large"),
        (4 * FRAME_LIMIT, "message_too_large"),
        (FRAME_LIMIT, "pong"),
    ):
        start = '{"type":"ping","x":"'
        wire.send(text(start + "x" * (size - len(start) - 2) + '"}'))
        frame = await answered(wire)
        assert reply in (frame["type"], frame.get("code"))
    await wire.shut()


async def test_frames_and_segments_need_not_match(server: RunningServer) -> None:
    wire = await mallory(server)
    frames = b"".join(text(f'{{"type":"ping","id":{number}}}') for number in range(300))
    wire.send(frames)
    assert [(await answered(wire))["id"] for _ in range(300)] == list(range(300))
    await wire.piecemeal(frames[:1000])
    wire.send(frames[1000:])
    assert [(await answered(wire))["id"] for _ in range(300)] == list(range(300))
    await wire.shut()


@pytest.mark.parametrize("path", [DOOR, "/ws", "/ws/rooms/r2/mallory", "/ws/heartbeat/mallory"])
async def test_binary_is_an_error_at_doors_for_text(server: RunningServer, path: str) -> None:
    wire = await mallory(server, path)
    for data in (b'{"type":"ping"}', b"", b"\xff" * 1000):
        wire.send(masked(Opcode.BINARY, data))
        assert (await answered(wire))["code"] == "bad_frame"
    await wire.shut()


# Memory


def deflate_bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=-15)
    packed = packer.compress(b"\0" * 50_000_000) + packer.flush(zlib.Z_SYNC_FLUSH)
    return masked(Opcode.TEXT, packed[:-4], rsv1=True)


UPGRADE = request(DOOR, Sec_WebSocket_Extensions="permessage-deflate")
ATTACKS = {
    "30 MB of a header": [b"GET / HTTP/1.1\r\nX: ", b"x" * 30_000_000],
    "30 MB of headers": [b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 5_000_000],
    "30 MB of trailers": [
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: ",
        b"x" * 30_000_000,
    ],
    "10^6 empty fragments": [
        UPGRADE, text("", fin=False), masked(Opcode.CONT, b"", fin=False) * 1_000_000
    ],
    "13 MB of pings": [UPGRADE, PING * 100_000],
    "a bomb": [UPGRADE, deflate_bomb()],
    "10^6 frames behind a close": [UPGRADE, close(1000), text("x") * 1_000_000],
}  # fmt: skip


async def test_no_attack_makes_the_process_grow(serve_process: ServeProcess) -> None:
    process = await serve_process(HUBBUB_COMPRESSION="true")
    await visit(process)  # what the first connection costs, for code and buffers, does not count
    before = process.memory()
    for name, parts in ATTACKS.items():
        most = before
        attacking = asyncio.gather(*(attack(process.port, parts) for _ in range(3)))
        while not attacking.done():
            most = max(most, process.memory())
            await asyncio.sleep(0.002)
        await attacking
        assert most - before < 8_000_000, name
        assert process.memory() - before < 4_000_000, name
    await visit(process)
    assert "Traceback" not in process.stderr


async def attack(port: int, parts: list[bytes]) -> None:
    wire = await Wire.connect(port)
    wire.send(*parts)
    assert await wire.rest()
    await wire.shut()


async def visit(process: ServerProcess) -> None:
    wire = await Wire.upgraded(process.port, DOOR)
    assert (await answered(wire))["type"] == "connected"
    await wire.shut()
