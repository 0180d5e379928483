"""Entering a room: what is told, what was missed, and what happens when it does not work out."""

import asyncio

import pytest

from application.disconnects import FORBIDDEN, INTERNAL
from application.session import SessionLimits
from domain.catchup import CatchUp
from domain.errors import (
    BadName,
    HubbubError,
    NotGranted,
    OverCapacity,
    RoomFull,
    TooManyRooms,
    Unavailable,
)
from domain.grants import DEFAULT_GRANTS, Grants, Identity
from domain.identifiers import RoomId, UserId
from domain.options import PresenceMode, RoomOptions
from domain.position import Position
from domain.timeline import MAX_PAGE_BYTES, Outcome, Recovery, Replay, Timeline
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
LONG = ("*", RoomOptions(history_size=1000))


def talk(house: House, *numbers: int, room: str = "chat") -> None:
    speaker = house.client("speaker")
    for number in numbers:
        speaker.say(number, room)
    speaker.session.lost(1000)


def at(house: House, seq: int, room: str = "chat") -> Position:
    """A position in the room's log as it is now; the room must be live."""
    timeline = house.broker.timeline(RoomId(room))
    assert timeline is not None
    return timeline.position._replace(seq=seq)


async def position_of(house: House, seq: int) -> Position:
    """The same for a room without members."""
    witness = await house.member("witness")
    position = at(house, seq)
    witness.leave()
    witness.session.lost(1000)
    return position


def span(first: int, last: int) -> list[int]:
    return list(range(first, last + 1))


# What is told


async def test_the_answer_is_the_first_frame_of_the_room() -> None:
    house = House()
    ann = house.client("ann")
    talk(house, 1, 2)
    joined = await ann.join(history=10)
    talk(house, 3)
    await turn()
    assert types(ann.frames) == ["joined", "message"]
    assert joined is not None
    assert (joined.newcomer, joined.room) == (True, CHAT)


async def test_the_answer_lists_who_is_there_the_newcomer_included() -> None:
    house = House()
    await house.member("bob")
    ann = house.client("ann")
    await ann.join()
    (answer,) = ann.frames
    assert [member["user"] for member in answer["members"]] == ["ann", "bob"]
    assert (answer["count"], answer["version"]) == (2, 2)


async def test_a_second_tab_is_no_newcomer() -> None:
    house = House()
    await house.member("ann")
    again = await house.client("ann").join()
    assert again is not None
    assert again.newcomer is False
    assert again.snapshot is not None
    assert [(m.user, m.sessions) for m in again.snapshot.members or ()] == [("ann", 2)]


async def test_a_crowded_room_is_not_listed() -> None:
    house = House(("*", RoomOptions(presence_limit=2)))
    for number in range(2):
        await house.member(f"user{number}")
    ann = house.client("ann")
    await ann.join()
    (answer,) = ann.frames
    assert (answer["members"], answer["count"]) == (None, 3)


@pytest.mark.parametrize(("mode", "count"), [(PresenceMode.COUNT, 1), (PresenceMode.OFF, None)])
async def test_a_room_that_does_not_list_is_not_listed(
    mode: PresenceMode, count: int | None
) -> None:
    ann = House(("*", RoomOptions(presence=mode))).client("ann")
    await ann.join()
    (answer,) = ann.frames
    assert (answer["members"], answer["count"]) == (None, count)


# What was missed


async def test_without_a_position_nothing_is_missed() -> None:
    house = House()
    talk(house, 1, 2, 3)
    ann = house.client("ann")
    await ann.join()
    (answer,) = ann.frames
    assert answer["recovery"] == {"outcome": "none"}
    assert (answer["messages"], answer["position"]["seq"]) == ([], 3)


async def test_history_is_the_newest_there_is() -> None:
    house = House()
    talk(house, *span(1, 9))
    ann = house.client("ann")
    await ann.join(history=4)
    assert ann.heard() == [6, 7, 8, 9]


