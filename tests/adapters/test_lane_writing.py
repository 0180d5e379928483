"""What goes out: every byte once and in order, to the right socket, whatever the peer does."""

import asyncio
import os
import random
import ssl
from collections.abc import Iterator
from functools import partial

import pytest
from websockets.frames import Opcode

from adapters.transport import lane, uvicorn_http, uvicorn_ws
from application.disconnects import FORBIDDEN, SLOW
from tests.adapters.conftest import LaneServers
from tests.lane_server import LaneServer, Line, framed, tls_for
from tests.peer import until
from tests.wire import Wire, close, masked, request, text

Cert = tuple[str, str]


@pytest.fixture(params=["tcp", "tls"])
def secure(request: pytest.FixtureRequest, cert: Cert) -> Cert | None:
    return cert if request.param == "tls" else None


def trust(cert: Cert | None) -> ssl.SSLContext | None:
    return None if cert is None else tls_for(cert)


async def slow_reader(server: LaneServer, tls: ssl.SSLContext | None = None) -> tuple[Wire, Line]:
    server.narrow()
    return await server.open(receive_buffer=4096, tls=tls)


async def clogged(server: LaneServer, size: int = 200_000) -> tuple[Wire, Line]:
    """A peer that does not read, and a message of that size for it."""
    wire, line = await slow_reader(server)
    line.push(b"x" * size)
    await until(lambda: not line.transport.idle)
    return wire, line


# Order


def chatter(seed: int) -> Iterator[list[bytes]]:
    """Messages turn by turn, numbered, of all sizes."""
    dice = random.Random(seed)
    number = 0
    for _ in range(60):
        turn = []
        for _ in range(dice.choice((1, 1, 2, 30))):
            size = dice.choice((0, 1, 100, 125, 126, 3000, 70_000))
            turn.append(b"%06d" % number + bytes((number % 256,)) * size)
            number += 1
        yield turn


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_slow_reader_gets_every_byte_in_order(
    lanes: LaneServers, secure: Cert | None, seed: int
) -> None:
    server = await lanes(limit=1 << 28, cert=secure)
    wire, line = await slow_reader(server, trust(secure))
    expected = [message for turn in chatter(seed) for message in turn]
    dice = random.Random(seed)

    async def talk() -> None:
        for turn in chatter(seed):
            for message in turn:
                line.push(message)
            if dice.random() < 0.3:
                line.transport.ping()
            while not line.transport.ready and dice.random() < 0.9:  # noqa: ASYNC110 - a coin is tossed each turn, there is no event
                await asyncio.sleep(0)  # sometimes go on, sometimes give it time
            await asyncio.sleep(0)

    talking = asyncio.create_task(talk())
    found: list[bytes] = []
    while len(found) < len(expected):
        ((opcode, data),) = await wire.frames()
        if opcode == Opcode.BINARY:
            found.append(data)
        else:
            assert (opcode, data) == (Opcode.PING, b"")
    await talking
    assert found == expected
    await until(lambda: line.transport.idle and not line.transport.backlog)


