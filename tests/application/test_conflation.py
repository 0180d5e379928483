"""Conflating rooms: who keeps up gets everything, the others the newest and what it leaves out."""

import random

import pytest

from application.disconnects import RESTARTING
from domain.identifiers import RoomId
from domain.options import RoomOptions
from domain.position import Position
from entrypoints.wire.tutorial import TextRoom
from tests.application.conftest import Client, FaultyBroker, House, pass_time, turn, types
from tests.recording_transport import Frame

CHAT = RoomId("chat")
CONFLATED = ("*", RoomOptions(conflate=True, history_size=1000))


def told(client: Client) -> list[tuple[int, int]]:
    """Seq and skipped (0: not said) of the messages that were pushed."""
    return [(frame["seq"], frame.get("skipped", 0)) for frame in client.of_type("message")]


def position(house: House, seq: int) -> Position:
    """A position in the log as it is now."""
    timeline = house.broker.timeline(CHAT)
    assert timeline is not None
    return timeline.position._replace(seq=seq)


async def gathered(*users: str, broker: FaultyBroker | None = None) -> tuple[House, list[Client]]:
    """Clients in one conflating room, who have forgotten each other's joins; the last one is not
    in it."""
    house = House(CONFLATED, broker=broker)
    clients = [await house.member(user) for user in users]
    for client in clients:
        client.take()
    return house, [*clients, house.client("speaker")]


async def test_who_keeps_up_gets_everything() -> None:
    _, (ann, bob, speaker) = await gathered("ann", "bob")
    for number in range(5):
        speaker.say(number)
        speaker.say(number + 0.5)
        await turn()
    assert ann.heard() == bob.heard() == [n / 2 for n in range(10)]
    assert told(ann) == [(seq, 0) for seq in range(1, 11)]


async def test_who_does_not_gets_nothing_and_then_the_newest() -> None:
    house, (slow, quick, speaker) = await gathered("slow", "quick")
    speaker.say("seen")
    await turn()
    slow.transport.stall()
    for number in range(100):
        speaker.say(number)
        await turn()
    assert told(slow) == [(1, 0)]
    slow.transport.drain()
    await turn()
    assert told(slow) == [(1, 0), (101, 99)]
    assert slow.heard() == ["seen", 99]
    assert quick.heard() == ["seen", *range(100)]
    assert house.counted("conflated") == 99
    assert house.counted("deliveries") - 1 == 101 + 2  # the one is quick's join, which slow saw


async def test_a_single_message_is_late_and_skips_nothing() -> None:
    _, (slow, speaker) = await gathered("slow")
    slow.transport.stall()
    speaker.say(1)
    slow.transport.drain()
    assert told(slow) == [(1, 0)]
    assert "skipped" not in slow.frames[0]


async def test_who_has_caught_up_gets_everything_again() -> None:
    _, (slow, speaker) = await gathered("slow")
    for _ in range(3):
        slow.transport.stall()
        speaker.say(1)
        speaker.say(2)
        slow.transport.drain()
        speaker.say(3)
        speaker.say(4)
        await turn()
    assert told(slow) == [
        (2, 1), (3, 0), (4, 0), (6, 1), (7, 0), (8, 0), (10, 1), (11, 0), (12, 0)
    ]  # fmt: skip


async def test_room_in_the_outbox_is_not_enough_to_be_sent_the_newest() -> None:
    _, (slow, speaker) = await gathered("slow")
    slow.transport.stall()
    speaker.say(1)
    slow.transport.drain(room=0)  # told, and full again by the time it is looked at
    speaker.say(2)
    assert told(slow) == []
    slow.transport.drain()
    assert told(slow) == [(2, 1)]


async def test_what_is_held_back_costs_nothing_until_it_is_sent() -> None:
    _, (slow, speaker) = await gathered("slow")
    slow.transport.stall()
    for number in range(1000):
        speaker.say(f"{number:01000}")
    await turn()
    assert slow.transport.pushes == []


async def test_each_door_says_in_its_own_way_what_was_skipped() -> None:
    house, (speaker,) = await gathered()
    texting = await house.member("slow", dialect=TextRoom())
    texting.transport.stall()
    speaker.say({"text": "old"})
    speaker.say({"text": "new"})
    texting.transport.drain()
    (frame,) = texting.of_type("message")
    assert (frame["text"], frame["seq"], frame["skipped"]) == ("new", 2, 1)


