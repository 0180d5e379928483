"""Fan-out on one node: what each member gets, in which order, at what cost."""

import asyncio
import random

import pytest

from application.disconnects import RESTARTING
from application.session import SessionLimits
from domain.errors import Unavailable
from domain.identifiers import RoomId
from domain.member import PresenceChange
from domain.message import Message
from domain.options import PresenceMode, RoomOptions
from domain.position import Position
from entrypoints.wire.tutorial import Silent, TextRoom
from entrypoints.wire.v1 import V1
from tests.application.conftest import (
    Client,
    FaultyBroker,
    House,
    SlowPresence,
    pass_time,
    turn,
    types,
)

CHAT = RoomId("chat")


class CountingDialect(V1):
    """Protocol v1, and how often it was asked for the frame of a message or a change."""

    def __init__(self) -> None:
        self.messages = 0
        self.changes = 0

    def message(self, message: Message, skipped: int = 0) -> bytes:
        self.messages += 1
        return super().message(message, skipped)

    def presence_change(self, change: PresenceChange) -> bytes:
        self.changes += 1
        return super().presence_change(change)


async def members(house: House, *users: str, room: str = "chat") -> list[Client]:
    """Clients in one room, who have forgotten each other's joins."""
    clients = [await house.member(user, room) for user in users]
    for client in clients:
        client.transport.pushes.clear()
    return clients


# What it costs


async def test_a_message_is_encoded_once_per_dialect() -> None:
    house = House()
    first, second = CountingDialect(), CountingDialect()
    for number in range(20):
        await house.member(f"ann{number}", dialect=first if number % 2 else second)
    house.client("bob").say("hi")
    await turn()
    assert (first.messages, second.messages) == (1, 1)
    assert (first.changes, second.changes) == (18, 19)


async def test_every_member_gets_the_same_bytes() -> None:
    house = House()
    ann, bob, cid = await members(house, "ann", "bob", "cid")
    ann.say(1)
    await turn()
    ann.say(2)
    ann.say(3)
    await turn()
    for one, two, three in zip(*(c.transport.pushes for c in (ann, bob, cid)), strict=True):
        assert one is two is three


async def test_messages_of_one_loop_turn_come_in_one_push() -> None:
    house = House()
    ann, bob = await members(house, "ann", "bob")
    for number in range(5):
        ann.say(number)
    assert bob.transport.pushes == []
    await turn()
    assert len(bob.transport.pushes) == 1
    assert bob.heard() == ann.heard() == [0, 1, 2, 3, 4]


async def test_rooms_do_not_share_a_push() -> None:
    house = House()
    ann = await house.member("ann", "chat")
    await ann.join("news")
    ann.take()
    ann.say(1, "chat")
    ann.say(2, "news")
    ann.say(3, "chat")
    await turn()
    assert (ann.heard("chat"), ann.heard("news"), len(ann.transport.pushes)) == ([1, 3], [2], 2)


async def test_what_is_gathered_in_one_turn_is_bounded() -> None:
    house = House()
    ann, bob = await members(house, "ann", "bob")
    for _ in range(12):
        ann.say("x" * 20_000)
    assert bob.transport.pushes
    await turn()
    assert max(map(len, bob.transport.pushes)) < 160_000
    assert [frame["seq"] for frame in bob.frames] == list(range(1, 13))


@pytest.mark.parametrize("size", [1, 20_000])
async def test_deliveries_are_counted_per_member(size: int) -> None:
    house = House()
    ann, *_ = await members(house, "ann", "bob", "cid")
    before = house.counted("deliveries")
    for _ in range(12):
        ann.say("x" * size)
    await turn()
    ann.say("y", echo=False)
    await turn()
    assert house.counted("deliveries") - before == 12 * 3 + 2


async def test_a_door_that_shows_no_messages_gets_none() -> None:
    house = House()
    ann = await house.member("ann")
    mute = await house.member("bob", dialect=Silent())
    texting = await house.member("cid", dialect=TextRoom())
    ann.take()
    ann.say({"text": "hi"})
    await turn()
    assert mute.frames == []
    assert [frame["text"] for frame in texting.frames] == ["hi"]
    assert ann.heard() == [{"text": "hi"}]


# Between entry and exit


async def test_nothing_of_before_the_entry_is_seen_also_within_one_turn() -> None:
    house = House()
    (ann,) = await members(house, "ann")
    bob = house.client("bob")
    ann.say("before")
    await bob.join()
    ann.say("after")
    await turn()
    assert bob.heard() == ["after"]
    assert ann.heard() == ["before", "after"]


