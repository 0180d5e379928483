"""What every transport promises: order, a backlog counted in bytes, and an end that is told."""

import asyncio

import pytest

from application.disconnects import FORBIDDEN, SLOW
from application.framing import text_frame
from tests.contract.conftest import (
    TRANSPORTS,
    AsgiHarness,
    TransportHarness,
    framed,
    some_turns,
)
from tests.peer import until

# Payloads where the length field of a frame changes its size, and what is not ASCII.
PAYLOADS: list[str | bytes] = [
    "", "x", "x" * 125, "y" * 126, "ä€😀" * 20, "z" * 65_535, "z" * 65_536,
    b"", b"\x00\xff", b"\x81\x01x" * 50, b"\xff" * 70_000,
]  # fmt: skip
FAREWELL = text_frame(b'{"type":"disconnect"}')


def fill(line: TransportHarness) -> None:
    """Push twice the limit."""
    for number in range(32):
        line.push(f"{number:03}" + "x" * (line.limit // 16))


# Order


async def test_messages_arrive_as_they_were_pushed(line: TransportHarness) -> None:
    line.run()
    for payload in PAYLOADS:
        line.push(payload)
        await line.peer_got(len(line.got) + 1)
    assert line.got == PAYLOADS


async def test_messages_of_one_turn_keep_their_order(line: TransportHarness) -> None:
    line.run()
    line.push(*(f"{number}" for number in range(500)))
    assert await line.peer_got(500) == [f"{number}" for number in range(500)]


async def test_a_push_may_hold_many_frames(line: TransportHarness) -> None:
    line.run()
    line.push("first")
    line.push_frames(b"".join(framed(payload) for payload in PAYLOADS[:8]))
    line.push("last")
    assert await line.peer_got(10) == ["first", *PAYLOADS[:8], "last"]


async def test_what_is_pushed_before_it_runs_is_not_lost(line: TransportHarness) -> None:
    line.push("early", "too")
    await asyncio.sleep(0)
    line.push("later")
    line.run()
    line.push("live")
    assert await line.peer_got(4) == ["early", "too", "later", "live"]


async def test_a_peer_that_reads_on_gets_everything_in_order(line: TransportHarness) -> None:
    line.run()
    await line.clog()
    before = len(line.got)
    line.push(*(f"{number}" for number in range(200)))
    await asyncio.sleep(0)
    line.push(*(f"{number}" for number in range(200, 400)))
    line.unblock()
    await until(lambda: line.got[-1:] == ["399"])
    waiting = [message for message in line.got[before:] if "clog" not in message]
    assert waiting == [f"{number}" for number in range(400)]
    assert line.told.overflows == 0


# Backlog


async def test_what_the_peer_took_is_no_backlog(line: TransportHarness) -> None:
    line.run()
    line.push("x" * 1000)
    await line.peer_got(1)
    await until(lambda: line.transport.backlog == 0)
    assert line.transport.ready
    assert line.transport.idle


async def test_the_backlog_is_counted_in_bytes(line: TransportHarness) -> None:
    line.run()
    await line.clog()
    before = line.transport.backlog
    line.push("😀" * 10_000)
    assert 40_000 <= line.transport.backlog - before <= 41_000


async def test_a_peer_that_does_not_read_overflows_once(line: TransportHarness) -> None:
    line.run()
    line.block()
    for _ in range(4):
        fill(line)
        await asyncio.sleep(0)
    await line.told.until(lambda: line.told.overflows > 0)
    fill(line)
    await some_turns()
    assert line.told.overflows == 1


async def test_within_the_limit_nothing_overflows(line: TransportHarness) -> None:
    line.run()
    await line.clog()
    line.push("x" * (line.limit // 2))
    await some_turns()
    assert line.told.overflows == 0


async def test_what_is_pushed_in_one_turn_is_bounded(line: TransportHarness) -> None:
    line.run()
    line.block()
    part = "x" * (line.limit // 16)
    for _ in range(160):
        line.push(part)
    # What waits at the server and what the turn has added since may each reach the limit.
    assert line.transport.backlog <= 2 * (line.limit + len(part))
    await line.told.until(lambda: line.told.overflows > 0)
    assert line.told.overflows == 1


async def test_after_an_overflow_nothing_more_is_taken(line: TransportHarness) -> None:
    line.run()
    line.block()
    for _ in range(4):
        fill(line)
        await asyncio.sleep(0)
    await line.told.until(lambda: line.told.overflows > 0)
    before = line.transport.backlog
    line.push("straw")
    assert line.transport.backlog == before
    await asyncio.sleep(0)
    line.unblock()
    line.transport.close(SLOW, FAREWELL, discard=False)
    assert await line.peer_was_closed() == (SLOW.code, SLOW.reason)
    assert "straw" not in line.got


# Ready and idle


async def test_a_transport_that_is_not_ready_tells_when_it_is(line: TransportHarness) -> None:
    line.run()
    await line.clog()
    line.push("x" * (line.limit // 2))
    assert not line.transport.ready
    await asyncio.sleep(0)
    assert line.told.drains == 0
    line.unblock()
    await line.told.until(lambda: line.told.drains > 0)
    assert line.transport.ready


@pytest.mark.parametrize("kind", TRANSPORTS)
async def test_not_ready_may_pass_within_a_turn(kind: str) -> None:
    """With an outbox so small that the peer takes at once what fills it."""
    async with TRANSPORTS[kind](limit=4096) as line:
        line.run()
        line.push("x" * 2048)
        assert not line.transport.ready
        await line.told.until(lambda: line.told.drains > 0)
        assert line.transport.ready


async def test_a_transport_that_is_not_idle_tells_when_it_is(line: TransportHarness) -> None:
    line.run()
    await line.clog()
    line.push("waiting")
    await asyncio.sleep(0)
    assert not line.transport.idle
    line.unblock()
    async with asyncio.timeout(20):
        while not line.transport.idle:
            drains = line.told.drains
            await line.told.until(lambda seen=drains: line.told.drains > seen)  # type: ignore[misc]
    assert line.told.drains > 0


async def test_nobody_is_told_who_did_not_ask(line: TransportHarness) -> None:
    line.run()
    await line.clog()
    line.push("x" * (line.limit // 2))
    line.unblock()
    await until(lambda: line.transport.backlog == 0)
    assert line.told.drains == 0


async def test_it_is_told_once(line: TransportHarness) -> None:
    line.run()
    await line.clog()
    line.push("x" * (line.limit // 2))
    for _ in range(3):
        assert not line.transport.ready
    line.unblock()
    await until(lambda: line.transport.backlog == 0)
    line.push("more")
    await until(lambda: line.got[-1:] == ["more"])
    assert line.told.drains == 1


# From the peer


async def test_what_the_peer_says_is_received_in_order(line: TransportHarness) -> None:
    line.run()
    said: list[str | bytes] = ["one", b"two", "drei€", "", b"", "x" * 70_000]
    for message in said:
        await line.say(message)
    assert await line.transport_received(len(said)) == said


async def test_what_came_before_it_ran_is_received_first(line: TransportHarness) -> None:
    await line.say("early")
    await line.say(b"too")
    await some_turns()
    line.run()
    await line.say("later")
    assert await line.transport_received(3) == ["early", b"too", "later"]


async def test_a_peer_that_is_held_is_read_later(line: TransportHarness) -> None:
    line.run()
    await line.say("fast")
    await line.transport_received(1)
    line.transport.hold(0.2)
    await some_turns()
    for number in range(20):
        await line.say(f"{number}")
    await some_turns()
    assert len(line.received) <= 2  # one may have been on its way
    assert await line.transport_received(21) == ["fast", *(f"{number}" for number in range(20))]


async def test_a_peer_that_is_held_is_written_to(line: TransportHarness) -> None:
    line.run()
    line.transport.hold(0.2)
    line.push("x")
    assert await line.peer_got(1) == ["x"]
    line.transport.close(FORBIDDEN, FAREWELL, discard=False)
    assert await line.peer_was_closed() == (FORBIDDEN.code, FORBIDDEN.reason)
    await line.ended()


@pytest.mark.parametrize("code", [1000, 3000, 4999])
async def test_a_goodbye_is_returned_by_its_code(line: TransportHarness, code: int) -> None:
    line.run()
    await line.say("last words")
    await line.hang_up(code)
    assert await line.ended() == code
    assert line.received == ["last words"]


async def test_a_goodbye_without_a_code(line: TransportHarness) -> None:
    line.run()
    await line.hang_up(None)
    assert await line.ended() == 1005


async def test_a_goodbye_before_it_ran(line: TransportHarness) -> None:
    await line.hang_up(1000)
    await some_turns()
    line.run()
    assert await line.ended() == 1000


async def test_a_peer_that_is_gone_is_a_1006(line: TransportHarness) -> None:
    line.run()
    await line.say("x")
    await line.transport_received(1)
    line.vanish()
    assert await line.ended() == 1006


async def test_a_peer_that_is_gone_while_it_is_written_to(line: TransportHarness) -> None:
    line.run()
    await line.clog()
    line.vanish()
    line.push("anybody?")
    assert await line.ended() == 1006


async def test_frames_for_a_peer_that_is_gone_are_swallowed(line: TransportHarness) -> None:
    line.run()
    line.vanish()
    await line.ended()
    for _ in range(4):
        fill(line)
    await some_turns()
    assert (line.transport.backlog, line.told.overflows) == (0, 0)


async def test_a_ping_is_answered_or_not_to_be_expected(line: TransportHarness) -> None:
    line.run()
    line.push("x")
    await line.peer_got(1)
    line.transport.heard()
    if line.transport.ping():
        await until(line.transport.heard)
        assert not line.transport.heard()
    else:
        assert line.transport.heard()


async def test_after_the_end_no_ping_is_sent(line: TransportHarness) -> None:
    line.run()
    line.vanish()
    await line.ended()
    assert not line.transport.ping()


# Closing


async def test_a_close_writes_what_is_queued_and_a_farewell_first(line: TransportHarness) -> None:
    line.run()
    line.push("one", "two")
    line.transport.close(FORBIDDEN, FAREWELL, discard=False)
    assert await line.peer_was_closed() == (FORBIDDEN.code, FORBIDDEN.reason)
    assert line.got == ["one", "two", '{"type":"disconnect"}']
    await line.ended()


async def test_a_close_waits_for_a_peer_that_takes_its_time(line: TransportHarness) -> None:
    line.run()
    await line.clog()
    line.push("waiting")
    line.transport.close(FORBIDDEN, FAREWELL, discard=False)
    await some_turns()
    assert line.closed is None
    line.unblock()
    assert await line.peer_was_closed() == (FORBIDDEN.code, FORBIDDEN.reason)
    assert line.got[-2:] == ["waiting", '{"type":"disconnect"}']
    await line.ended()


async def test_a_close_may_discard_what_is_queued(line: TransportHarness) -> None:
    line.run()
    line.push("sent")
    await line.peer_got(1)
    line.push("one", "two")
    line.transport.close(SLOW, FAREWELL, discard=True)
    assert await line.peer_was_closed() == (SLOW.code, SLOW.reason)
    assert line.got == ["sent", '{"type":"disconnect"}']
    await line.ended()


async def test_a_close_without_a_farewell(line: TransportHarness) -> None:
    line.run()
    line.transport.close(FORBIDDEN, None, discard=False)
    assert await line.peer_was_closed() == (FORBIDDEN.code, FORBIDDEN.reason)
    assert line.got == []
    await line.ended()


async def test_a_close_before_it_runs(line: TransportHarness) -> None:
    line.push("early")
    line.transport.close(FORBIDDEN, FAREWELL, discard=False)
    line.run()
    assert await line.peer_was_closed() == (FORBIDDEN.code, FORBIDDEN.reason)
    assert line.got == ["early", '{"type":"disconnect"}']
    await line.ended()


async def test_only_the_first_close_counts(line: TransportHarness) -> None:
    line.run()
    line.transport.close(FORBIDDEN, FAREWELL, discard=False)
    line.transport.close(SLOW, FAREWELL, discard=True)
    assert await line.peer_was_closed() == (FORBIDDEN.code, FORBIDDEN.reason)
    await line.ended()
    assert line.got == ['{"type":"disconnect"}']


async def test_nothing_is_written_after_a_close(line: TransportHarness) -> None:
    line.run()
    line.transport.close(FORBIDDEN, FAREWELL, discard=False)
    line.push("late")
    assert not line.transport.ping()
    await line.peer_was_closed()
    line.push("later")
    await line.ended()
    line.push("last")
    assert line.got == ['{"type":"disconnect"}']
    assert line.transport.backlog == 0


async def test_a_peer_that_takes_no_farewell_is_cut_off(
    line: TransportHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.hurry(monkeypatch, 0.05)
    line.run()
    await line.clog()
    line.transport.close(FORBIDDEN, FAREWELL, discard=False)
    assert await line.ended() == 1006
    assert line.closed is None


async def test_a_peer_that_is_gone_is_closed_in_vain(line: TransportHarness) -> None:
    line.run()
    line.vanish()
    await line.ended()
    line.transport.close(FORBIDDEN, FAREWELL, discard=False)
    await asyncio.sleep(0)
    assert (line.got, line.transport.backlog) == ([], 0)


async def test_it_can_be_cancelled(line: TransportHarness) -> None:
    line.run()
    await line.clog()
    line.running.cancel()
    await asyncio.wait({line.running}, timeout=5.0)
    assert line.running.cancelled()


# Plain ASGI by itself


@pytest.fixture
async def plain() -> "AsgiHarness":
    harness = AsgiHarness()
    await harness.open()
    harness.transport.attach(harness.told)
    return harness


async def test_a_discard_drops_also_the_rest_of_a_push_under_way(plain: AsgiHarness) -> None:
    plain.run()
    plain.block()
    plain.push_frames(b"".join(framed(f"{number}") for number in range(5)))
    await until(lambda: plain.sends > 0)
    plain.transport.close(SLOW, FAREWELL, discard=True)
    plain.unblock()
    await plain.ended()
    assert plain.got == ["0", '{"type":"disconnect"}']


async def test_a_bug_of_the_server_is_not_swallowed(plain: AsgiHarness) -> None:
    plain.run()
    plain.failure = RuntimeError("a bug")
    plain.push("x")
    with pytest.raises(RuntimeError, match="a bug"):
        await plain.ended()


async def test_no_task_outlives_it(plain: AsgiHarness) -> None:
    plain.run()
    plain.push("x")
    await plain.peer_got(1)
    await plain.hang_up(1000)
    await plain.ended()
    assert asyncio.all_tasks() == {asyncio.current_task()}