async def test_every_room_of_a_session_is_caught_up() -> None:
    _, (slow, speaker) = await gathered("slow")
    await slow.join("news")
    slow.take()
    slow.transport.stall()
    for number in range(3):
        speaker.say(number, "chat")
        speaker.say(number, "news")
    slow.transport.drain()
    assert [(f["room"], f["seq"], f["skipped"]) for f in slow.frames] == [
        ("chat", 3, 2), ("news", 3, 2)
    ]  # fmt: skip


async def test_only_conflating_rooms_conflate() -> None:
    house = House(("board", RoomOptions(conflate=True)))
    slow = await house.member("slow", "board")
    await slow.join("chat")
    slow.take()
    speaker = house.client("speaker")
    slow.transport.stall()
    for number in range(3):
        speaker.say(number, "board")
        speaker.say(number, "chat")
    await turn()
    assert [(frame["room"], frame["seq"]) for frame in slow.take()] == [
        ("chat", 1), ("chat", 2), ("chat", 3)
    ]  # fmt: skip
    slow.transport.drain()
    assert [(frame["room"], frame["seq"]) for frame in slow.frames] == [("board", 3)]


# Messages with a say in who gets them


async def test_without_echo_nobody_is_sent_its_own() -> None:
    _, (slow, quick, speaker) = await gathered("slow", "quick")
    slow.transport.stall()
    speaker.say("from elsewhere")
    speaker.say("the newest for slow")
    slow.say("its own", echo=False)
    await turn()
    slow.transport.drain()
    assert told(slow) == [(2, 1)]
    assert slow.heard() == ["the newest for slow"]
    assert quick.heard() == ["from elsewhere", "the newest for slow", "its own"]


async def test_its_own_silent_messages_do_not_count_as_skipped() -> None:
    _, (slow, speaker) = await gathered("slow")
    slow.transport.stall()
    speaker.say(1)
    slow.say(2, echo=False)
    speaker.say(3)
    slow.say(4, echo=False)
    slow.transport.drain()
    speaker.say(5)
    await turn()
    assert told(slow) == [(3, 1), (5, 0)]  # 2 and 4 were acknowledged


async def test_nothing_is_held_back_from_who_only_missed_its_own() -> None:
    _, (slow, speaker) = await gathered("slow")
    slow.transport.stall()
    slow.say(1, echo=False)
    slow.transport.drain()
    assert told(slow) == []
    speaker.say(2)
    await turn()
    assert told(slow) == [(2, 0)]


async def test_ephemeral_messages_are_for_those_who_keep_up() -> None:
    _, (slow, quick, speaker) = await gathered("slow", "quick")
    slow.transport.stall()
    speaker.say("gone", ephemeral=True)
    speaker.say(1)
    speaker.say(2)
    speaker.say("gone too", ephemeral=True)
    slow.transport.drain()
    speaker.say("live", ephemeral=True)
    await turn()
    assert slow.heard() == [2, "live"]
    assert slow.frames[0]["skipped"] == 1
    assert quick.heard() == ["gone", 1, 2, "gone too", "live"]


async def test_only_ephemeral_messages_missed_is_nothing_missed() -> None:
    _, (slow, speaker) = await gathered("slow")
    slow.transport.stall()
    speaker.say("gone", ephemeral=True)
    slow.transport.drain()
    speaker.say(1)
    await turn()
    assert told(slow) == [(1, 0)]


# Presence


async def test_joins_and_leaves_are_not_conflated() -> None:
    house, (slow, speaker) = await gathered("slow")
    slow.transport.stall()
    for number in range(3):
        speaker.say(number)
        guest = await house.member(f"guest{number}")
        speaker.say(number)
        guest.leave()
    await turn()
    assert types(slow.frames) == ["join", "leave"] * 3
    assert [frame["version"] for frame in slow.frames] == [2, 3, 4, 5, 6, 7]
    slow.transport.drain()
    assert told(slow) == [(6, 5)]


async def test_presence_and_messages_keep_their_order_for_who_keeps_up() -> None:
    house, (ann, speaker) = await gathered("ann")
    speaker.say(1)
    guest = await house.member("guest")
    speaker.say(2)
    guest.leave()
    speaker.say(3)
    await turn()
    assert types(ann.frames) == ["message", "join", "message", "leave", "message"]
    assert guest.heard() == [2]


async def test_summaries_of_a_crowded_room_reach_who_is_slow() -> None:
    house = House(("*", RoomOptions(conflate=True, presence_limit=2)))
    clients = [await house.member(f"user{number}") for number in range(4)]
    slow = clients[0]
    async with house.running():
        await pass_time(1.5)
        slow.take()
        slow.transport.stall()
        await house.member("late")
        await pass_time(1.0)
    assert [(frame["type"], frame["count"]) for frame in slow.frames] == [("presence", 5)]