async def test_everything_of_before_the_exit_is_seen_also_within_one_turn() -> None:
    house = House()
    ann, bob = await members(house, "ann", "bob")
    ann.say("before")
    bob.leave()
    ann.say("after")
    await turn()
    assert bob.heard() == ["before"]


async def test_a_session_that_ends_is_sent_what_came_before() -> None:
    house = House()
    ann, bob = await members(house, "ann", "bob")
    ann.say("before")
    bob.session.end(RESTARTING)
    ann.say("after")
    await turn()
    assert bob.heard() == ["before"]


@pytest.mark.parametrize("seed", range(20))
async def test_members_see_exactly_what_lies_between_entry_and_exit(seed: int) -> None:
    """Any order of entering, leaving and speaking, with or without a turn of the loop between."""
    house, dice = House(), random.Random(seed)
    speaker = house.client("speaker")
    clients = [house.client(f"user{number}") for number in range(4)]
    expected: list[list[int]] = [[] for _ in clients]
    for number in range(200):
        chosen = dice.randrange(len(clients))
        match dice.choice(["move", "say", "say", "turn"]):
            case "say":
                speaker.say(number)
                for client, seen in zip(clients, expected, strict=True):
                    if CHAT in client.session.memberships:
                        seen.append(number)
            case "move" if CHAT in clients[chosen].session.memberships:
                clients[chosen].leave()
            case "move":
                await clients[chosen].join()
            case _:
                await turn()
    await turn()
    assert [client.heard() for client in clients] == expected


async def test_presence_and_messages_keep_their_order() -> None:
    house = House()
    (ann,) = await members(house, "ann")
    speaker = house.client("speaker")
    speaker.say(1)
    bob = house.client("bob")
    await bob.join()
    speaker.say(2)
    bob.leave()
    speaker.say(3)
    await turn()
    assert types(ann.frames) == ["message", "join", "message", "leave", "message"]
    assert types(bob.frames) == ["joined", "message"]


# Echo and ephemeral


async def test_without_echo_everybody_else_gets_it() -> None:
    house = House()
    ann, bob = await members(house, "ann", "bob")
    other_tab = await house.member("ann")
    ann.say(1)
    ann.say(2, echo=False)
    ann.say(3)
    await turn()
    assert ann.heard() == [1, 3]
    assert bob.heard() == other_tab.heard() == [1, 2, 3]


async def test_without_echo_from_outside_the_room_everybody_gets_it() -> None:
    house = House()
    (ann,) = await members(house, "ann")
    house.client("ann").say("hi", echo=False)
    await turn()
    assert ann.heard() == ["hi"]


async def test_without_echo_in_the_only_member_s_own_room() -> None:
    house = House()
    (ann,) = await members(house, "ann")
    ann.say(1, echo=False)
    ann.say(2)
    await turn()
    assert [(frame["seq"], frame["data"]) for frame in ann.frames] == [(2, 2)]


async def test_ephemeral_messages_reach_the_live_members_and_nobody_later() -> None:
    house = House()
    ann, bob = await members(house, "ann", "bob")
    ann.say("soon gone", ephemeral=True)
    await turn()
    assert [frame.get("seq") for frame in bob.frames] == [None]
    late = await house.member("cid")
    await late.join(history=10)
    assert late.heard() == []


async def test_ephemeral_messages_are_not_for_members_in_catch_up() -> None:
    house = House(("*", RoomOptions(history_size=1000)))
    speaker = house.client("speaker")
    for number in range(150):
        speaker.say(number)
    ann = house.client("ann")
    ann.transport.stall(after=1)
    await ann.join(history=150)
    speaker.say("gone", ephemeral=True)
    ann.transport.drain()
    speaker.say("live", ephemeral=True)
    await turn()
    assert ann.heard() == [*range(150), "live"]


# Rooms come and go


async def test_a_room_is_released_with_its_last_member() -> None:
    house = House()
    ann, bob = await members(house, "ann", "bob")
    ann.leave()
    assert house.hub.find(CHAT) is not None
    bob.leave()
    assert house.hub.find(CHAT) is None
    assert house.broker.timeline(CHAT) is None


