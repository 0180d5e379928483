"""Before the upgrade: what a request may cost, and what is a handshake."""

import asyncio

import pytest

from adapters.transport import uvicorn_http
from adapters.transport.handshake import accept_key, offered_subprotocols, switching
from adapters.transport.uvicorn_http import MAX_HEADER_BYTES, PARSED_AT_ONCE
from tests.adapters.conftest import LaneServers
from tests.peer import until
from tests.wire import KEY, NO_HANDSHAKES, Wire, close, request, text

GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
GARBAGE = b"x" * 65_536


def padded(head: bytes, size: int) -> bytes:
    """The same request with a header that brings it to that size."""
    start = head.removesuffix(b"\r\n") + b"X-Padding: "
    return start + b"p" * (size - len(start) - 4) + b"\r\n\r\n"


async def answer(wire: Wire) -> tuple[int, bytes]:
    """Status and body of the next answer."""
    head = await wire.head()
    lines = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:-2])
    return int(head.split()[1]), await wire.exactly(int(lines[b"content-length"]))


async def status_and_end(wire: Wire) -> int:
    """The status of an answer that is the last. It must arrive, whatever lies unread."""
    status, _ = await answer(wire)
    assert await wire.rest() == b""
    assert not wire.was_reset
    return status


# Sizes


@pytest.mark.parametrize("head", [GET, request("/")], ids=["request", "upgrade"])
async def test_headers_have_a_limit_to_the_byte(lanes: LaneServers, head: bytes) -> None:
    server = await lanes()
    wire = await server.wire()
    await wire.sent(padded(head, MAX_HEADER_BYTES))
    assert (await wire.head()).startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 101 "))
    wire = await server.wire()
    await wire.sent(padded(head, MAX_HEADER_BYTES + 1))
    assert await status_and_end(wire) == 431


@pytest.mark.parametrize(
    "start",
    [b"GET /", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\nX", CHUNKED + b"0\r\nX: ",
     CHUNKED + b"5\r\nhello\r\n1;x="],
    ids=["target", "value", "name", "trailer", "chunk extension"],
)  # fmt: skip
async def test_what_does_not_end_is_refused(lanes: LaneServers, start: bytes) -> None:
    server = await lanes()
    wire = await server.wire()
    wire.send(start, GARBAGE * 16)
    assert await status_and_end(wire) == 431
    await until(lambda: not server.connections())


async def test_many_small_headers_count_like_a_large_one(lanes: LaneServers) -> None:
    server = await lanes()
    for start in (b"GET / HTTP/1.1\r\n", CHUNKED + b"0\r\n"):
        wire = await server.wire()
        wire.send(start, b"a:b\r\n" * 100_000)
        assert await status_and_end(wire) == 431


async def test_the_limit_is_for_each_request(lanes: LaneServers) -> None:
    server = await lanes()
    wire = await server.wire()
    for _ in range(5):
        await wire.sent(padded(GET, MAX_HEADER_BYTES - 100))
        assert await answer(wire) == (200, b"0")
    wire.send(GET * 1000)
    for _ in range(1000):
        assert await answer(wire) == (200, b"0")


async def test_bodies_are_not_headers(lanes: LaneServers) -> None:
    server = await lanes()
    wire = await server.wire()
    wire.send(POST, b"Content-Length: 3000000\r\n\r\n", b"x" * 3_000_000)
    assert await answer(wire) == (200, b"3000000")
    wire.send(CHUNKED, b"30d40\r\n" + b"x" * 200_000 + b"\r\n", b"0\r\nX: y\r\n\r\n")
    assert await answer(wire) == (200, b"200000")
    wire.send(CHUNKED, b"1\r\nx\r\n" * 20_000, b"0\r\n\r\n", GET)
    assert await answer(wire) == (200, b"20000")
    assert await answer(wire) == (200, b"0")


async def test_requests_that_wait_for_their_turn_are_few(lanes: LaneServers) -> None:
    """Each costs a hundred times its bytes once it is parsed."""
    server = await lanes()
    server.narrow()
    wire = await server.wire(receive_buffer=4096)
    get = b"GET /100 HTTP/1.1\r\n\r\n"
    assert not await wire.takes(get * 60_000)
    (protocol,) = server.protocols()
    for _ in range(20):
        assert await answer(wire) == (200, b"x" * 100 + b"0")
        assert len(protocol.pipeline) < 100
        assert len(protocol._held) < 300_000
    for _ in range(5000 - 20):
        assert await answer(wire) == (200, b"x" * 100 + b"0")