async def test_a_returning_member_gets_exactly_what_it_missed() -> None:
    house = House()
    talk(house, *span(1, 9))
    ann = house.client("ann")
    await ann.join(position=await position_of(house, 4), history=2)
    (answer,) = ann.frames
    assert answer["recovery"] == {"outcome": "ok"}
    assert ann.heard() == span(5, 9)


async def test_a_gap_is_told_with_the_oldest_seq_kept() -> None:
    house = House(("*", RoomOptions(history_size=3)))
    talk(house, *span(1, 9))
    ann = house.client("ann")
    await ann.join(position=await position_of(house, 4))
    (answer,) = ann.frames
    assert answer["recovery"] == {"outcome": "gap", "first": 7}
    assert ann.heard() == [7, 8, 9]


async def test_a_position_above_the_top_is_rewound() -> None:
    house = House()
    talk(house, 1, 2)
    ann = house.client("ann")
    await ann.join(position=await position_of(house, 40))
    (answer,) = ann.frames
    assert answer["recovery"] == {"outcome": "rewound", "valid_to": 2}
    assert (ann.heard(), answer["position"]["seq"]) == ([], 2)


@pytest.mark.parametrize(("history", "heard"), [(0, []), (2, [8, 9])])
async def test_a_position_of_another_log_is_a_reset(history: int, heard: list[int]) -> None:
    house = House()
    talk(house, *span(1, 9))
    ann = house.client("ann")
    await ann.join(position=Position("gone", 4, "0"), history=history)
    (answer,) = ann.frames
    assert answer["recovery"] == {"outcome": "reset"}
    assert (ann.heard(), answer["position"]["seq"]) == (heard, 9)


# Catching up


async def in_catch_up(house: House, newest: int) -> Client:
    """A member that has been sent the first page and reads no further."""
    talk(house, *span(1, newest))
    ann = house.client("ann")
    ann.transport.stall(after=1)
    await ann.join(history=newest)
    return ann


async def test_a_long_absence_is_caught_up_page_by_page() -> None:
    house = House(LONG)
    talk(house, *span(1, 350))
    ann = house.client("ann")
    await ann.join(position=await position_of(house, 0))
    assert (ann.frames[0]["more"], len(ann.frames[0]["messages"])) == (True, 100)
    assert ann.frames[0]["position"]["seq"] == 100
    assert ann.heard() == span(1, 350)


async def test_a_slow_member_gets_everything_once_and_in_order() -> None:
    house = House(LONG)
    talk(house, *span(1, 250))
    slow, quick = house.client("ann"), await house.member("bob")
    slow.transport.stall(after=1)
    await slow.join(position=at(house, 0))
    assert slow.heard() == span(1, 100)
    for drain in range(6):
        talk(house, *span(251 + 10 * drain, 260 + 10 * drain))
        await turn()
        slow.transport.drain(room=1)
    slow.transport.drain()
    talk(house, 311)
    await turn()
    assert slow.heard() == span(1, 311)
    assert quick.heard() == span(251, 311)
    assert types(slow.frames)[0] == "joined"
    assert set(types(slow.frames)[1:]) == {"message"}


async def test_where_there_is_no_room_for_a_page_the_verdict_comes_alone() -> None:
    house = House(LONG)
    talk(house, *span(1, 150))
    ann = house.client("ann")
    ann.transport.stall()
    await ann.join(position=await position_of(house, 20))
    (answer,) = ann.frames
    assert (answer["recovery"], answer["messages"]) == ({"outcome": "ok"}, [])
    assert (answer["position"]["seq"], answer["more"]) == (20, True)
    talk(house, 151)
    ann.transport.drain()
    await turn()
    assert ann.heard() == span(21, 151)


async def test_no_more_than_a_page_is_copied_for_a_member_that_does_not_read() -> None:
    house = House(LONG)
    ann = await in_catch_up(house, 300)
    talk(house, *span(301, 900))
    await turn()
    assert (len(ann.transport.pushes), ann.heard()) == (1, span(1, 100))


