"""The end of a session, and what leads to it: silence, expiry, haste, slowness."""

import asyncio

import pytest

from application.disconnects import FORBIDDEN, INTERNAL, NO_PONG, RATE_LIMITED, SLOW, TOKEN_EXPIRED
from application.session import MAX_HOLD, SessionLimits
from domain.errors import RateLimited
from domain.identifiers import RoomId
from tests.application.conftest import Client, House, LeapingLoop, pass_time, turn, types

CHAT = RoomId("chat")


def house(**limits: float) -> House:
    """A house whose clients are limited as told, and in nothing else."""
    none = {"messages_per_second": 0.0, "commands_per_second": 0.0, "ping_interval": 0.0}
    return House(limits=SessionLimits(**{**none, **limits}))  # type: ignore[arg-type]


def leaping_loop() -> LeapingLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, LeapingLoop)
    return loop


async def sessions_of(of: House, user: str) -> int | None:
    """How many sessions presence counts for a user in `chat`; None when it is not there."""
    snapshot = await of.presence.snapshot(CHAT)
    return next((m.sessions for m in snapshot.members or () if m.user == user), None)


# Heartbeat


async def test_pings_come_at_the_interval_the_first_one_earlier() -> None:
    client = house(ping_interval=20.0, ping_timeout=5.0).client()
    await pass_time(9.9)
    assert client.transport.pings == 0
    for _ in range(10):
        await pass_time(4.02)
        client.transport.hear()
    # Until 50.1 s: the first one after 10 to 20 s, another every 20 s.
    assert client.transport.pings in (2, 3)
    assert types(client.frames) == ["ping"] * client.transport.pings
    assert not client.session.closed


async def test_a_silent_peer_is_cut_and_keeps_its_place_for_the_grace() -> None:
    a_house = house(ping_interval=20.0, ping_timeout=5.0)
    client = await a_house.member("ann")
    await pass_time(26.0)
    assert client.transport.disconnect == NO_PONG
    assert a_house.hub.find(CHAT) is None
    assert await sessions_of(a_house, "ann") == 0


async def test_any_frame_counts_as_life() -> None:
    client = house(ping_interval=20.0, ping_timeout=5.0).client()
    for _ in range(60):
        await pass_time(4.0)
        client.transport.hear()
    assert client.transport.disconnect is None


async def test_nobody_is_blamed_for_pings_that_could_not_be_sent() -> None:
    client = house(ping_interval=20.0, ping_timeout=5.0).client()
    client.transport.answers_pings = False
    await pass_time(200.0)
    assert types(client.frames).count("ping") >= 9
    assert client.transport.disconnect is None


async def test_a_process_that_stood_still_does_not_blame_the_peer() -> None:
    client = house(ping_interval=20.0, ping_timeout=5.0).client()
    while not client.transport.pings:
        await pass_time(1.0)
    leaping_loop().stand_still(60.0)
    await pass_time(0.01)
    assert client.transport.disconnect is None
    client.transport.hear()
    await pass_time(4.0)
    assert client.transport.disconnect is None
    await pass_time(26.0)
    assert client.transport.disconnect == NO_PONG


async def test_without_an_interval_there_are_no_pings() -> None:
    client = house(ping_interval=0.0).client()
    await pass_time(1000.0)
    assert (client.frames, client.transport.pings) == ([], 0)


async def test_a_door_may_have_its_own_idea_of_life() -> None:
    a_house = house(ping_interval=20.0, ping_timeout=5.0)
    alive = True
    client = a_house.client(heard=lambda: alive)
    await pass_time(200.0)
    assert client.transport.disconnect is None
    alive = False
    client.transport.hear()
    await pass_time(26.0)
    assert client.transport.disconnect == NO_PONG


# Expiry


async def test_a_session_outlives_its_token_by_five_seconds() -> None:
    client = house().client(expires_in=60.0)
    await pass_time(64.9)
    assert client.transport.disconnect is None
    await pass_time(0.2)
    assert client.transport.disconnect == TOKEN_EXPIRED


async def test_a_token_long_expired_ends_the_session_at_once() -> None:
    client = house().client(expires_in=-60.0)
    await pass_time(0.01)
    assert client.transport.disconnect == TOKEN_EXPIRED


# Rates


def say(client: Client) -> RateLimited | None:
    try:
        client.say("hi")
    except RateLimited as refusal:
        return refusal
    return None


async def test_messages_have_a_burst_and_then_a_rate() -> None:
    client = house(messages_per_second=10, messages_burst=20).client()
    assert [say(client) for _ in range(20)] == [None] * 20
    refusal = say(client)
    assert refusal is not None
    assert refusal.retry_after == pytest.approx(0.1, abs=0.01)
    await pass_time(refusal.retry_after or 0)
    assert say(client) is None
    assert say(client) is not None


async def test_commands_have_a_rate_of_their_own() -> None:
    client = house(messages_per_second=1, messages_burst=1, commands_per_second=5, commands_burst=3)
    ann = client.client()
    say(ann)
    for _ in range(3):
        ann.session.admit_command()
    with pytest.raises(RateLimited):
        ann.session.admit_command()