async def test_requests_may_have_bodies_and_wait(lanes: LaneServers) -> None:
    server = await lanes()
    wire = await server.wire()
    sizes = [number * 37 % 5000 for number in range(300)]
    wire.send(*(POST + b"Content-Length: %d\r\n\r\n" % size + b"x" * size for size in sizes))
    await wire.sent(GET[:10])
    for size in sizes:
        assert await answer(wire) == (200, str(size).encode())
    await wire.sent(GET[10:])
    assert await answer(wire) == (200, b"0")


async def test_what_waited_behind_requests_is_gone_on_with(lanes: LaneServers) -> None:
    server = await lanes()
    server.let_answer.clear()
    wire = await server.wire()
    await wire.sent(padded(GET, PARSED_AT_ONCE // 2) * 2, GET[:10])
    (protocol,) = server.protocols()
    await until(lambda: protocol._held == GET[:10])
    server.let_answer.set()
    for _ in range(2):
        assert await answer(wire) == (200, b"0")
    await wire.sent(GET[10:])
    assert await answer(wire) == (200, b"0")


# Deadlines


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for deadline in ("HEADER_DEADLINE", "BODY_DEADLINE", "READ_DEADLINE"):
        monkeypatch.setattr(uvicorn_http, deadline, 0.2)


async def drip(wire: Wire, data: bytes) -> None:
    """A byte now and then, until the server has had enough."""
    while not wire.was_reset:
        wire.send(data)
        await asyncio.sleep(0.02)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"", b""),
        (b"", b"\r\n"),
        (b"GET / HTTP/1.1\r\n", b"X: y\r\n"),
        (GET, b"\r\n"),
        (GET, b"G"),
        (request("/")[:-2], b""),
        (POST + b"Content-Length: 1000000\r\n\r\n", b"x"),
        (CHUNKED, b"1\r\nx\r\n"),
    ],
    ids=[
        "nothing", "empty lines", "headers", "empty lines after a request", "a second request",
        "half a handshake", "a body", "chunks",
    ],
)  # fmt: skip
async def test_whoever_takes_too_long_is_sent_away(
    lanes: LaneServers, start: bytes, more: bytes
) -> None:
    server = await lanes()
    wire = await server.wire()
    await wire.sent(start)
    if start == GET:
        assert await answer(wire) == (200, b"0")
    dripping = asyncio.create_task(drip(wire, more))
    assert (await answer(wire))[0] in (408, 400)
    dripping.cancel()
    await wire.rest()
    await until(lambda: not server.connections())


@pytest.mark.usefixtures("hasty")
async def test_deadlines_are_nothing_to_who_keeps_them(lanes: LaneServers) -> None:
    server = await lanes()
    wire = await server.wire()
    for _ in range(3):
        await wire.sent(GET[:10])
        await asyncio.sleep(0.1)
        await wire.sent(GET[10:])
        assert await answer(wire) == (200, b"0")
        await asyncio.sleep(0.3)  # between requests uvicorn's own time counts
    await wire.sent(request("/"))
    assert (await wire.head()).startswith(b"HTTP/1.1 101 ")
    await asyncio.sleep(0.3)
    await wire.sent(text("still here"))
    await until(lambda: server.lines[0].received == ["still here"])


@pytest.mark.usefixtures("hasty")
async def test_no_deadline_passes_while_the_server_does_not_read(lanes: LaneServers) -> None:
    server = await lanes()
    server.let_answer.clear()
    wire = await server.wire()
    wire.send(POST, b"Content-Length: 3000000\r\n\r\n", b"x" * 3_000_000)
    await asyncio.sleep(0.5)
    server.let_answer.set()
    assert await answer(wire) == (200, b"3000000")


@pytest.mark.usefixtures("hasty")
async def test_a_response_that_nobody_reads_is_dropped(lanes: LaneServers) -> None:
    server = await lanes()
    server.narrow()
    wire = await server.wire(receive_buffer=4096)
    await wire.sent(b"GET /40000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    await until(lambda: not server.connections())
    assert len(await wire.rest()) < 40_000


async def test_who_was_refused_is_listened_to_no_longer_than_that(
    lanes: LaneServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_http, "REFUSED_DEADLINE", 0.2)
    server = await lanes()
    wire = await server.wire()
    await wire.sent(b"nonsense\r\n\r\n")
    dripping = asyncio.create_task(drip(wire, b"more of it\r\n"))
    assert (await answer(wire))[0] == 400
    await until(lambda: not server.connections())
    dripping.cancel()
    await asyncio.wait({dripping})


# Not HTTP


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS hello
        b"GET /\xff HTTP/1.1\r\n\r\n",
        request("/\xc3\xa4"),
        b"CONNECT 127.0.0.1:80 HTTP/1.1\r\n\r\n",
        POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nhello",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
        POST + b"Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n\r\nhello",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length : 5\r\n\r\nhello",
        b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: \x00\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        CHUNKED + b"zz\r\n",
    ],
)  # fmt: skip
async def test_what_is_no_request_is_a_400(lanes: LaneServers, garbage: bytes) -> None:
    server = await lanes()
    wire = await server.wire()
    await wire.sent(garbage)
    assert await status_and_end(wire) == 400