async def test_a_log_that_moves_past_a_slow_member_is_a_gap() -> None:
    house = House(("*", RoomOptions(history_size=150)))
    ann = await in_catch_up(house, 150)
    talk(house, *span(151, 400))
    await turn()
    ann.transport.drain()
    talk(house, 401)
    await turn()
    (resync,) = ann.of_type("resync")
    assert resync["recovery"] == {"outcome": "gap", "first": 251}
    assert ann.heard() == [*span(1, 100), *span(251, 401)]


async def test_a_log_that_is_lost_under_a_slow_member_is_a_reset() -> None:
    house = House(LONG)
    ann = await in_catch_up(house, 150)
    house.broker.forget(CHAT)
    talk(house, 1)
    ann.transport.drain()
    talk(house, 2)
    await turn()
    assert types(ann.frames) == ["joined", "resync", "message"]
    assert ann.frames[1]["recovery"] == {"outcome": "reset"}
    assert ann.frames[1]["position"]["seq"] == 1
    assert ann.heard()[100:] == [2]


async def test_somebody_who_leaves_in_catch_up_hears_no_more() -> None:
    house = House(LONG)
    ann = await in_catch_up(house, 150)
    ann.leave()
    ann.transport.drain()
    talk(house, 151)
    await turn()
    assert ann.heard() == span(1, 100)
    assert house.hub.find(CHAT) is None


async def test_own_messages_without_echo_are_not_in_catch_up() -> None:
    house = House(LONG)
    ann = await in_catch_up(house, 150)
    ann.say("mine", echo=False)
    talk(house, 152)
    ann.transport.drain()
    assert ann.heard() == [*span(1, 150), 152]


async def test_several_rooms_catch_up_side_by_side() -> None:
    house = House(LONG)
    for room in ("chat", "news"):
        talk(house, *span(1, 250), room=room)
    ann = house.client("ann")
    ann.transport.stall(after=2)
    await ann.join("chat", history=250)
    await ann.join("news", history=250)
    for _ in range(5):
        ann.transport.drain(room=1)
    assert ann.heard("chat") == ann.heard("news") == span(1, 250)


# Joining a room again


async def test_joining_again_returns_what_lies_before_the_entry_once() -> None:
    house = House()
    talk(house, *span(1, 5))
    ann = await house.member("ann")
    talk(house, 6, 7)
    await turn()
    ann.take()
    await ann.join(position=at(house, 2))
    talk(house, 8)
    await turn()
    answer, live = ann.frames
    assert ([m["seq"] for m in answer["messages"]], answer["more"]) == ([3, 4, 5], False)
    assert answer["position"]["seq"] == 5
    assert live["seq"] == 8


async def test_joining_again_many_pages_before_the_entry() -> None:
    house = House(LONG)
    talk(house, *span(1, 350))
    ann = await house.member("ann")
    talk(house, 351)
    await turn()
    await ann.join(position=at(house, 0))
    talk(house, 352)
    await turn()
    assert ann.heard() == [351, *span(1, 350), 352]


async def test_the_entry_of_a_long_catch_up_is_where_the_room_was_then() -> None:
    house = House(LONG)
    talk(house, *span(1, 350))
    ann = house.client("ann")
    await ann.join(position=await position_of(house, 0))
    talk(house, 351)
    await turn()
    ann.take()
    await ann.join(position=at(house, 340))
    assert ann.heard() == span(341, 350)


async def test_joining_again_promises_no_more_than_there_is() -> None:
    house = House(LONG)
    talk(house, *span(1, 100))
    ann = await house.member("ann")
    talk(house, *span(101, 150))
    await turn()
    ann.take()
    await ann.join(position=at(house, 0))
    (answer,) = ann.frames
    assert ([m["seq"] for m in answer["messages"]], answer["more"]) == (span(1, 100), False)