async def test_a_released_room_goes_on_counting() -> None:
    house = House()
    (ann,) = await members(house, "ann")
    ann.say(1)
    ann.leave()
    ann.say(2)
    joined = await ann.join()
    assert joined is not None
    assert joined.replay.position.seq == 2


async def test_a_room_without_members_delivers_to_nobody() -> None:
    house = House()
    house.client().say("hello?")
    house.hub.deliver(Message(RoomId("other"), 1, "m", None, b"1", 0.0, "e.t"))
    await turn()
    assert house.counted("deliveries") == 0


# Opening a room, which takes time with a broker elsewhere


async def opening(
    *users: str,
) -> tuple[House, FaultyBroker, list[Client], list[asyncio.Task[None]]]:
    """Clients who wait for one subscription."""
    broker = FaultyBroker()
    broker.gate.clear()
    house = House(broker=broker)
    clients = [house.client(user) for user in users]

    async def join(client: Client) -> None:
        await client.join()

    tasks = [asyncio.create_task(join(client)) for client in clients]
    await turn()
    await turn()
    return house, broker, clients, tasks


async def test_everybody_who_waits_for_a_room_gets_in() -> None:
    _, broker, clients, tasks = await opening("ann", "bob", "cid")
    broker.gate.set()
    await asyncio.gather(*tasks)
    clients[0].say("hi")
    await turn()
    assert [client.heard() for client in clients] == [["hi"]] * 3


async def test_everybody_who_waits_is_told_that_it_failed() -> None:
    house, broker, clients, tasks = await opening("ann", "bob", "cid")
    broker.failure = Unavailable("no broker now")
    broker.gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    assert house.hub.find(CHAT) is None
    broker.failure = None
    assert await clients[0].join() is not None


@pytest.mark.parametrize("leaver", [0, 1])
async def test_somebody_who_stops_waiting_does_not_take_others_along(leaver: int) -> None:
    _, broker, clients, tasks = await opening("ann", "bob", "cid")
    tasks.pop(leaver).cancel()
    clients.pop(leaver)
    await turn()
    broker.gate.set()
    await asyncio.gather(*tasks)
    clients[0].say("hi")
    await turn()
    assert [client.heard() for client in clients] == [["hi"]] * 2


async def test_when_everybody_stops_waiting_nothing_is_left() -> None:
    house, broker, _, tasks = await opening("ann", "bob", "cid")
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert house.hub.find(CHAT) is None
    broker.gate.set()
    await turn()
    assert broker.timeline(CHAT) is None


# A log that could not be continued


async def deaf(*users: str) -> tuple[House, FaultyBroker, list[Client]]:
    broker = FaultyBroker()
    house = House(("*", RoomOptions(history_size=1000)), broker=broker)
    return house, broker, await members(house, *users)


def position(house: House, seq: int) -> Position:
    """A position in the log as it is now."""
    timeline = house.broker.timeline(CHAT)
    assert timeline is not None
    return timeline.position._replace(seq=seq)


async def test_a_hole_is_closed_from_the_log_without_a_word() -> None:
    house, broker, (ann, bob) = await deaf("ann", "bob")
    speaker = house.client("speaker")
    speaker.say(1)
    broker.deafen()
    speaker.say(2)
    speaker.say(3)
    broker.notice()
    speaker.say(4)
    await turn()
    assert types(ann.frames) == ["message"] * 4
    assert ann.heard() == bob.heard() == [1, 2, 3, 4]


async def test_a_hole_is_closed_once() -> None:
    house, broker, (ann,) = await deaf("ann")
    speaker = house.client("speaker")
    broker.deafen()
    speaker.say(1)
    broker.notice()
    broker.notice()
    broker.deafen()
    speaker.say(2)
    broker.notice()
    await turn()
    assert ann.heard() == [1, 2]


async def test_a_long_hole_is_closed_page_by_page() -> None:
    house, broker, (ann, bob) = await deaf("ann", "bob")
    speaker = house.client("speaker")
    broker.deafen()
    for number in range(250):
        speaker.say(number)
    bob.transport.stall()
    broker.notice()
    speaker.say(250)
    await turn()
    bob.transport.drain()
    await turn()
    assert ann.heard() == bob.heard() == list(range(251))


