"""Random days of a broker, with lists that forget nothing as the judge.

One node and two rooms. After every step the node must have heard exactly what the judge says, and
every position anybody ever held must get the verdict it deserves.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from application.ports.broadcasting import Published
from domain.errors import KeyConflict
from domain.identifiers import RoomId
from domain.message import Message
from domain.options import Retention
from domain.position import Position
from domain.timeline import Outcome, PageRequest, Recovery, Replay
from tests.contract.conftest import BROKERS, BrokerHarness, BrokerNode, brokers_over, draft

KEY_TTL = 300.0
PAGE = 100
ROOMS = st.sampled_from([RoomId("a"), RoomId("a:b")])
KEEPS = st.builds(Retention, st.sampled_from([0, 2, 150]), st.sampled_from([100.0, 250.0]))
T = TypeVar("T")


class Room:
    """All that ever happened in one room, and what of it a subscriber must have heard."""

    def __init__(self) -> None:
        self.life = 0  # raised when the log is lost
        self.messages: list[str] = []
        self.forgotten = 0
        self.expires_at = float("inf")
        self.keys: dict[tuple[str, str], tuple[str, int, float]] = {}
        self.subscribed = False
        self.numbered: list[tuple[int, str]] = []
        self.ephemeral: list[str] = []
        self.interruptions = 0

    def append(self, text: str, keep: Retention, now: float) -> int:
        self.messages.append(text)
        self.forgotten = max(self.forgotten, len(self.messages) - keep.size)
        self.expires_at = now + keep.ttl
        if self.subscribed:
            self.numbered.append((len(self.messages), text))
        return len(self.messages)

    def expire(self, now: float) -> None:
        if now >= self.expires_at:
            self.forgotten = len(self.messages)
        self.keys = {key: used for key, used in self.keys.items() if used[2] > now}

    def lose(self) -> None:
        self.life += 1
        self.messages, self.forgotten, self.keys = [], 0, {}
        self.expires_at = float("inf")
        self.interruptions += self.subscribed

    def kept(self, first: int, last: int | None = None) -> list[tuple[int, str]]:
        """The kept messages from seq `first` to seq `last`."""
        start = max(first - 1, self.forgotten)
        return list(enumerate(self.messages[start:last], start + 1))

    def verdict(self, life: int, seq: int) -> Recovery:
        if life != self.life:
            return Recovery(Outcome.RESET)
        if seq > len(self.messages):
            return Recovery(Outcome.REWOUND, valid_to=len(self.messages))
        if seq < self.forgotten:
            return Recovery(Outcome.GAP, first=self.forgotten + 1)
        return Recovery(Outcome.OK)


def told(messages: list[Message]) -> list[tuple[int, str]]:
    return [(message.seq, message.data.decode().strip('"')) for message in messages]


class Day(RuleBasedStateMachine):
    harness: ClassVar[Callable[[], BrokerHarness]]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.now = 0.0
        self.said = 0
        self.rooms: dict[RoomId, Room] = {}
        self.held: dict[tuple[RoomId, Position], int] = {}  # positions, and the life they are of
        self.backend = type(self).harness()
        self.node: BrokerNode = self.run(self.backend.node())

    def run(self, work: Awaitable[T]) -> T:
        async def wait() -> T:
            return await work

        return self.runner.run(wait())

    def room(self, name: RoomId) -> Room:
        return self.rooms.setdefault(name, Room())

    def hold(self, name: RoomId, position: Position) -> None:
        self.held[name, position] = self.room(name).life

    # What happens

    @rule(name=ROOMS, count=st.sampled_from([1, 1, 2, 40]), keep=KEEPS)
    def publish(self, name: RoomId, count: int, keep: Retention) -> None:
        for _ in range(count):
            self.said += 1
            published = self.run(self.node.publish(f"m{self.said}", name, keep))
            seq = self.room(name).append(f"m{self.said}", keep, self.now)
            assert published.position is not None
            assert (published.position.seq, published.duplicate) == (seq, False)
            self.hold(name, published.position)

    @rule(
        name=ROOMS,
        key=st.sampled_from(["k1", "k2"]),
        principal=st.sampled_from(["user:ann", "user:bob"]),
        text=st.sampled_from(["x", "y"]),
        keep=KEEPS,
    )
    def publish_with_a_key(
        self, name: RoomId, key: str, principal: str, text: str, keep: Retention
    ) -> None:
        room = self.room(name)
        sent = draft(text, name, key=key, principal=principal)
        outcome = self.run(self.node.submit_draft(sent, keep).outcome())
        used = room.keys.get((principal, key))
        if used is not None and used[0] != text:
            assert isinstance(outcome, KeyConflict)
            return
        assert isinstance(outcome, Published)
        assert outcome.duplicate == (used is not None)
        if used is None:
            seq = room.append(text, keep, self.now)
            room.keys[principal, key] = used = (text, seq, self.now + KEY_TTL)
        assert outcome.position is not None
        assert outcome.position.seq == used[1]

    @rule(name=ROOMS, keep=KEEPS)
    def whisper(self, name: RoomId, keep: Retention) -> None:
        self.said += 1
        sent = draft(f"e{self.said}", name, ephemeral=True)
        assert self.run(self.node.submit_draft(sent, keep).published()).position is None
        if self.room(name).subscribed:
            self.room(name).ephemeral.append(f"e{self.said}")

    @rule(name=ROOMS, keep=KEEPS)
    def subscribe(self, name: RoomId, keep: Retention) -> None:
        self.run(self.node.broker.subscribe(name, keep))
        self.room(name).subscribed = True

    @rule(name=ROOMS)
    def unsubscribe(self, name: RoomId) -> None:
        self.node.broker.unsubscribe(name)
        self.room(name).subscribed = False

    # Primes, so that no sum of them falls on a lifetime.
    @rule(seconds=st.sampled_from([31.0, 127.0, 401.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.run(self.backend.advance(seconds))
        for room in self.rooms.values():
            room.expire(self.now)

    @rule(name=ROOMS)
    def lose_the_log(self, name: RoomId) -> None:
        self.room(name).lose()
        self.run(self.backend.lose_log(name))

    # What must hold

    @invariant()
    def everything_is_heard_once_and_in_order(self) -> None:
        for name, room in self.rooms.items():
            self.run(self.node.notes.heard(len(room.numbered) + len(room.ephemeral), name))
            heard = told(self.node.notes.messages(name))
            assert [message for message in heard if message[0]] == room.numbered
            assert sorted(text for seq, text in heard if not seq) == sorted(room.ephemeral)
            assert self.node.notes.interruptions(name) == room.interruptions

    @invariant()
    def the_timeline_is_there_while_subscribed(self) -> None:
        for name, room in self.rooms.items():
            timeline = self.node.broker.timeline(name)
            assert (timeline is not None) == room.subscribed
            if timeline is not None:
                assert timeline.top == len(room.messages)

    @rule(ahead=st.integers(0, 3))
    def everybody_comes_back(self, ahead: int) -> None:
        for (name, held), life in list(self.held.items()):
            room = self.room(name)
            position = held._replace(seq=held.seq + ahead)
            replay = self.run(self.come_back(name, position))
            verdict = room.verdict(life, position.seq)
            assert replay.recovery == verdict
            if verdict.outcome is Outcome.RESET:
                assert (replay.messages, replay.position.seq) == ([], len(room.messages))
                continue
            rest = room.kept(min(position.seq, len(room.messages)) + 1)
            assert told(replay.messages) == rest[:PAGE]
            assert replay.more == (len(rest) > PAGE)

    async def come_back(self, name: RoomId, position: Position) -> Replay:
        broker = self.node.broker
        await broker.subscribe(name, Retention(1, 1.0))
        timeline = broker.timeline(name)
        assert timeline is not None
        seq = timeline.lacks(position)
        if seq is not None:
            await broker.reach(name, seq)
            timeline = broker.timeline(name)
            assert timeline is not None
        replay = timeline.recover(position)
        if not self.room(name).subscribed:
            broker.unsubscribe(name)
        return replay

    @rule(name=ROOMS, seq=st.integers(0, 200), limit=st.sampled_from([1, 7, 100]))
    def read_on(self, name: RoomId, seq: int, limit: int) -> None:
        request = PageRequest(after=seq, limit=limit)
        page = self.run(self.node.broker.page(name, request, Retention(1, 1.0)))
        rest = self.room(name).kept(seq + 1)
        assert told(page.messages) == rest[:limit]
        assert page.more == (len(rest) > limit)

    @rule(name=ROOMS, seq=st.none() | st.integers(1, 200), limit=st.sampled_from([1, 7, 100]))
    def read_back(self, name: RoomId, seq: int | None, limit: int) -> None:
        request = PageRequest(before=seq, limit=limit)
        page = self.run(self.node.broker.page(name, request, Retention(1, 1.0)))
        rest = self.room(name).kept(1, None if seq is None else seq - 1)
        assert told(page.messages) == rest[-limit:]
        assert page.more == (len(rest) > limit)

    def teardown(self) -> None:
        try:
            self.run(self.backend.__aexit__())
        finally:
            self.runner.close()


@pytest.mark.parametrize("backend", BROKERS)
def test_every_day_ends_as_the_judge_says(backend: str, request: pytest.FixtureRequest) -> None:
    class TheDay(Day):
        harness = staticmethod(brokers_over(backend, request))

    run_state_machine_as_test(
        TheDay, settings=settings(max_examples=60, stateful_step_count=30, deadline=None)
    )