async def test_the_position_of_the_answer_covers_only_what_was_sent() -> None:
    """A message delivered in this turn and not sent yet must not come after that answer: who has
    seen the position would take it for a duplicate."""
    house = House()
    ann = await house.member("ann")
    talk(house, 1)
    await ann.join()
    await turn()
    message, answer = ann.frames
    assert (message["seq"], answer["position"]["seq"]) == (1, 1)


async def test_joining_again_tells_who_is_there_and_nobody_else_of_it() -> None:
    house = House()
    ann, bob = await house.member("ann"), await house.member("bob")
    ann.take()
    again = await ann.join()
    await turn()
    assert again is not None
    assert again.newcomer is False
    assert [member["user"] for member in ann.frames[0]["members"]] == ["ann", "bob"]
    assert bob.frames == []


async def test_joining_again_in_catch_up_does_not_pretend_to_be_at_the_end() -> None:
    house = House(LONG)
    ann = await in_catch_up(house, 250)
    await ann.join()
    answer = ann.frames[-1]
    assert (answer["position"]["seq"], answer["more"]) == (100, True)
    ann.transport.drain()
    talk(house, 251)
    await turn()
    assert ann.heard() == span(1, 251)


async def test_joining_again_in_catch_up_starts_again_from_the_position() -> None:
    house = House(LONG)
    ann = await in_catch_up(house, 250)
    ann.take()
    await ann.join(position=at(house, 200))
    ann.transport.drain()
    talk(house, 251)
    await turn()
    assert ann.heard() == span(201, 251)


async def in_a_reading(house: House, newest: int, after: int = 0) -> Client:
    """A member that asks for what was before it entered, and reads no further than a page."""
    talk(house, *span(1, newest))
    ann = await house.member("ann")
    ann.transport.stall(after=1)
    await ann.join(position=at(house, after))
    return ann


async def test_of_two_readings_of_what_was_before_the_last_one_counts() -> None:
    house = House(LONG)
    ann = await in_a_reading(house, 350, after=150)
    ann.take()
    await ann.join(position=at(house, 0))
    ann.transport.drain()
    talk(house, 351)
    await turn()
    assert ann.heard() == span(1, 351)


async def test_asking_who_is_there_does_not_disturb_a_reading() -> None:
    house = House(LONG)
    ann = await in_a_reading(house, 350)
    await ann.join()
    ann.transport.drain()
    assert ann.heard() == span(1, 350)


async def test_a_reading_ends_where_the_log_fell_back() -> None:
    broker = FaultyBroker()
    house = House(LONG, broker=broker)
    ann = await in_a_reading(house, 250)
    ann.take()
    broker.deafen()
    broker.fall_back(180)
    talk(house, 1181, 1182)
    broker.notice()
    ann.transport.drain()
    assert ann.heard() == [*span(101, 180), 1181, 1182]


async def test_a_reading_ends_with_a_log_that_was_lost_from_before_its_bound_on() -> None:
    broker = FaultyBroker()
    house = House(LONG, broker=broker)
    talk(house, *span(1, 150))
    log = broker._rooms[CHAT].timeline
    first = log.term
    log.begin_term("second")
    talk(house, *span(151, 350))
    ann = await in_a_reading(house, 0)
    ann.take()
    broker.fall_back(150, term=first)
    broker.notice()
    ann.transport.drain()
    talk(house, 2000)
    await turn()
    (resync, message) = ann.frames
    assert (resync["recovery"], resync["position"]["seq"]) == ({"outcome": "reset"}, 150)
    assert (message["seq"], message["data"]) == (151, 2000)
    ann.take()
    await ann.join(position=at(house, 100))
    assert ann.heard() == span(101, 150)