async def test_who_has_no_room_for_a_hole_reads_it_as_it_drains() -> None:
    house, broker, (ann, bob) = await deaf("ann", "bob")
    speaker = house.client("speaker")
    speaker.say(0)
    await turn()
    bob.transport.stall()
    broker.deafen()
    for number in range(1, 50):
        speaker.say(number)
    broker.notice()
    speaker.say(50)
    await turn()
    assert (ann.heard(), bob.heard()) == (list(range(51)), [0])
    bob.transport.drain()
    speaker.say(51)
    await turn()
    assert ann.heard() == bob.heard() == list(range(52))


async def test_who_has_no_room_for_a_resync_is_told_the_verdict_and_reads_on() -> None:
    house, broker, (ann, bob) = await deaf("ann", "bob")
    speaker = house.client("speaker")
    for number in range(5):
        speaker.say(number)
    await turn()
    ann.take(), bob.take()
    bob.transport.stall()
    broker.deafen()
    broker.fall_back(3)
    speaker.say("another 4")
    broker.notice()
    (resync,) = bob.frames
    assert (resync["recovery"], resync["messages"]) == ({"outcome": "rewound", "valid_to": 3}, [])
    assert (resync["position"]["seq"], resync["more"]) == (3, True)
    bob.transport.drain()
    speaker.say(5)
    await turn()
    assert ann.heard() == bob.heard() == ["another 4", 5]


async def test_a_hole_is_closed_in_pages_that_an_outbox_holds() -> None:
    broker = FaultyBroker()
    limits = SessionLimits(
        page_bytes=10_000, messages_per_second=0, commands_per_second=0, ping_interval=0
    )
    house = House(("*", RoomOptions(history_size=1000)), broker=broker, limits=limits)
    (ann,) = await members(house, "ann")
    speaker = house.client("speaker")
    broker.deafen()
    for _ in range(60):
        speaker.say("x" * 1000)
    broker.notice()
    await turn()
    assert len(ann.heard()) == 60
    assert max(map(len, ann.transport.pushes)) < 15_000


async def test_a_hole_is_not_closed_with_what_somebody_did_not_want_to_hear() -> None:
    _, broker, (ann, bob) = await deaf("ann", "bob")
    ann.say(1)
    broker.deafen()
    ann.say(2, echo=False)
    bob.say(3)
    broker.notice()
    await turn()
    assert (ann.heard(), bob.heard()) == ([1, 3], [1, 2, 3])


async def test_after_a_closed_hole_joining_again_repeats_nothing() -> None:
    house, broker, (ann,) = await deaf("ann")
    speaker, start = house.client("speaker"), position(house, 0)
    speaker.say(1)
    broker.deafen()
    speaker.say(2)
    broker.notice()
    await turn()
    await ann.join(position=start)
    assert ann.heard() == [1, 2]


async def test_a_lost_log_is_a_reset() -> None:
    house, _, (ann, bob) = await deaf("ann", "bob")
    speaker = house.client("speaker")
    speaker.say("old")
    house.broker.forget(CHAT)
    speaker.say("new")
    await turn()
    for client in (ann, bob):
        old, resync, new = client.frames
        assert (old["data"], new["data"]) == ("old", "new")
        assert (resync["type"], resync["recovery"]) == ("resync", {"outcome": "reset"})
        assert resync["position"] == {"log": new["log"], "seq": 0}
        assert (old["log"] == new["log"], new["seq"]) == (False, 1)


async def test_a_rewound_log_is_told_with_what_holds_and_what_came_instead() -> None:
    house, broker, (ann,) = await deaf("ann")
    speaker = house.client("speaker")
    for number in range(5):
        speaker.say(number)
    await turn()
    ann.take()
    broker.deafen()
    broker.fall_back(3)
    speaker.say("instead")
    broker.notice()
    speaker.say("then")
    await turn()
    resync, then = ann.frames
    assert resync["recovery"] == {"outcome": "rewound", "valid_to": 3}
    assert [(m["seq"], m["data"]) for m in resync["messages"]] == [(4, "instead")]
    assert (then["seq"], then["data"]) == (5, "then")


async def test_after_a_reset_joining_again_repeats_nothing() -> None:
    house, _, (ann,) = await deaf("ann")
    speaker = house.client("speaker")
    for number in range(5):
        speaker.say(number)
    house.broker.forget(CHAT)
    speaker.say("new")
    await turn()
    ann.take()
    await ann.join(position=position(house, 0))
    assert ann.heard() == []