async def test_an_error_is_not_the_answer_to_an_earlier_request(lanes: LaneServers) -> None:
    server = await lanes()
    server.let_answer.clear()
    wire = await server.wire()
    await wire.sent(GET, b"nonsense\r\n\r\n")
    assert await wire.rest() == b""


async def test_an_error_is_the_only_answer(
    lanes: LaneServers, caplog: pytest.LogCaptureFixture
) -> None:
    """To a request that the application was about to answer."""
    server = await lanes()
    server.let_answer.clear()
    wire = await server.wire()
    await wire.sent(CHUNKED.replace(b"/", b"/deaf", 1), b"zz\r\n")
    assert (await answer(wire))[0] == 400
    server.let_answer.set()
    assert await wire.rest() == b""
    await until(lambda: not server.connections())
    assert "Traceback" not in caplog.text


# The handshake


@pytest.mark.parametrize("changed", NO_HANDSHAKES, ids=str)
async def test_what_is_no_handshake_is_refused_with_the_version(
    lanes: LaneServers, changed: dict[str, str]
) -> None:
    server = await lanes()
    wire = await server.wire()
    await wire.sent(request("/", **changed))
    head = await wire.head()
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in head
    await wire.rest()
    assert server.lines == []


@pytest.mark.parametrize(
    "twice", ["Sec-WebSocket-Key: " + KEY.decode(), "Sec-WebSocket-Version: 13"]
)
async def test_what_a_handshake_has_once_it_may_not_have_twice(
    lanes: LaneServers, twice: str
) -> None:
    server = await lanes()
    wire = await server.wire()
    await wire.sent(request("/", twice))
    assert (await answer(wire))[0] == 400


async def test_a_handshake_behind_a_request_waits_for_nobody(lanes: LaneServers) -> None:
    """Its answer would land in the middle of the other: whoever does that is cut off."""
    server = await lanes()
    wire = await server.wire()
    await wire.sent(CHUNKED + b"0\r\n\r\n" + request("/"))
    received = await wire.rest()
    assert b"101" not in received
    assert server.lines == []


async def test_a_handshake_after_a_response_is_fine(lanes: LaneServers) -> None:
    server = await lanes()
    wire = await server.wire()
    await wire.sent(GET)
    assert await answer(wire) == (200, b"0")
    hasty = [str(number) for number in range(1000)]
    await wire.sent(request("/"), *map(text, hasty), close(1000))
    assert (await wire.head()).startswith(b"HTTP/1.1 101 ")
    assert await wire.closed() == 1000
    await until(lambda: server.lines[0].gone)
    assert server.lines[0].received == hasty


async def test_another_upgrade_is_answered_and_nothing_behind_it_is_read(
    lanes: LaneServers,
) -> None:
    """What follows may be no HTTP: taken for a request it would be a smuggled one."""
    server = await lanes()
    upgrade = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
    for smuggled in (GET, b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
        wire = await server.wire()
        await wire.sent(POST + upgrade + b"Content-Length: %d\r\n\r\n" % len(GET) + smuggled)
        await wire.sent(GET)
        assert await answer(wire) == (200, b"0")
        async with asyncio.timeout(4):  # uvicorn keeps others for 5 s
            assert await wire.rest() == b""


def test_the_key_of_the_rfc() -> None:
    headers = [
        (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        (b"sec-websocket-version", b"13"),
    ]
    assert accept_key(b"GET", "1.1", headers) == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert accept_key(b"GET", "1.1", [*headers, (b"content-length", b"0")]) is not None


def test_subprotocols_are_listed_in_the_order_of_the_client() -> None:
    headers = [
        (b"sec-websocket-protocol", b"hubbub.v1, bearer.x"),
        (b"host", b"x"),
        (b"sec-websocket-protocol", b" third "),
    ]
    assert offered_subprotocols(headers) == ["hubbub.v1", "bearer.x", "third"]
    assert offered_subprotocols([]) == []


def test_the_answer_says_what_was_chosen() -> None:
    plain = switching(b"proof", None, None)
    assert plain.startswith(b"HTTP/1.1 101 ")
    assert plain.endswith(b"Sec-WebSocket-Accept: proof\r\n\r\n")
    full = switching(b"proof", "hubbub.v1", b"permessage-deflate")
    assert b"\r\nSec-WebSocket-Protocol: hubbub.v1\r\n" in full
    assert full.endswith(b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