async def test_a_gap_in_a_reading_leaves_the_position_where_the_member_is() -> None:
    house = House(("*", RoomOptions(history_size=200)))
    ann = await in_a_reading(house, 200)
    talk(house, *span(201, 350))
    await turn()
    ann.take()
    talk(house, 351)
    ann.transport.drain()
    newest, resync, *reading = ann.frames
    assert newest["seq"] == 351
    assert (resync["recovery"], resync["messages"]) == ({"outcome": "gap", "first": 152}, [])
    assert (resync["position"]["seq"], resync["more"]) == (351, True)
    assert [frame["seq"] for frame in reading] == span(152, 200)
    talk(house, 352)
    await turn()
    assert ann.frames[-1]["seq"] == 352


async def test_a_gap_in_a_reading_before_a_long_hole_leaves_the_position_alone_too() -> None:
    broker = FaultyBroker()
    house = House(("*", RoomOptions(history_size=200)), broker=broker)
    ann = await in_a_reading(house, 200)
    ann.transport.stall(after=1)
    broker.deafen()
    talk(house, *span(201, 350))
    broker.notice()
    ann.take()
    ann.transport.drain()
    (resync,) = ann.of_type("resync")
    assert resync["recovery"] == {"outcome": "gap", "first": 151}
    assert resync["position"]["seq"] == 300
    assert ann.heard() == [*span(151, 200), *span(301, 350)]


class Stuck(CatchUp):
    """Never arrives."""

    def step(self, timeline: Timeline, max_bytes: int = MAX_PAGE_BYTES) -> Replay:
        return Replay(Recovery(Outcome.OK), [], self.position, True)


async def test_a_reader_that_gets_nowhere_takes_nobody_else_along() -> None:
    house = House(LONG)
    ann = await in_a_reading(house, 350)
    bob = await house.member("bob")
    ann.session.memberships[CHAT].catchup = Stuck(at(house, 100), 350)
    ann.transport.drain()
    assert ann.transport.disconnect == INTERNAL
    talk(house, 351)
    await turn()
    assert bob.heard() == [351]


async def test_a_reading_goes_on_when_a_long_hole_is_closed() -> None:
    broker = FaultyBroker()
    house = House(LONG, broker=broker)
    ann = await in_a_reading(house, 250)
    broker.deafen()
    talk(house, *span(251, 450))
    broker.notice()
    ann.transport.drain()
    talk(house, 451)
    await turn()
    assert ann.heard() == span(1, 451)


async def test_leaving_while_joining_again_is_an_error() -> None:
    presence = SlowPresence()
    house = House(presence=presence)
    ann = await house.member("ann")
    presence.gate.clear()
    again = asyncio.create_task(ann.join())
    await turn()
    ann.leave()
    presence.gate.set()
    with pytest.raises(Unavailable):
        await again
    assert house.hub.find(CHAT) is None


# Personal rooms


async def test_a_personal_room_is_its_owner_s_alone() -> None:
    house = House()
    everything = Grants({"*": ["join", "history"], "@*": ["join", "history", "publish"]})
    with pytest.raises(NotGranted):
        await house.client("bob", grants=everything).join("@ann")
    ann = house.client("ann", grants=Grants({}))
    assert await ann.join("@ann", history=5) is not None
    house.client("bob", grants=everything).say("psst", "@ann")
    await turn()
    assert ann.heard("@ann") == ["psst"]


async def test_a_personal_room_has_no_presence() -> None:
    house = House()
    first, second = house.client("ann"), house.client("ann")
    await first.join("@ann")
    await second.join("@ann")
    assert types(first.frames) == ["joined"]
    assert (first.frames[0]["members"], first.frames[0]["count"]) == (None, None)
    assert (await house.presence.snapshot(RoomId("@ann"))).count == 0


# Refusals


async def refused(joining: Client, room: str = "chat", history: int = 0) -> type[HubbubError]:
    """The refusal; asserts that nothing has happened."""
    memberships = dict(joining.session.memberships)
    with pytest.raises(HubbubError) as refusal:
        await joining.join(room, history=history)
    assert joining.session.memberships == memberships
    return refusal.type