# Coming, going, catching up


async def test_who_leaves_is_sent_the_newest_first() -> None:
    _, (slow, speaker) = await gathered("slow")
    slow.transport.stall()
    for number in range(3):
        speaker.say(number)
    slow.leave()
    speaker.say("after")
    slow.transport.drain()
    assert told(slow) == [(3, 2)]


async def test_who_is_sent_away_is_sent_the_newest_first() -> None:
    house, (slow, speaker) = await gathered("slow")
    slow.transport.stall()
    for number in range(3):
        speaker.say(number)
    slow.session.end(RESTARTING)
    assert told(slow) == [(3, 2)]
    assert house.hub.find(CHAT) is None


async def test_who_is_gone_is_no_burden() -> None:
    house, (slow, quick, speaker) = await gathered("slow", "quick")
    slow.transport.stall()
    speaker.say(1)
    slow.session.lost(1006)
    speaker.say(2)
    slow.transport.drain()
    await turn()
    assert quick.heard() == [1, 2]
    assert slow.session.id not in house.hub.sessions


async def test_a_newcomer_on_its_way_is_not_conflated() -> None:
    """It reads the log at its own pace; only then is it a member like any other."""
    house, (speaker,) = await gathered()
    for number in range(250):
        speaker.say(number)
    slow = house.client("slow")
    slow.transport.drain(1)
    await slow.join(history=250)
    for number in range(250, 300):
        speaker.say(number)
    slow.transport.drain(1)
    for number in range(300, 350):
        speaker.say(number)
    slow.transport.drain(1)
    assert slow.heard() == list(range(300))  # two pages, and no room for another
    slow.transport.drain()
    assert slow.heard() == list(range(350))
    slow.transport.stall()
    speaker.say(350)
    speaker.say(351)
    slow.transport.drain()
    await turn()
    assert slow.heard() == [*range(350), 351]
    assert slow.frames[-1]["skipped"] == 1


async def test_joining_again_is_answered_behind_the_newest() -> None:
    """The position answered is after everything that the client was sent."""
    _, (slow, speaker) = await gathered("slow")
    slow.transport.stall()
    for number in range(3):
        speaker.say(number)
    await slow.join()
    message, joined = slow.frames
    assert (message["seq"], message["skipped"]) == (3, 2)
    assert (joined["type"], joined["position"]["seq"]) == ("joined", 3)
    slow.transport.drain()
    speaker.say(3)
    await turn()
    assert told(slow) == [(3, 2), (4, 0)]


async def test_who_reads_what_was_before_it_came_is_not_forgotten() -> None:
    house, (speaker,) = await gathered()
    for number in range(250):
        speaker.say(number)
    slow = await house.member("slow")
    slow.transport.drain(1)
    await slow.join(position=position(house, 0))  # one page, and two more when there is room
    slow.take()
    speaker.say(250)
    speaker.say(251)
    slow.transport.drain()
    await turn()
    assert sorted(slow.heard()) == [*range(100, 250), 251]
    assert (252, 1) in told(slow)
    speaker.say(252)
    await turn()
    assert told(slow)[-1] == (253, 0)


# A log that could not be continued


async def deaf(*users: str) -> tuple[House, FaultyBroker, list[Client]]:
    broker = FaultyBroker()
    house, clients = await gathered(*users, broker=broker)
    return house, broker, clients


async def test_a_hole_is_closed_also_for_who_is_slow() -> None:
    _, broker, (slow, quick, speaker) = await deaf("slow", "quick")
    slow.transport.stall()
    for number in range(1, 6):
        speaker.say(number)
    broker.deafen()
    speaker.say(6)
    speaker.say(7)
    broker.notice()
    speaker.say(8)
    await turn()
    slow.transport.drain()
    speaker.say(9)
    await turn()
    assert quick.heard() == list(range(1, 10))
    assert types(slow.frames) == ["message"] * len(slow.frames)
    assert adds_up(told(slow), [], 9)


async def test_a_long_hole_is_closed_also_for_who_is_slow() -> None:
    _, broker, (slow, quick, speaker) = await deaf("slow", "quick")
    slow.transport.stall()
    speaker.say(1)
    speaker.say(2)
    broker.deafen()
    for number in range(3, 300):
        speaker.say(number)
    broker.notice()
    speaker.say(300)
    await turn()
    slow.transport.drain()
    speaker.say(301)
    await turn()
    assert quick.heard() == list(range(1, 302))
    assert adds_up(told(slow), [], 301)


