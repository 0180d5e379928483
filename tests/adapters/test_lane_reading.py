"""What a peer sends, on its way in: order, time, and how it ends."""

import asyncio

import pytest
from websockets.frames import Frame, Opcode
from websockets.speedups import apply_mask

from adapters.transport import lane, uvicorn_frames
from adapters.transport.fragments import MAX_FRAGMENTS
from tests.adapters.conftest import LaneServers
from tests.lane_server import LaneServer, Line
from tests.peer import until
from tests.wire import Wire, close, masked, request, text

PING = masked(Opcode.PING, b"?")


def echo(line: Line) -> None:
    line.receive = line.push


# From bytes to messages


async def test_every_kind_of_message_arrives_once_and_in_order(lanes: LaneServers) -> None:
    server = await lanes()
    wire, line = await server.open()
    sizes = (0, 1, 125, 126, 127, 4095, 4096, 65_535, 65_536, 200_000)
    messages: list[str | bytes] = []
    for size in sizes:
        messages += ["ä" * (size // 2), "x" * size, b"\xff" * size]
    for message in messages:
        if isinstance(message, str):
            await wire.sent(text(message))
        else:
            await wire.sent(masked(Opcode.BINARY, message))
    await until(lambda: len(line.received) == len(messages))
    assert line.received == messages


async def test_many_frames_may_share_a_segment(lanes: LaneServers) -> None:
    server = await lanes()
    wire, line = await server.open()
    await wire.sent(*(text(str(number)) for number in range(5000)))
    await until(lambda: len(line.received) == 5000)
    assert line.received == [str(number) for number in range(5000)]


async def test_a_frame_may_come_byte_by_byte(lanes: LaneServers) -> None:
    server = await lanes()
    wire, line = await server.open()
    frames = text("one") + text("two" * 50) + PING + masked(Opcode.BINARY, b"three") + text("four")
    await wire.piecemeal(frames)
    await until(lambda: len(line.received) == 4)
    assert line.received == ["one", "two" * 50, b"three", "four"]
    assert await wire.frames() == [(Opcode.PONG, b"?")]


@pytest.mark.parametrize("size", [2, 7, 100, 4096, 5000])
async def test_segments_end_anywhere(lanes: LaneServers, size: int) -> None:
    server = await lanes()
    wire, line = await server.open()
    messages = ["x" * (number * 37 % 700) for number in range(60)]
    await wire.piecemeal(b"".join(text(message) for message in messages), size)
    await until(lambda: len(line.received) == 60)
    assert line.received == messages


@pytest.mark.parametrize("length", [5, 200, 70_000])
async def test_what_looks_like_a_frame_within_a_frame_is_none(
    lanes: LaneServers, length: int
) -> None:
    server = await lanes()
    _, line = await server.open()
    mask, payload = b"\x81\x85\x81\x85", b"\x00" * length  # masked, all of it begins short texts
    frame = Frame(Opcode.TEXT, payload).serialize(mask=False)
    head = bytes((frame[0], frame[1] | 0x80)) + frame[2 : len(frame) - length]
    frame = head + mask + apply_mask(payload, mask)
    ends = range(1, min(len(frame), len(head) + 12))
    for end in ends:
        line.protocol.data_received(frame[:end])
        line.protocol.data_received(frame[end:])
    assert line.received == [payload.decode()] * len(ends)


async def test_a_message_has_so_many_fragments_and_no_more(lanes: LaneServers) -> None:
    server = await lanes()
    for kind, expected in ((Opcode.TEXT, "ä" * 32), (Opcode.BINARY, "ä".encode() * 32)):
        wire, line = await server.open()
        halves = [bytes((byte,)) for byte in "ä".encode() * (MAX_FRAGMENTS // 2)]
        first, *rest = halves
        *between, last = rest
        await wire.sent(
            masked(kind, first, fin=False),
            *(masked(Opcode.CONT, part, fin=False) for part in between),
            PING,
            masked(Opcode.CONT, last),
            text("next"),
        )
        await until(lambda line=line: len(line.received) == 2)  # type: ignore[misc]
        assert line.received == [expected, "next"]
        await wire.sent(
            masked(kind, b"x", fin=False), *[masked(Opcode.CONT, b"", fin=False)] * MAX_FRAGMENTS
        )
        found, code = await wire.ending()
        assert ([opcode for opcode, _ in found], code) == ([Opcode.PONG], 4004)
        assert len(line.received) == 2


@pytest.mark.parametrize(
    "frames",
    [
        [text(b"\xff")],
        [text(b"fine"), text(b"\xc3")],  # found on the way past the parser
        [text(b"x" * 70_000 + b"\xff")],
        [text(b"\xed\xa0\x80", fin=False)],  # a surrogate: told before the end
        [text(b"\xe2\x82", fin=False), masked(Opcode.CONT, b"\xac\xff", fin=False)],
        [text(b"\xe2\x82", fin=False), masked(Opcode.CONT, b"")],  # cut off
    ],
    ids=["whole", "behind a good one", "long", "first fragment", "second fragment", "cut off"],
)
async def test_text_that_is_not_utf8_ends_it(lanes: LaneServers, frames: list[bytes]) -> None:
    server = await lanes()
    wire, line = await server.open()
    await wire.sent(*frames)
    assert await wire.closed() == 1007
    await until(lambda: line.code is not None)
    assert line.code == 1006
    assert line.received in ([], ["fine"])


# Replies before the end


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (b"\xf1\x80\x00\x00\x00\x00", 1002),
        (b"\x81\x05hello", 1002),
        (text(b"\xff"), 1007),
        (masked(Opcode.BINARY, b"x" * 2049), 1009),
        (close(3000), 3000),
        (close(None), 1005),
    ],
    ids=["reserved bits", "unmasked", "no UTF-8", "too long", "close", "close without a code"],
)
async def test_what_came_before_the_end_is_answered_before_it(
    lanes: LaneServers, last: bytes, code: int
) -> None:
    server = await lanes(frame_limit=2048)
    server.on_line = echo
    wire, line = await server.open()
    await wire.sent(text("one"), masked(Opcode.BINARY, b"two"), PING, text("three"), last)
    found, closed = await wire.ending()
    assert closed == code
    assert sorted(found) == [(1, b"one"), (1, b"three"), (2, b"two"), (10, b"?")]
    await until(lambda: line.code is not None)
    assert line.code == (1006 if code in (1002, 1007, 1009) else code)


async def test_nothing_behind_the_end_is_read(lanes: LaneServers) -> None:
    server = await lanes()
    wire, line = await server.open()
    await wire.sent(text("one"), close(1000), text("two"), PING, close(4000))
    assert await wire.closed() == 1000
    await until(lambda: line.gone and line.code is not None)
    assert (line.received, line.code) == (["one"], 1000)


async def test_a_close_inside_a_fragmented_message_is_answered(lanes: LaneServers) -> None:
    server = await lanes()
    wire, line = await server.open()
    await wire.sent(text("half", fin=False), close(1000))
    assert await wire.closed() == 1000
    await until(lambda: line.gone and line.code is not None)
    assert (line.received, line.code) == ([], 1000)


async def test_whoever_sends_too_much_still_learns_why(lanes: LaneServers) -> None:
    """Closing with input unread would reset the connection, and take the close frame back."""
    server = await lanes(frame_limit=2048)
    wire, _ = await server.open()
    wire.send(masked(Opcode.BINARY, b"x" * 2_000_000))
    assert await wire.closed() == 1009
    assert not wire.was_reset


# Before anybody takes it


async def test_frames_may_come_before_the_handshake_is_answered(lanes: LaneServers) -> None:
    """A pong or a close must not overtake the answer either."""
    server = await lanes()
    server.let_in.clear()
    wire = await server.wire()
    await wire.sent(request("/"), PING, text("one"))
    await wire.piecemeal(text("two") + masked(Opcode.BINARY, b"three"), 3)
    server.let_in.set()
    assert (await wire.head()).startswith(b"HTTP/1.1 101 ")
    assert await wire.frames() == [(Opcode.PONG, b"?")]
    await until(lambda: bool(server.lines) and len(server.lines[0].received) == 3)
    assert server.lines[0].received == ["one", "two", b"three"]
    await wire.sent(text("four"))
    await until(lambda: len(server.lines[0].received) == 4)


async def test_frames_that_nobody_takes_yet_are_not_read(lanes: LaneServers) -> None:
    server = await lanes()
    server.narrow()
    server.let_run.clear()
    wire, line = await server.open(receive_buffer=4096)
    expected = [f"{number:050}" for number in range(20_000)]
    assert not await wire.takes(b"".join(map(text, expected)))
    assert line.protocol.events.qsize() < 1000
    assert len(line.protocol._held) < 300_000  # what one read may bring
    server.let_run.set()
    await until(lambda: len(line.received) == len(expected))
    assert line.received == expected


async def test_a_close_before_it_runs_comes_after_the_frames(lanes: LaneServers) -> None:
    server = await lanes()
    server.let_run.clear()
    wire, line = await server.open()
    await wire.sent(text("one"), text("two"), PING, text("three"), close(1000))
    server.let_run.set()
    found, code = await wire.ending()
    assert (found, code) == ([(Opcode.PONG, b"?")], 1000)
    await until(lambda: line.gone and line.code is not None)
    assert (line.received, line.code) == (["one", "two", "three"], 1000)


@pytest.mark.parametrize("early", [[], ["one"], ["one", "two"]], ids=str)
async def test_a_peer_that_vanishes_before_it_runs_is_a_1006(
    lanes: LaneServers, early: list[str]
) -> None:
    server = await lanes()
    server.let_run.clear()
    wire, line = await server.open()
    await wire.sent(*map(text, early))
    await asyncio.sleep(0.01)
    wire.reset()
    await asyncio.sleep(0.01)
    line.push("anybody?")
    server.let_run.set()
    await until(lambda: line.code is not None)
    assert line.code == 1006
    assert line.received == early[: len(line.received)]


async def test_a_peer_that_vanishes_before_the_answer_leaves_nothing(lanes: LaneServers) -> None:
    server = await lanes()
    server.let_in.clear()
    wire = await server.wire()
    await wire.sent(request("/"))
    await asyncio.sleep(0.01)
    wire.reset()
    await asyncio.sleep(0.01)
    server.let_in.set()
    _, line = await server.open()
    assert server.lines == [line]


# How it ends


async def test_the_answer_to_a_close_by_plain_asgi_is_read(lanes: LaneServers) -> None:
    server = await lanes()
    wire = await Wire.upgraded(server.port, "/refused")
    await wire.sent(text("what?"), close(4000))
    async with asyncio.timeout(5):  # uvicorn's own deadline is 10 s
        assert await wire.closed() == 4000
    await until(lambda: not server.connections())


async def behind_a_backlog(server: LaneServer, size: int) -> tuple[Wire, Line]:
    """A peer that does not take so many bytes."""
    server.narrow()
    wire, line = await server.open(receive_buffer=4096)
    line.push(b"x" * size)
    await until(lambda: not line.transport.idle)
    return wire, line


@pytest.mark.parametrize(
    ("last", "code"),
    [(close(1000), 1000), (b"\xf1\x80\x00\x00\x00\x00", 1006), (b"", 1006)],
    ids=["goodbye", "error", "half a connection"],
)
async def test_an_end_is_told_at_once_and_complete_at_the_deadline(
    lanes: LaneServers, monkeypatch: pytest.MonkeyPatch, last: bytes, code: int
) -> None:
    """A transport that is closing waits for its buffer: the session must not, and neither may the
    socket wait for ever."""
    monkeypatch.setattr(lane, "CLOSE_DEADLINE", 0.2)
    wire, line = await behind_a_backlog(server := await lanes(), 40_000)
    await wire.sent(last)
    if not last:
        wire.half_close()
    await until(lambda: line.code is not None)
    assert (line.code, line.gone) == (code, False)
    line.push("into the void")
    assert not line.transport.ping()
    await until(lambda: line.gone)
    assert await wire.rest()
    assert not server.failures


async def test_an_end_is_complete_at_the_deadline_though_the_peer_goes_on(
    lanes: LaneServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "CLOSE_DEADLINE", 0.2)
    server = await lanes()
    wire, line = await server.open()
    await wire.sent(b"\xf1\x80\x00\x00\x00\x00")
    await until(lambda: line.code is not None)
    while not line.gone:
        wire.send(text("and on"))
        await asyncio.sleep(0.01)
    assert line.received == []


async def test_what_a_peer_with_a_large_backlog_says_waits_until_it_has_read(
    lanes: LaneServers,
) -> None:
    wire, line = await behind_a_backlog(await lanes(limit=1 << 24), 500_000)
    await wire.sent(text("hello"), close(1000))
    await asyncio.sleep(0.05)
    assert (line.received, line.code) == ([], None)
    found, code = await wire.ending()
    assert ([len(data) for _, data in found], code) == ([500_000], 1000)
    await until(lambda: line.gone and line.code is not None)
    assert (line.received, line.code) == (["hello"], 1000)


async def test_a_reset_in_the_middle_of_a_frame(lanes: LaneServers) -> None:
    server = await lanes()
    wire, line = await server.open()
    await wire.sent(text("whole") + text("cut off")[:-1])
    await until(lambda: len(line.received) == 1)
    wire.reset()
    await until(lambda: line.gone and line.code is not None)
    assert (line.received, line.code) == (["whole"], 1006)


async def test_a_bug_in_what_receives_ends_this_connection_only(lanes: LaneServers) -> None:
    server = await lanes()
    server.on_line = echo
    other, _ = await server.open()
    for frame in (text("x"), masked(Opcode.BINARY, b"x")):
        wire, line = await server.open()

        def fail(message: str | bytes) -> None:
            raise ValueError("a bug")

        line.receive = fail
        await wire.sent(frame)
        await wire.rest()
        await until(lambda line=line: line.gone)  # type: ignore[misc]
        assert line.code == 1006
        (failure,) = server.failures
        assert isinstance(failure["exception"], ValueError)
        server.failures.clear()
    await other.sent(text("still here?"))
    assert await other.text() == "still here?"


# Time


async def test_a_fragmented_message_has_a_deadline(
    lanes: LaneServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_frames, "FRAGMENTS_DEADLINE", 0.1)
    server = await lanes()
    wire, line = await server.open()
    await wire.sent(text("in time", fin=False), masked(Opcode.CONT, b""))
    await until(lambda: line.received == ["in time"])
    await asyncio.sleep(0.15)
    await wire.sent(text("never", fin=False), PING)
    found, code = await wire.ending()
    assert (found, code) == ([(Opcode.PONG, b"?")], 4004)
    await until(lambda: line.gone)


async def test_no_deadline_passes_while_the_server_does_not_read(
    lanes: LaneServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_frames, "FRAGMENTS_DEADLINE", 0.1)
    server = await lanes(limit=1 << 26)
    server.narrow()
    wire, line = await server.open(receive_buffer=4096)
    await wire.sent(text("first ", fin=False))
    await until(lambda: line.protocol._fragment_timer is not None)
    line.push(b"x" * 500_000)
    await until(lambda: line.protocol.read_paused)
    await wire.sent(masked(Opcode.CONT, b"last"))
    await asyncio.sleep(0.3)
    assert line.code is None
    await wire.frames()
    await until(lambda: line.received == ["first last"])


async def test_more_pings_than_allowed_end_it(lanes: LaneServers) -> None:
    server = await lanes()
    server.on_line = echo
    wire, line = await server.open()
    await wire.sent(text("hello"), *[PING] * 10_000)
    found, code = await wire.ending()
    assert code == 4104
    assert (Opcode.TEXT, b"hello") in found
    assert len(found) < 1000
    await until(lambda: line.gone)


@pytest.mark.parametrize("pong", [b"", b"?"], ids=["ours", "another"])
async def test_more_pongs_than_allowed_end_it(lanes: LaneServers, pong: bytes) -> None:
    server = await lanes()
    wire, line = await server.open()
    await wire.sent(text("hello"), *[masked(Opcode.PONG, pong)] * 10_000, text("too late"))
    assert await wire.closed() == 4104
    await until(lambda: line.gone)
    assert line.received == ["hello"]


async def test_who_answers_pings_is_heard_and_takes_no_parser(lanes: LaneServers) -> None:
    server = await lanes()
    wire, line = await server.open()
    assert line.transport.ping()
    assert await wire.frames() == [(Opcode.PING, b"")]
    assert not line.transport.heard()
    pong = masked(Opcode.PONG)
    await wire.sent(pong, text("one"), pong, text("two"), pong)
    await until(lambda: len(line.received) == 2)
    assert line.received == ["one", "two"]
    assert line.transport.heard()
    assert line.protocol._frames is None


async def test_a_pong_may_stand_between_fragments(lanes: LaneServers) -> None:
    server = await lanes()
    wire, line = await server.open()
    rest = masked(Opcode.CONT, b"two")
    await wire.sent(text("one", fin=False), masked(Opcode.PONG), rest, masked(Opcode.PONG))
    await wire.sent(text("three"))
    await until(lambda: len(line.received) == 2)
    assert line.received == ["onetwo", "three"]


async def test_pings_in_moderation_are_answered(lanes: LaneServers) -> None:
    server = await lanes()
    wire, _ = await server.open()
    for number in range(int(uvicorn_frames.CONTROLS_BURST)):
        await wire.sent(masked(Opcode.PING, bytes((number,)) * number))
        assert await wire.frames() == [(Opcode.PONG, bytes((number,)) * number)]