async def test_a_rate_of_zero_is_off() -> None:
    client = house(messages_per_second=0, messages_burst=0).client()
    assert [say(client) for _ in range(5000)] == [None] * 5000


async def test_who_ignores_refusals_for_ten_seconds_is_cut() -> None:
    client = house(messages_per_second=10, messages_burst=20).client()
    for _ in range(130):
        for _ in range(5):
            say(client)
        await pass_time(0.1)
        if client.session.closed:
            break
    assert client.transport.disconnect == RATE_LIMITED


async def test_who_pauses_now_and_then_is_not() -> None:
    client = house(messages_per_second=10, messages_burst=20).client()
    for _ in range(30):
        while say(client) is None:
            pass
        await pass_time(2.0)
    assert client.transport.disconnect is None


async def test_who_is_too_fast_is_not_read_for_a_moment() -> None:
    client = house(messages_per_second=10, messages_burst=1).client()
    assert (say(client), client.transport.holds) == (None, [])
    refusal = say(client)
    assert refusal is not None
    assert client.transport.holds == [refusal.retry_after]


async def test_nobody_is_left_unread_for_long() -> None:
    client = house(messages_per_second=0.01, messages_burst=1).client()
    say(client)
    say(client)
    assert client.transport.holds == [MAX_HOLD]


# Room for a page


async def test_with_room_for_a_page_nobody_waits() -> None:
    client = house().client()
    task = asyncio.create_task(client.session.room_for_a_page())
    await turn()
    assert task.done()


async def test_a_page_waits_for_room() -> None:
    client = house().client()
    client.transport.stall()
    task = asyncio.create_task(client.session.room_for_a_page())
    await turn()
    client.transport.drain(room=0)
    await turn()
    assert not task.done()
    client.transport.drain()
    await task


@pytest.mark.parametrize("ending", ["end", "lost"])
async def test_nobody_waits_for_room_after_the_end(ending: str) -> None:
    client = house().client()
    client.transport.stall()
    task = asyncio.create_task(client.session.room_for_a_page())
    await turn()
    if ending == "end":
        client.session.end(FORBIDDEN)
    else:
        client.session.lost(1006)
    await task
    assert client.session.closed


# The end


async def test_the_end_is_announced_with_code_and_reason() -> None:
    client = house().client()
    client.session.end(FORBIDDEN)
    assert client.transport.disconnect == FORBIDDEN
    assert client.transport.farewell == [
        {"type": "disconnect", "code": 4003, "reason": "forbidden"}
    ]
    assert client.transport.discarded is False
    assert client.session.closed


async def test_a_slow_peer_costs_itself_only() -> None:
    a_house = house()
    ann, bob = await a_house.member("ann"), await a_house.member("bob")
    ann.take()
    bob.transport.overflow()
    ann.say("on we go")
    await turn()
    assert (bob.transport.disconnect, bob.transport.discarded) == (SLOW, True)
    assert (bob.heard(), ann.heard()) == ([], ["on we go"])
    assert await sessions_of(a_house, "bob") == 0
    assert ann.of_type("leave") == []


async def test_only_the_first_end_counts() -> None:
    a_house = house()
    client = await a_house.member("ann")
    client.session.end(FORBIDDEN)
    client.session.end(INTERNAL)
    client.session.lost(1006)
    client.session.overflowed()
    assert client.transport.disconnect == FORBIDDEN
    assert a_house.counted("disconnects", 'code="4003"') == 1


async def test_a_lost_connection_is_not_written_to() -> None:
    client = await house().member("ann")
    client.session.lost(1006)
    client.session.send(b"\x81\x02{}")
    client.session.end(INTERNAL)
    assert (client.frames, client.transport.disconnect) == ([], None)


async def test_nothing_is_sent_after_the_end() -> None:
    a_house = house()
    ann, bob = await a_house.member("ann"), await a_house.member("bob")
    bob.session.end(FORBIDDEN)
    bob.session.send(b"\x81\x02{}")
    ann.say("anybody?")
    await turn()
    assert bob.frames == []


async def test_no_timer_outlives_the_session() -> None:
    timers = leaping_loop().timers()
    client = house(ping_interval=20.0, ping_timeout=5.0).client(expires_in=30.0)
    assert leaping_loop().timers() == timers + 2
    client.session.lost(1000)
    assert leaping_loop().timers() == timers
    await pass_time(100.0)
    assert (client.frames, client.transport.pings, client.transport.disconnect) == ([], 0, None)


async def test_draining_a_session_that_is_over_is_nothing() -> None:
    a_house = house()
    speaker, client = a_house.client("speaker"), a_house.client("ann")
    for number in range(100):
        speaker.say("x" * 5000 if number else 0)
    client.transport.stall()
    await client.join(history=100)
    before = len(client.frames)
    client.session.end(FORBIDDEN)
    client.transport.drain()
    client.session.drained()
    assert len(client.frames) == before
