"""Members who need more of a log than this node holds: fetched for them, or told as a gap."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from domain.errors import HubbubError, Unavailable
from domain.identifiers import RoomId
from domain.lineage import Lineage
from domain.options import RoomOptions
from domain.timeline import PageRequest, Timeline
from tests.application.conftest import (
    Client,
    FaultyBroker,
    House,
    SlowPresence,
    pass_time,
    turn,
    types,
)
from tests.application.test_join_room import LONG, at, span, talk

CHAT = RoomId("chat")


class ForgetfulBroker(FaultyBroker):
    """The memory broker, of whose logs this node holds only a part until somebody needs more."""

    def __init__(self) -> None:
        super().__init__()
        self.reached: list[int] = []
        self.confirmed = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.unreachable: HubbubError | None = None
        self._whole: dict[RoomId, Timeline] = {}

    def hold_only(self, newest: int, room: RoomId = CHAT) -> None:
        log = self._rooms[room]
        whole = self._whole.setdefault(room, log.timeline)
        assert log.timeline.top == whole.top, "what was said since would be nowhere"
        copy = Timeline.restore(whole.epoch, Lineage(list(whole.lineage)), whole.top, whole.floor)
        copy.prepend(whole.page(PageRequest(limit=newest)).messages if newest else [])
        log.timeline = copy

    def fall_behind(self, by: int, room: RoomId = CHAT) -> None:
        """Hold what the log was so many messages ago, until somebody asks for more."""
        log = self._rooms[room]
        whole = self._whole.setdefault(room, log.timeline)
        lineage, end = Lineage(list(whole.lineage)), whole.top - by
        copy = Timeline.restore(whole.epoch, lineage, end, whole.floor)
        copy.prepend(whole.page(PageRequest(before=end + 1)).messages)
        log.timeline = copy

    async def confirm(self, room: RoomId) -> None:
        self.confirmed += 1
        await self.answers.wait()
        if self.unreachable is not None:
            raise self.unreachable
        self._rooms[room].timeline = self._whole.get(room, self._rooms[room].timeline)

    async def reach(self, room: RoomId, seq: int) -> None:
        self.reached.append(seq)
        await self.answers.wait()
        if self.unreachable is not None:
            raise self.unreachable
        timeline = self._rooms[room].timeline
        while timeline.first - 1 > max(seq, timeline.floor):
            timeline.prepend(self._whole[room].page(PageRequest(before=timeline.first)).messages)


async def house_of(said: int, held: int, broker: ForgetfulBroker) -> House:
    house = House(LONG, broker=broker)
    await house.member("witness")
    talk(house, *span(1, said))
    broker.hold_only(held)
    return house


@pytest.fixture
async def broker() -> ForgetfulBroker:
    return ForgetfulBroker()


async def begin(joining: Client, **how: object) -> "asyncio.Task[object]":
    task: asyncio.Task[object] = asyncio.create_task(joining.join(**how))  # type: ignore[arg-type]
    await turn()
    return task


async def test_a_returning_member_gets_what_is_not_held_here(broker: ForgetfulBroker) -> None:
    house = await house_of(90, held=10, broker=broker)
    ann = house.client("ann")
    await ann.join(position=at(house, 5))
    assert (ann.frames[0]["recovery"], ann.heard()) == ({"outcome": "ok"}, span(6, 90))
    assert broker.reached == [5]


async def test_what_is_held_here_is_not_fetched(broker: ForgetfulBroker) -> None:
    house = await house_of(90, held=10, broker=broker)
    for number, how in enumerate([{}, {"history": 10}, {"position": at(house, 80)}]):
        await house.client(f"ann{number}").join(**how)  # type: ignore[arg-type]
    assert broker.reached == []


async def test_history_that_is_not_held_is_fetched(broker: ForgetfulBroker) -> None:
    house = await house_of(90, held=10, broker=broker)
    ann = house.client("ann")
    await ann.join(history=30)
    assert (ann.heard(), broker.reached) == (span(61, 90), [60])


async def test_a_log_that_is_gone_is_asked_for_once(broker: ForgetfulBroker) -> None:
    house = House(("*", RoomOptions(history_size=20)), broker=broker)
    await house.member("witness")
    talk(house, *span(1, 90))
    broker.hold_only(10)
    for number in range(3):
        ann = house.client(f"ann{number}")
        await ann.join(position=at(house, 5))
        assert ann.frames[0]["recovery"] == {"outcome": "gap", "first": 71}
        assert ann.heard() == span(71, 90)
    assert broker.reached == [70]


async def test_joining_again_fetches_too(broker: ForgetfulBroker) -> None:
    house = await house_of(90, held=10, broker=broker)
    ann = await house.member("ann")
    await ann.join(position=at(house, 40))
    assert (ann.heard(), broker.reached) == (span(41, 90), [40])


async def test_what_is_said_meanwhile_comes_after_what_is_fetched(broker: ForgetfulBroker) -> None:
    house = await house_of(90, held=10, broker=broker)
    broker.answers.clear()
    ann = house.client("ann")
    joining = await begin(ann, position=at(house, 70))
    talk(house, 91)
    broker.answers.set()
    await joining
    talk(house, 92)
    await turn()
    assert ann.heard() == span(71, 92)


async def test_who_cannot_be_served_is_not_let_in_and_nobody_hears_of_it(
    broker: ForgetfulBroker,
) -> None:
    house = await house_of(90, held=10, broker=broker)
    witness = await house.member("bob")
    broker.unreachable = Unavailable("down")
    ann = house.client("ann")
    with pytest.raises(Unavailable):
        await ann.join(position=at(house, 5))
    await turn()
    assert (ann.frames, witness.frames, ann.session.memberships) == ([], [], {})


async def test_what_is_dropped_while_presence_answers_is_fetched_again(
    broker: ForgetfulBroker,
) -> None:
    presence = SlowPresence()
    house = House(LONG, broker=broker, presence=presence)
    await house.member("witness")
    talk(house, *span(1, 90))
    broker.hold_only(10)
    presence.gate.clear()
    ann = house.client("ann")
    joining = await begin(ann, position=at(house, 50))
    broker.hold_only(0)
    presence.gate.set()
    await joining
    assert (ann.heard(), broker.reached) == (span(51, 90), [50, 50])


async def test_who_cannot_be_served_after_all_leaves_again(broker: ForgetfulBroker) -> None:
    presence = SlowPresence()
    house = House(LONG, broker=broker, presence=presence)
    await house.member("witness")
    talk(house, *span(1, 90))
    broker.hold_only(10)
    presence.gate.clear()
    ann = house.client("ann")
    joining = await begin(ann, position=at(house, 85))
    broker.hold_only(0)
    broker.unreachable = Unavailable("down")
    presence.gate.set()
    with pytest.raises(Unavailable):
        await joining
    assert [member.user for member in (await presence.snapshot(CHAT)).members or ()] == ["witness"]


async def slow_reader(house: House) -> Client:
    """In catch-up, with the first page sent."""
    ann = house.client("ann")
    ann.transport.stall(after=1)
    await ann.join(position=at(house, 0))
    assert ann.heard() == span(1, 100)
    return ann


@asynccontextmanager
async def lacking(broker: ForgetfulBroker) -> AsyncIterator[tuple[House, Client]]:
    """A node that runs, and somebody in catch-up whose next page it does not hold."""
    house = await house_of(350, held=10, broker=broker)
    async with house.running():
        ann = await slow_reader(house)
        broker.hold_only(10)
        yield house, ann


async def test_a_slow_member_is_fetched_what_is_not_held_any_more(broker: ForgetfulBroker) -> None:
    async with lacking(broker) as (house, ann):
        broker.answers.clear()
        ann.transport.drain()
        await turn()
        ann.transport.drain()  # asks once only, however often there is room
        await turn()
        broker.answers.set()
        for _ in range(5):
            await turn()
        assert ann.heard() == span(1, 350)
        assert set(types(ann.frames)[1:]) == {"message"}
        assert broker.reached == [0, 100]
        talk(house, 351)
        await turn()
        assert ann.heard()[-1] == 351


async def test_what_cannot_be_fetched_for_a_while_is_waited_for(broker: ForgetfulBroker) -> None:
    async with lacking(broker) as (_, ann):
        broker.unreachable = Unavailable("a failover")
        ann.transport.drain()
        await pass_time(20)
        assert ann.heard() == span(1, 100)
        broker.unreachable = None
        await pass_time(5)
        assert ann.heard() == span(1, 350)
        assert set(types(ann.frames)[1:]) == {"message"}


async def test_who_leaves_while_the_store_is_away_is_not_waited_for(
    broker: ForgetfulBroker,
) -> None:
    async with lacking(broker) as (_, ann):
        broker.unreachable = Unavailable("a failover")
        ann.transport.drain()
        await pass_time(5)
        ann.leave()
        await pass_time(5)
        asked = len(broker.reached)
        await pass_time(60)
        assert len(broker.reached) == asked
        assert ann.heard() == span(1, 100)


async def test_what_cannot_be_fetched_for_a_slow_member_is_a_gap(broker: ForgetfulBroker) -> None:
    async with lacking(broker) as (_, ann):
        broker.unreachable = Unavailable("down")
        ann.transport.drain()
        await pass_time(60)
        (resync,) = ann.of_type("resync")
        assert resync["recovery"] == {"outcome": "gap", "first": 341}
        assert ann.heard() == [*span(1, 100), *span(341, 350)]


async def test_what_is_fetched_for_a_member_is_nothing_to_it_once_the_log_is_gone(
    broker: ForgetfulBroker,
) -> None:
    house = await house_of(350, held=350, broker=broker)
    async with house.running():
        ann = await house.member("ann")
        ann.transport.stall(after=1)
        await ann.join(position=at(house, 0))
        broker.hold_only(10)
        broker.answers.clear()
        ann.transport.drain()
        await turn()
        ann.take()
        broker.forget(CHAT)
        broker.unreachable = Unavailable("the log has changed meanwhile")
        broker.answers.set()
        await pass_time(60)
        talk(house, 2000)
        await turn()
        assert types(ann.frames) == ["resync", "message"]
        assert (ann.frames[0]["recovery"], ann.heard()) == ({"outcome": "reset"}, [2000])


async def test_who_leaves_while_something_is_fetched_hears_no_more(broker: ForgetfulBroker) -> None:
    async with lacking(broker) as (_, ann):
        broker.answers.clear()
        ann.transport.drain()
        await turn()
        ann.leave()
        broker.answers.set()
        for _ in range(5):
            await turn()
        assert ann.heard() == span(1, 100)


async def test_joining_again_lists_who_is_there_once_the_log_has_been_fetched(
    broker: ForgetfulBroker,
) -> None:
    house = await house_of(90, held=10, broker=broker)
    ann, bob = await house.member("ann"), await house.member("bob")
    broker.answers.clear()
    joining = await begin(ann, position=at(house, 40))
    bob.session.lost(1000)
    await turn()
    broker.answers.set()
    await joining
    (joined,) = ann.of_type("joined")
    (left,) = ann.of_type("leave")
    assert joined["version"] >= left["version"]
    assert [member["user"] for member in joined["members"]] == ["ann", "witness"]


async def test_who_enters_is_listed_those_who_are_there_once_the_log_has_been_fetched(
    broker: ForgetfulBroker,
) -> None:
    presence = SlowPresence()
    house = House(LONG, broker=broker, presence=presence)
    await house.member("witness")
    bob = await house.member("bob")
    talk(house, *span(1, 90))
    broker.hold_only(10)
    presence.gate.clear()
    ann = house.client("ann")
    joining = await begin(ann, position=at(house, 85))
    broker.hold_only(0)
    broker.answers.clear()
    presence.gate.set()
    await turn()
    bob.session.lost(1000)
    await turn()
    broker.answers.set()
    await joining
    assert [member["user"] for member in ann.frames[0]["members"]] == ["ann", "witness"]


async def test_leaving_while_joining_again_waits_for_the_log_is_an_error(
    broker: ForgetfulBroker,
) -> None:
    house = await house_of(90, held=10, broker=broker)
    ann = await house.member("ann")
    broker.answers.clear()
    joining = await begin(ann, position=at(house, 40))
    ann.leave()
    broker.answers.set()
    with pytest.raises(Unavailable):
        await joining
    assert ann.heard() == []


@pytest.mark.parametrize("joins_again", [False, True])
async def test_nothing_is_withdrawn_because_this_node_is_behind(
    broker: ForgetfulBroker, joins_again: bool
) -> None:
    """Somebody comes from a node that has heard more than this one."""
    house = await house_of(40, held=40, broker=broker)
    there = at(house, 40)
    ann = await house.member("ann") if joins_again else house.client("ann")
    broker.fall_behind(by=3)
    await ann.join(position=there)
    assert ann.frames[0]["recovery"] == {"outcome": "ok"}
    assert (ann.heard(), broker.confirmed) == ([], 1)


async def test_what_is_withdrawn_is_made_sure_of(broker: ForgetfulBroker) -> None:
    house = await house_of(40, held=40, broker=broker)
    ann = house.client("ann")
    await ann.join(position=at(house, 50))
    assert ann.frames[0]["recovery"] == {"outcome": "rewound", "valid_to": 40}
    other = house.client("bob")
    await other.join(position=at(house, 40)._replace(epoch="another"))
    assert other.frames[0]["recovery"] == {"outcome": "reset"}
    assert broker.confirmed == 2


async def test_what_cannot_be_made_sure_of_is_not_told(broker: ForgetfulBroker) -> None:
    house = await house_of(40, held=40, broker=broker)
    there = at(house, 40)
    broker.fall_behind(by=3)
    broker.unreachable = Unavailable("the store cannot be reached")
    with pytest.raises(Unavailable):
        await house.client("ann").join(position=there)
    broker.unreachable = None
    ann = house.client("ann")
    await ann.join(position=there)
    assert ann.frames[0]["recovery"] == {"outcome": "ok"}
