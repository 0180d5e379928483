"""permessage-deflate: what is agreed, what is accepted, and what a bomb costs."""

import tracemalloc
import zlib

import pytest
from websockets.frames import Opcode

from adapters.transport.compression import negotiate
from application.compressed import WINDOW_BITS, deflated
from application.framing import text_frame
from tests.adapters.conftest import LaneServers
from tests.lane_server import LaneServer, Line
from tests.peer import until
from tests.wire import Wire, masked, request

OFFER = "permessage-deflate; client_max_window_bits"
COMPRESSED_TEXT = 0x41  # opcode 1 with RSV1


def compress(data: bytes, *, bits: int = 15) -> bytes:
    deflate = zlib.compressobj(9, wbits=-bits)
    return (deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(
        b"\x00\x00\xff\xff"
    )


def inflate(data: bytes) -> bytes:
    return zlib.decompress(data + b"\x00\x00\xff\xff\x03\x00", wbits=-WINDOW_BITS)


async def agreed(server: LaneServer) -> tuple[Wire, Line]:
    return await server.open(Sec_WebSocket_Extensions=OFFER)


# Agreement


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", ""),
        (OFFER, ""),
        ("permessage-deflate; client_max_window_bits=10", "; client_max_window_bits=10"),
        ("permessage-deflate; server_no_context_takeover", ""),
        (f"permessage-deflate; server_max_window_bits={WINDOW_BITS}", ""),
        ("permessage-deflate; server_max_window_bits=15", ""),
        ("permessage-deflate; server_max_window_bits=9, permessage-deflate", ""),
        ("x-unknown, permessage-deflate; nonsense, permessage-deflate", ""),
        ("", None),
        ("x-unknown", None),
        ("permessage-deflate; server_max_window_bits=9", None),
        ("permessage-deflate; server_max_window_bits=99", None),
        ("permessage-deflate; nonsense", None),
        ('permessage-deflate; "', None),
        ("," * 8000, None),
    ],
)
def test_an_offer_is_accepted_if_the_shared_frames_suit_it(offer: str, answer: str | None) -> None:
    headers = [(b"host", b"x"), (b"sec-websocket-extensions", offer.encode())]
    found = negotiate(headers)
    if answer is None:
        assert found is None
        return
    assert found is not None
    common = "server_no_context_takeover; client_no_context_takeover; server_max_window_bits="
    assert found[0].decode() == f"permessage-deflate; {common}{WINDOW_BITS}{answer}"


@pytest.mark.parametrize("on", [True, False])
async def test_it_is_agreed_on_only_where_it_is_switched_on(lanes: LaneServers, on: bool) -> None:
    server = await lanes(compression=on)
    wire = await server.wire()
    await wire.sent(request("/", Sec_WebSocket_Extensions=OFFER))
    assert (b"\r\nSec-WebSocket-Extensions: permessage-deflate; " in await wire.head()) == on
    await until(lambda: bool(server.lines))
    assert server.lines[0].transport.compressed == on
    _, plain = await server.open()
    assert not plain.transport.compressed


# Frames


async def test_compressed_and_plain_frames_may_alternate(lanes: LaneServers) -> None:
    server = await lanes(compression=True)
    wire, line = await agreed(server)
    data = b"ho " * 5000
    await wire.sent(
        masked(Opcode.TEXT, compress(data), rsv1=True),
        masked(Opcode.TEXT, data),
        masked(Opcode.BINARY, compress(b""), rsv1=True),
        masked(Opcode.TEXT, compress(data)[:20], rsv1=True, fin=False),
        masked(Opcode.PING, b"?"),
        masked(Opcode.CONT, compress(data)[20:]),
    )
    await until(lambda: len(line.received) == 4)
    assert line.received == [data.decode(), data.decode(), b"", data.decode()]
    assert await wire.frames() == [(Opcode.PONG, b"?")]

    line.transport.push(deflated(text_frame(data)) + text_frame(b"plain"))
    (first, sent), second = await wire.frames(2)
    assert (first, inflate(sent)) == (COMPRESSED_TEXT, data)
    assert second == (Opcode.TEXT, b"plain")


async def test_no_window_is_kept_on_either_side(lanes: LaneServers) -> None:
    server = await lanes(compression=True)
    wire, line = await agreed(server)
    deflate = zlib.compressobj(wbits=-15)
    parts = [deflate.compress(b"one" * 20) + deflate.flush(zlib.Z_SYNC_FLUSH) for _ in range(2)]
    await wire.sent(*(masked(Opcode.TEXT, part[:-4], rsv1=True) for part in parts))
    assert await wire.closed() == 1002  # the second one refers to the first
    assert line.received == ["one" * 20]


@pytest.mark.parametrize(
    "frame",
    [
        masked(Opcode.TEXT, b"\xff\xff\xff\xff", rsv1=True),
        masked(Opcode.PING, b"", rsv1=True),
        masked(Opcode.TEXT, compress(b"x"), rsv1=True, fin=False)
        + masked(Opcode.CONT, b"", rsv1=True),
    ],
    ids=["no deflate", "a control frame", "a continuation"],
)
async def test_what_is_not_compressed_well_ends_it(lanes: LaneServers, frame: bytes) -> None:
    server = await lanes(compression=True)
    wire, line = await agreed(server)
    await wire.sent(frame)
    assert await wire.closed() == 1002
    await until(lambda: line.gone)


async def test_nothing_is_compressed_that_was_not_agreed_on(lanes: LaneServers) -> None:
    server = await lanes(compression=True)
    wire, _ = await server.open()
    await wire.sent(masked(Opcode.TEXT, compress(b"x"), rsv1=True))
    assert await wire.closed() == 1002


async def test_compressed_text_must_be_utf8_too(lanes: LaneServers) -> None:
    server = await lanes(compression=True)
    wire, _ = await agreed(server)
    await wire.sent(masked(Opcode.TEXT, compress(b"\xff" * 100), rsv1=True))
    assert await wire.closed() == 1007


# Bombs


@pytest.mark.parametrize("fragments", [1, 2, 8])
async def test_a_bomb_is_not_unpacked_further_than_the_limit(
    lanes: LaneServers, fragments: int
) -> None:
    server = await lanes(compression=True, frame_limit=65_536)
    bomb = compress(b"\0" * 50_000_000)
    assert len(bomb) < 60_000
    size = len(bomb) // fragments + 1
    parts = [bomb[start : start + size] for start in range(0, len(bomb), size)]
    frames = [
        masked(
            Opcode.CONT if number else Opcode.BINARY,
            part,
            fin=number == len(parts) - 1,
            rsv1=not number,
        )
        for number, part in enumerate(parts)
    ]
    tracemalloc.start()
    try:
        for _ in range(5):
            wire, line = await agreed(server)
            await wire.sent(*frames)
            assert await wire.closed() == 1009
            await until(lambda line=line: line.gone)  # type: ignore[misc]
            assert line.received == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000


async def test_the_limit_is_for_what_comes_out(lanes: LaneServers) -> None:
    server = await lanes(compression=True, frame_limit=65_536)
    wire, line = await agreed(server)
    await wire.sent(masked(Opcode.TEXT, compress(b"x" * 65_536), rsv1=True))
    await until(lambda: line.received == ["x" * 65_536])
    await wire.sent(masked(Opcode.TEXT, compress(b"x" * 65_537), rsv1=True))
    assert await wire.closed() == 1009