async def test_what_waits_from_before_the_handshake_goes_first(
    lanes: LaneServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the rest of an HTTP response before it on the same connection."""
    monkeypatch.setattr(uvicorn_http, "READ_DEADLINE", 0.2)
    server = await lanes()
    server.narrow()
    server.on_line = lambda line: line.push("first frame")
    wire = await server.wire(receive_buffer=4096)
    wire.send(b"GET /300000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert b"content-length: 300001" in await wire.head()
    wire.send(request("/"))
    assert len(await wire.exactly(300_001)) == 300_001
    assert (await wire.head()).startswith(b"HTTP/1.1 101 ")
    assert await wire.text() == "first frame"
    await asyncio.sleep(0.3)  # a deadline of HTTP is none of a WebSocket
    wire.send(close())
    assert await wire.closed() == 1000


# System calls and descriptors


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Descriptor and size of each direct write."""
    calls: list[tuple[int, int]] = []
    write = os.write

    def noting(fd: int, data: bytes) -> int:
        calls.append((fd, len(data)))
        return write(fd, data)

    monkeypatch.setattr("adapters.transport.lane.os.write", noting)
    return calls


async def test_the_frames_of_one_turn_are_one_write(
    lanes: LaneServers, written: list[tuple[int, int]]
) -> None:
    server = await lanes()
    wire, line = await server.open()
    for number in range(100):
        line.push(f"{number:03}")
    assert await wire.frames(100) == [(Opcode.TEXT, b"%03d" % number) for number in range(100)]
    assert [size for _, size in written] == [500]


async def test_what_is_said_at_once_goes_out_with_the_answer_to_the_upgrade(
    lanes: LaneServers, written: list[tuple[int, int]]
) -> None:
    server = await lanes()
    server.on_line = lambda line: line.push("welcome")
    wire, line = await server.open()
    assert await wire.text() == "welcome"
    assert written == []
    line.push("more")
    assert await wire.text() == "more"
    assert [size for _, size in written] == [6]


async def test_an_answer_to_the_upgrade_that_was_not_written_yet_comes_before_the_end(
    lanes: LaneServers, secure: Cert | None
) -> None:
    server = await lanes(cert=secure)
    server.on_line = lambda line: line.protocol.shutdown()
    wire, _ = await server.open(tls=trust(secure))  # reads the answer
    assert await wire.closed() == 1012


async def test_tls_is_not_written_past(
    lanes: LaneServers, written: list[tuple[int, int]], cert: Cert
) -> None:
    server = await lanes(cert=cert)
    wire, line = await server.open(tls=tls_for(cert))
    for number in range(20):
        line.push(str(number))
        assert await wire.text() == str(number)
        assert line.transport.idle  # nothing waits, so nothing may look as if it did
    assert written == []


async def test_where_sockets_are_no_files_none_is_written_to(
    lanes: LaneServers, written: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_ws, "_SOCKETS_ARE_NO_FILES", True)
    server = await lanes()
    wire, line = await server.open()
    line.push("hello")
    assert await wire.text() == "hello"
    assert written == []


async def test_a_descriptor_is_never_written_to_after_its_connection(lanes: LaneServers) -> None:
    """Connections come and go while everybody is written to: nobody gets what is another's."""
    server = await lanes()
    over = False

    async def visit(name: int) -> int:
        dice, heard = random.Random(name), 0
        for number in range(12):
            path = f"/{name}.{number}"
            wire = await Wire.upgraded(server.port, path)
            for _ in range(dice.randrange(6)):
                assert await wire.text() == path
                heard += 1
            ending = dice.choice((wire.reset, wire.half_close, partial(wire.send, close())))
            ending()
            if dice.random() < 0.5:
                found, _ = await wire.ending()
                assert {data for opcode, data in found if opcode == 1} <= {path.encode()}
            await wire.shut()
        return heard

    async def talk() -> None:
        while not over:
            for line in server.lines:  # those that are gone as well
                line.push(line.path)
            await asyncio.sleep(0)

    talking = asyncio.create_task(talk())
    heard = await asyncio.gather(*(visit(name) for name in range(10)))
    over = True
    await talking
    assert sum(heard) > 100
    assert len(server.lines) == 120


async def test_a_push_in_the_last_turn_of_a_connection_hits_nobody(
    lanes: LaneServers, written: list[tuple[int, int]]
) -> None:
    server = await lanes()
    wire, line = await server.open()
    other, _ = await server.open()
    lost = line.protocol.connection_lost

    def push_and_lose(exc: Exception | None) -> None:
        line.push("too late")
        lost(exc)
        line.transport.flush()

    line.protocol.connection_lost = push_and_lose  # type: ignore[method-assign]
    wire.reset()
    await until(lambda: line.code is not None)
    await asyncio.sleep(0)
    assert written == []
    other.send(close())
    assert await other.closed() == 1000


async def test_a_bug_on_one_connection_strands_no_other(
    lanes: LaneServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await lanes()
    opened = [await server.open(f"/{number}") for number in range(5)]
    broken = opened[2][1]

    write, buggy = os.write, broken.protocol.socket_fd()

    def fail(fd: int, frames: bytes) -> int:
        if fd == buggy:
            raise ValueError("a bug")
        return write(fd, frames)

    monkeypatch.setattr(os, "write", fail)
    for word in ("one", "two"):
        for _, line in opened:
            line.push(word)
        for wire, line in opened:
            if line is not broken:
                assert await wire.text() == word
    assert {str(failure["exception"]) for failure in server.failures} == {"a bug"}
    server.failures.clear()
    monkeypatch.undo()


# Back pressure


async def test_a_peer_that_does_not_read_is_not_read_from(lanes: LaneServers) -> None:
    server = await lanes(limit=1 << 24)
    wire, line = await clogged(server, 500_000)
    assert not await wire.takes(b"".join(text("x" * 1000) for _ in range(600)))
    assert line.received == []
    assert [len(data) for _, data in await wire.frames()] == [500_000]
    await until(lambda: len(line.received) == 600)


async def test_pongs_to_a_peer_that_does_not_read_are_bounded(
    lanes: LaneServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await lanes(limit=1 << 24)
    wire, line = await clogged(server, 40_000)
    monkeypatch.setattr(line.protocol, "_controls", Patience())
    assert not await wire.takes(masked(Opcode.PING, b"p" * 125) * 5000)
    assert line.protocol.buffered < 200_000


class Patience:
    """A limit that is never reached."""

    def take(self, now: float) -> float:
        return 0.0


async def test_what_one_turn_brings_is_not_held_against_the_peer(lanes: LaneServers) -> None:
    server = await lanes(limit=50_000)
    wire, line = await server.open()
    for _ in range(20):
        line.push(b"x" * 10_000)
    assert len(await wire.frames(20)) == 20
    assert line.told == []


async def test_the_limit_holds_before_it_runs(lanes: LaneServers) -> None:
    server = await lanes(limit=300_000)
    server.let_run.clear()
    _, line = await slow_reader(server)
    for _ in range(100):
        line.push(b"x" * 10_000)
        await asyncio.sleep(0)
    assert line.told == ["overflowed"]
    assert 250_000 < line.transport.backlog < 320_000


async def test_a_peer_is_alive_if_it_takes_something(lanes: LaneServers) -> None:
    """While it is not read from, nothing else can be a sign of life."""
    server = await lanes(limit=1 << 24)
    wire, line = await clogged(server, 500_000)
    line.transport.heard()
    assert not line.transport.heard()
    line.push(b"more")
    await asyncio.sleep(0)
    assert not line.transport.heard()
    left = line.transport.backlog
    reading = asyncio.create_task(wire.frames())
    await until(lambda: line.transport.backlog < left)
    line.push(b"y" * 500_000)  # it need not get less
    await asyncio.sleep(0)
    assert line.transport.heard()
    await reading
    await wire.frames(2)
    await until(lambda: line.transport.idle)
    line.transport.heard()
    line.push("into the kernel's buffer")
    assert line.transport.ping()
    await asyncio.sleep(0)
    assert not line.transport.heard()


async def test_a_slow_peer_that_was_cut_off_still_reads_why(lanes: LaneServers) -> None:
    server = await lanes(limit=100_000)
    wire, line = await clogged(server, 200_000)
    await until(lambda: line.told == ["overflowed"])
    line.push("not any more")
    line.transport.close(SLOW, framed("farewell"), discard=True)
    (_, first), *rest = await wire.frames(3)
    assert len(first) == 200_000
    assert [data[:8] for _, data in rest] == [b"farewell", SLOW.code.to_bytes(2) + b"too sl"]
    wire.send(close(SLOW.code))
    await until(lambda: line.gone)


# The end


@pytest.mark.parametrize("answers", [True, False])
async def test_our_close_ends_with_the_answer_or_at_the_deadline(
    lanes: LaneServers, monkeypatch: pytest.MonkeyPatch, secure: Cert | None, answers: bool
) -> None:
    if not answers:
        monkeypatch.setattr(lane, "CLOSE_DEADLINE", 0.1)
    server = await lanes(cert=secure)
    wire, line = await server.open(tls=trust(secure))
    line.push("one")
    line.transport.close(FORBIDDEN, framed("two"), discard=False)
    line.push("three")
    assert [data for _, data in await wire.frames(3)] == [
        b"one",
        b"two",
        FORBIDDEN.code.to_bytes(2) + FORBIDDEN.reason.encode(),
    ]
    wire.send(text("what?"))
    if answers:
        wire.send(close(FORBIDDEN.code))
    await until(lambda: line.code is not None)
    assert line.code == (FORBIDDEN.code if answers else 1006)
    assert line.received == []
    await wire.rest()
    await until(lambda: line.gone)


async def test_a_close_may_come_before_it_runs(lanes: LaneServers) -> None:
    server = await lanes()

    def turn_away(line: Line) -> None:
        line.transport.close(FORBIDDEN, framed("no"), discard=False)

    server.on_line = turn_away
    wire, line = await server.open()
    assert await wire.text() == "no"
    wire.send(close(FORBIDDEN.code))
    assert await wire.closed() == FORBIDDEN.code
    await until(lambda: line.code is not None)
    assert line.code == FORBIDDEN.code


async def test_a_stop_of_the_server_waits_for_nobody(
    lanes: LaneServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "CLOSE_DEADLINE", 0.1)
    server = await lanes(limit=1 << 24)
    wire, line = await clogged(server)
    line.protocol.shutdown()
    await until(lambda: line.code is not None)
    assert line.code == 1006
    await wire.rest()