@pytest.mark.parametrize("name", ["", "a b", "@", "ä", "x" * 129, "a*"])
async def test_a_bad_name_is_refused(name: str) -> None:
    house = House()
    assert await refused(house.client(), name) is BadName


async def test_joining_takes_a_grant() -> None:
    house = House()
    reader = house.client(grants=Grants({"news": ["join"], "*": ["history", "members"]}))
    assert await refused(reader) is NotGranted
    assert house.hub.find(CHAT) is None
    assert await reader.join("news") is not None


async def test_history_takes_a_grant_of_its_own() -> None:
    house = House()
    newcomer = house.client(grants=Grants({"*": ["join"]}))
    assert await refused(newcomer, history=1) is NotGranted
    assert await newcomer.join(history=0) is not None


async def test_a_full_room_is_refused_and_left_as_it_was() -> None:
    house = House(("*", RoomOptions(max_members=2)))
    ann, bob = await house.member("ann"), await house.member("bob")
    ann.take()
    assert await refused(house.client("cid")) is RoomFull
    assert (await house.presence.snapshot(CHAT)).count == 2
    assert await house.client("bob").join() is not None
    bob.leave()
    await turn()
    assert ann.frames == []


async def test_a_connection_may_be_in_so_many_rooms() -> None:
    house = House(limits=SessionLimits(rooms=2))
    ann = house.client("ann")
    await ann.join("@ann")
    await ann.join("r1")
    await ann.join("r2")
    assert await refused(ann, "r3") is TooManyRooms
    assert await ann.join("r2") is not None
    ann.leave("r1")
    assert await ann.join("r3") is not None


async def test_a_node_has_so_many_rooms_open() -> None:
    house = House(max_rooms=3)
    ann, bob = await house.member("ann", "r1"), await house.member("bob", "r1")
    await ann.join("r2")
    await ann.join("r3")
    assert await refused(bob, "r4") is OverCapacity
    assert house.counted("refused_rooms") == 1
    assert house.hub.find(RoomId("r4")) is None
    assert (await house.presence.snapshot(RoomId("r4"))).count == 0
    assert await bob.join("r3") is not None
    ann.leave("r2")
    assert await bob.join("r4") is not None


async def test_a_node_that_has_its_rooms_opens_personal_ones() -> None:
    """Or whoever opens rooms could keep others from coming in. They count, so that all that is
    shown is what the limit is for."""
    house = House(max_rooms=2)
    ann, bob = await house.member("ann", "r1"), house.client("bob")
    for client in (ann, bob):
        assert await client.join(f"@{client.session.identity.user}") is not None
    assert await refused(bob, "r2") is OverCapacity
    assert await bob.join("r1") is not None


async def test_no_broker_means_nothing_has_happened() -> None:
    broker = FaultyBroker()
    house = House(broker=broker)
    broker.failure = Unavailable("no broker now")
    ann = house.client("ann")
    assert await refused(ann) is Unavailable
    assert (await house.presence.snapshot(CHAT)).count == 0
    assert house.hub.find(CHAT) is None


# While the answer is on its way


class Wait:
    """A join that hangs at the broker or at presence, and the way on."""

    def __init__(self, where: str) -> None:
        broker, presence = FaultyBroker(), SlowPresence()
        self.house = House(broker=broker, presence=presence)
        self._gate = broker.gate if where == "broker" else presence.gate
        self.ann = self.house.client("ann")

    async def begin(self, client: Client, room: str = "chat") -> "asyncio.Task[object]":
        self._gate.clear()
        task: asyncio.Task[object] = asyncio.create_task(client.join(room))
        await turn()
        return task

    async def end(self, *tasks: "asyncio.Task[object]") -> list[object]:
        self._gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    async def present(self, room: str = "chat") -> list[str]:
        snapshot = await self.house.presence.snapshot(RoomId(room))
        return [member.user for member in snapshot.members or ()]