async def test_after_a_reset_nothing_of_the_old_log_is_sent() -> None:
    house, _, (slow, quick, speaker) = await deaf("slow", "quick")
    slow.transport.stall()
    for number in range(5):
        speaker.say(number)
    house.broker.forget(CHAT)
    at = slow.frames.index(slow.of_type("resync")[0])
    speaker.say("new")
    slow.transport.drain()
    await turn()
    assert [(frame["seq"], frame["data"]) for frame in slow.frames[at + 1 :]] == [(1, "new")]
    assert told(slow)[:-1] == [(5, 4)]
    assert quick.heard() == [*range(5), "new"]


async def test_what_a_rewound_log_withdraws_is_not_sent_afterwards() -> None:
    _, broker, (slow, speaker) = await deaf("slow")
    speaker.say(1)
    await turn()
    slow.transport.stall()
    for number in range(2, 6):
        speaker.say(number)
    broker.deafen()
    broker.fall_back(3)
    speaker.say("instead")
    broker.notice()
    speaker.say("then")
    slow.transport.drain()
    await turn()
    at = slow.frames.index(slow.of_type("resync")[0])
    resync, *behind = slow.frames[at:]
    assert resync["recovery"] == {"outcome": "rewound", "valid_to": 3}
    assert (resync["messages"], resync["more"]) == ([], True)
    shown = [(frame["seq"], frame["data"]) for frame in behind]
    assert shown == [(4, "instead"), (5, "then")]


async def test_the_name_of_a_new_log_is_not_skipped() -> None:
    _, broker, (slow, quick, speaker) = await deaf("slow", "quick")
    speaker.say(1)
    await turn()
    slow.transport.stall()
    speaker.say(2)
    broker.fall_back(2)
    for number in range(3, 6):
        speaker.say(number)
    slow.transport.drain()
    await turn()
    named = [frame["log"] for frame in quick.frames if "log" in frame]
    assert len(named) == 2
    assert (slow.frames[-1]["seq"], slow.frames[-1]["skipped"]) == (5, 3)
    assert slow.frames[-1]["log"] == named[-1]


# Whatever happens


def adds_up(pushed: list[tuple[int, int]], silent: list[int], published: int) -> bool:
    """Whether messages came in order, and each says how many before it are left out: all that
    were published, but for the client's own silent ones."""
    after = 0
    for seq, skipped in pushed:
        own = sum(after < other < seq for other in silent)
        if seq != after + skipped + own + 1:
            return False
        after = seq
    return after + sum(other > after for other in silent) == published


def test_what_does_not_add_up_is_noticed() -> None:
    assert adds_up([(1, 0), (4, 1), (5, 0)], [3, 6], 6)
    for wrong in (
        [(1, 0), (3, 0)],  # a hole
        [(1, 0), (3, 2)],  # one too many
        [(2, 1), (1, 0), (3, 1)],  # out of order
        [(1, 0), (1, 0), (3, 1)],  # twice
        [(1, 0), (2, 0)],  # the newest is missing
    ):
        assert not adds_up(wrong, [], 3)


@pytest.mark.parametrize("seed", range(30))
async def test_members_get_what_was_published_or_are_told_how_much_they_miss(seed: int) -> None:
    _, (*members, speaker) = await gathered("ann", "bob", "cid")
    dice = random.Random(seed)
    silent: list[list[int]] = [[] for _ in members]
    published = 0
    for _ in range(300):
        chosen = dice.randrange(len(members))
        member = members[chosen]
        match dice.choice(["stall", "drain", "say", "say", "say", "silent", "ephemeral", "turn"]):
            case "stall":
                member.transport.stall()
            case "drain":
                member.transport.drain(dice.choice([None, 0, 1, 3]))
            case "say":
                dice.choice([speaker, member]).say(published)
                published += 1
            case "silent":
                member.say(published, echo=False)
                published += 1
                silent[chosen].append(published)
            case "ephemeral":
                speaker.say("gone", ephemeral=True)
            case _:
                await turn()
    for member in members:
        member.transport.drain()
    await turn()
    for member, own in zip(members, silent, strict=True):
        numbered = [frame for frame in member.of_type("message") if "seq" in frame]
        pushed = [(frame["seq"], frame.get("skipped", 0)) for frame in numbered]
        assert adds_up(pushed, own, published), pushed
        assert all(is_own_content(frame) for frame in numbered)


def is_own_content(frame: Frame) -> bool:
    """Whether the data is the one that was published under this seq."""
    return bool(frame["data"] == frame["seq"] - 1)