async def test_after_a_reset_during_catch_up_joining_again_repeats_nothing() -> None:
    house = House(("*", RoomOptions(history_size=1000)))
    speaker, ann = house.client("speaker"), house.client("ann")
    for number in range(150):
        speaker.say(number)
    ann.transport.stall(after=1)
    await ann.join(history=150)
    house.broker.forget(CHAT)
    ann.transport.drain()
    speaker.say("new")
    await turn()
    assert ann.heard()[100:] == ["new"]
    await ann.join(position=position(house, 0))
    assert ann.heard()[100:] == ["new"]


async def test_interruptions_of_rooms_nobody_is_in_are_nobody_s_business() -> None:
    house = House()
    house.hub.interrupted(CHAT)
    assert house.counted("resyncs") == 0


# Presence


async def test_joins_and_leaves_are_told_to_those_who_were_there() -> None:
    house = House()
    (ann,) = await members(house, "ann")
    bob = await house.member("bob")
    bob.leave()
    await turn()
    common = {"room": "chat", "user": "bob"}
    assert ann.frames == [
        {"type": "join", **common, "info": None, "count": 2, "version": 2},
        {"type": "leave", **common, "count": 1, "version": 3},
    ]
    assert bob.frames == []


async def crowd(house: House, size: int) -> list[Client]:
    clients = [await house.member(f"user{number:02}") for number in range(size)]
    for client in clients:
        client.take()
    return clients


async def test_a_crowded_room_is_summarised_at_most_once_a_second() -> None:
    house = House(("*", RoomOptions(presence_limit=8)))
    first, *_ = await crowd(house, 8)
    async with house.running():
        for number in range(30):
            await house.member(f"late{number:02}")
            await pass_time(0.1)
        await pass_time(1.0)
        summaries = first.take()
        await pass_time(5.0)
    assert set(types(summaries)) == {"presence"}
    assert 3 <= len(summaries) <= 4
    assert summaries[-1] == {"type": "presence", "room": "chat", "count": 38, "version": 38}
    assert first.take() == []


async def test_a_room_that_is_calm_again_gets_its_list_once_and_then_every_change() -> None:
    house = House(("*", RoomOptions(presence_limit=8)))
    first, *others = await crowd(house, 10)
    async with house.running():
        for client in others[:3]:
            client.leave()
        await pass_time(1.5)
        assert "members" not in first.take()[-1]  # 7 of 8: not calm enough
        for client in others[3:5]:
            client.leave()
        await pass_time(1.0)
        (summary,) = first.take()
        assert [member["user"] for member in summary["members"]] == [
            "user00", "user06", "user07", "user08", "user09"
        ]  # fmt: skip
        others[5].leave()
        await pass_time(2.0)
        assert types(first.take()) == ["leave"]


async def test_a_change_during_a_summary_is_in_the_next_one() -> None:
    presence = SlowPresence()
    house = House(("*", RoomOptions(presence_limit=2)), presence=presence)
    first, second, third, _ = await crowd(house, 4)
    async with house.running():
        await pass_time(1.5)
        first.take()
        presence.gate.clear()
        second.leave()
        await pass_time(1.0)  # the answer, three users, is on its way
        third.leave()
        presence.gate.set()
        await pass_time(2.0)
    assert [frame["count"] for frame in first.take()] == [3, 2]


async def test_a_summary_that_failed_comes_with_the_next_round() -> None:
    presence = SlowPresence()
    house = House(("*", RoomOptions(presence_limit=2)), presence=presence)
    first, second, *_ = await crowd(house, 4)
    async with house.running():
        await pass_time(1.5)
        first.take()
        presence.failure = Unavailable("no presence now")
        second.leave()
        await pass_time(3.0)
        assert first.take() == []
        presence.failure = None
        await pass_time(1.0)
    assert [frame["count"] for frame in first.take()] == [3]


async def test_a_room_that_only_counts_tells_counts_only() -> None:
    house = House(("*", RoomOptions(presence=PresenceMode.COUNT)))
    (ann,) = await members(house, "ann")
    async with house.running():
        await house.member("bob")
        await pass_time(1.0)
    assert ann.frames == [{"type": "presence", "room": "chat", "count": 2, "version": 2}]


async def test_a_room_without_presence_tells_nothing() -> None:
    house = House(("*", RoomOptions(presence=PresenceMode.OFF)))
    (ann,) = await members(house, "ann")
    async with house.running():
        await house.member("bob")
        await pass_time(2.0)
    assert ann.frames == []
    assert (await house.presence.snapshot(CHAT)).count == 0