@pytest.fixture(params=["broker", "presence"])
def where(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("code", [1000, 1005, FORBIDDEN.code])
async def test_closing_for_good_meanwhile_leaves_nothing_behind(where: str, code: int) -> None:
    wait = Wait(where)
    task = await wait.begin(wait.ann)
    if code == FORBIDDEN.code:
        wait.ann.session.end(FORBIDDEN)
    else:
        wait.ann.session.lost(code)
    assert await wait.end(task) == [None]
    assert await wait.present() == []
    assert wait.house.is_empty()
    assert [frame for frame in wait.ann.frames if frame["type"] != "disconnect"] == []


async def test_being_lost_meanwhile_leaves_nothing_but_the_grace(where: str) -> None:
    wait = Wait(where)
    async with wait.house.running():
        task = await wait.begin(wait.ann)
        wait.ann.session.lost(1006)
        assert await wait.end(task) == [None]
        assert wait.house.is_empty()
        await pass_time(11.0)
        assert await wait.present() == []


async def test_a_cancelled_join_leaves_nothing_but_the_grace(where: str) -> None:
    """As when a connection ends and takes its tasks along."""
    wait = Wait(where)
    async with wait.house.running():
        task = await wait.begin(wait.ann)
        task.cancel()
        await asyncio.wait({task})
        wait.ann.session.lost(1006)
        await wait.end()
        assert wait.house.is_empty()
        await pass_time(11.0)
        assert await wait.present() == []


async def test_a_join_cancelled_after_a_goodbye_leaves_at_once() -> None:
    wait = Wait("presence")
    task = await wait.begin(wait.ann)
    wait.ann.session.lost(1000)
    task.cancel()
    await asyncio.wait({task})
    await wait.end()
    assert await wait.present() == []


async def test_a_session_that_is_over_is_not_announced() -> None:
    house = House()
    bob, ann = await house.member("bob"), house.client("ann")
    ann.session.end(INTERNAL)
    assert await ann.join() is None
    await turn()
    assert bob.frames == []


async def test_the_limit_of_rooms_counts_joins_under_way(where: str) -> None:
    wait = Wait(where)
    wait.ann.session.limits = SessionLimits(rooms=2)
    tasks = [await wait.begin(wait.ann, f"room{number}") for number in range(4)]
    outcomes = await wait.end(*tasks)
    assert [type(outcome).__name__ for outcome in outcomes] == [
        "Joined", "Joined", "TooManyRooms", "TooManyRooms"
    ]  # fmt: skip
    assert await wait.present("room3") == []
    assert wait.house.hub.find(RoomId("room3")) is None


async def test_a_grant_that_is_withdrawn_meanwhile_counts(where: str) -> None:
    wait = Wait(where)
    task = await wait.begin(wait.ann)
    wait.ann.session.identity = Identity(UserId("ann"), Grants({}))
    (outcome,) = await wait.end(task)
    assert isinstance(outcome, NotGranted)
    assert await wait.present() == []
    assert wait.house.hub.find(CHAT) is None


async def test_a_grant_that_is_withdrawn_meanwhile_counts_without_presence_too() -> None:
    broker = FaultyBroker()
    house = House(("*", RoomOptions(presence=PresenceMode.OFF)), broker=broker)
    ann = house.client("ann")
    broker.gate.clear()
    task = asyncio.create_task(ann.join())
    await turn()
    ann.session.identity = Identity(UserId("ann"), Grants({}))
    broker.gate.set()
    with pytest.raises(NotGranted):
        await task
    assert house.hub.find(CHAT) is None


async def test_others_are_not_held_up(where: str) -> None:
    wait = Wait(where)
    bob = wait.house.client("bob", grants=DEFAULT_GRANTS)
    await bob.join("news")
    task = await wait.begin(wait.ann)
    bob.say("still here", "news")
    await turn()
    assert bob.heard("news") == ["still here"]
    (joined,) = await wait.end(task)
    assert joined is not None
