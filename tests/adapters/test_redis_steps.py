"""Each step by which nothing is lost unseen over Redis has a test that misses it when it is gone.

Here every step is taken out alone, and the test that is for it is run: it must fail. What a whole
system loses without some of them is shown in tests/chaos.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
import redis

from adapters.redis import replica, sequencer
from adapters.redis.feed import Feed
from adapters.redis.feeds import Feeds
from adapters.redis.presence_audit import Audit
from adapters.redis.presence_janitor import Janitor
from adapters.redis.presence_records import Record as Told
from adapters.redis.presence_replica import Replica as PresenceReplica
from adapters.redis.publisher import Publisher
from adapters.redis.pulse import Pulse
from adapters.redis.records import Record
from adapters.redis.replica import LogView, Replica, Verdict
from adapters.redis.replication import Replication
from application.ports.broadcasting import Published, Receipt
from domain.errors import HubbubError, Unavailable
from domain.member import PresenceChange
from domain.message import Draft, Message
from domain.options import Retention
from domain.position import Position
from domain.timeline import Timeline
from tests import peer, presence_nodes
from tests import redis_notes as notes
from tests.adapters import test_redis_broker as broker
from tests.adapters import test_redis_channels as channels
from tests.adapters import test_redis_presence as presence
from tests.adapters import test_redis_replica as replicas
from tests.adapters import test_redis_replication as replication
from tests.adapters import test_redis_scripts as scripts
from tests.adapters import test_redis_store as stores
from tests.contract import conftest as contract
from tests.presence_nodes import RedisNodes
from tests.redis_brokers import RoomInRedis
from tests.redis_server import RedisServer, StartRedis

pytestmark = pytest.mark.redis

HURRY = 2.0  # seconds until a test gives up waiting for what does not come any more

Without = Callable[[], AbstractContextManager[object]]


def script_with(*changes: tuple[str, str]) -> Without:
    """publish.lua with pieces replaced."""

    def changed() -> AbstractContextManager[object]:
        source = scripts.PUBLISH
        for old, new in changes:
            assert source.count(old) == 1, old
            source = source.replace(old, new)
        defaults = scripts.Room.publish.__kwdefaults__
        stack = ExitStack()
        stack.enter_context(patch.dict(defaults, script=source))
        stack.enter_context(patch.object(scripts, "PUBLISH", source))
        return stack

    return changed


def _by_start_alone(timeline: Timeline, record: Record) -> Verdict:
    if record.term != timeline.term and record.start == timeline.top + 1 == record.message.seq:
        return Verdict.NEXT
    return _judge(timeline, record)


_judge = replica.judge


def _by_number_alone(timeline: Timeline, record: Record) -> Verdict:
    return Verdict.NEXT if record.message.seq == timeline.top + 1 else Verdict.OLD


def _neighbours_only(self: Replica, now: float) -> Iterator[Message]:
    held, buffer = self._held, self._buffer
    self._forget_buffer()
    self.live = True
    for record in buffer:
        if record.message.seq > held.top:
            held.top = record.message.seq
            yield record.message


def _by_epoch_alone(self: LogView, position: Position) -> bool:
    return position.epoch == self.epoch


async def _reading_first(self: Feed) -> None:
    view = await self._log.newest(self.room, self.keep)
    await self._channels.subscribe(self.keys.feed, self)
    self.replica.timeline = view.timeline(self._clock())
    self.replica.live = self.is_open = True


def _delivering(submit: Any) -> Any:
    def submitted(self: Publisher, draft: Draft, keep: Retention, receipt: Receipt) -> None:
        def echo(told: Any) -> None:
            listener = self.feeds.listener
            if type(told) is Published and told.position is not None and listener is not None:
                place = told.position
                listener.deliver(
                    Message(draft.room, place.seq, told.message_id, draft.sender, draft.data,
                            1.0, place.log, place.seq == 1, None)
                )  # fmt: skip
            receipt(told)

        submit(self, draft, keep, echo)

    return submitted


def _nothing(*_: object, **__: object) -> None: ...


async def _no_look(*_: object) -> None: ...


_apply = PresenceReplica.apply


def _whatever_comes(self: PresenceReplica, record: Told) -> PresenceChange | None:
    self.life, self.revision = record.life, record.revision - 1
    return _apply(self, record)


class Step(NamedTuple):
    """A step, the test that is for it, and how it is taken out. `args` are those of the test that
    are no fixtures, for a test with several cases one of those that show it."""

    about: str
    test: Callable[..., Any]
    without: Without
    args: Mapping[str, object] = {}


STEPS = {
    "1 keys": Step(
        "a key that was used is looked up before anything is done",
        scripts.test_a_key_numbers_once,
        script_with(("if KEYS[3] and epoch then", "if false then")),
    ),
    "1 retries": Step(
        "what is sent again without a key is looked for in the log",
        scripts.test_what_was_done_is_not_done_again,
        script_with(("if ARGV[9] and epoch and not KEYS[3] then", "if false then")),
    ),
    "1 retries after a silence": Step(
        "each message of a publisher says on which side of it another one is",
        scripts.test_many_sent_again_are_found_by_few_looks,
        script_with(("seq = guessed and low or at - (which - sought)", "seq = high")),
        {"others": 0},
    ),
    "1 retries without an end": Step(
        "what would take long to look for is unknown",
        scripts.test_what_would_take_long_to_find_is_unknown,
        script_with((" or left < 0 then", " then")),
        {"data": "x"},
    ),
    "1 retries of what is gone": Step(
        "what may have been done and forgotten is not done again",
        scripts.test_what_may_have_been_done_and_trimmed_is_unknown,
        script_with(
            ("local sure, guessed = floor <= above, false", "local sure, guessed = true, false")
        ),
        {"keep": Retention(2, 600.0)},
    ),
    "2 lives": Step(
        "a room without meta begins another life, without the messages of the one before",
        scripts.test_without_meta_another_life_begins_without_the_old_messages,
        script_with(
            ("if not meta[1] and redis.call('EXISTS', KEYS[2]) == 1 then", "if false then")
        ),
    ),
    "3 terms": Step(
        "another store that numbers begins another term",
        scripts.test_another_store_begins_a_term,
        script_with(("if not epoch or meta[6] ~= reign then", "if not epoch then")),
    ),
    "4 the log first": Step(
        "what can be refused is done first, and nothing has happened if it is",
        scripts.test_a_message_that_cannot_be_stored_takes_no_number,
        script_with(
            ("redis.call('HSET', KEYS[1], 'seq', seq, unpack(changed))\n", ""),
            (
                "redis.call('XADD', ",
                "redis.call('HSET', KEYS[1], 'seq', seq, unpack(changed))\nredis.call('XADD', ",
            ),
        ),
    ),
    "5 previous terms": Step(
        "a message names the term before its own",
        scripts.test_another_store_begins_a_term,
        script_with(
            (
                "table.concat({HEAD, epoch, term, start, previous, seq",
                "table.concat({HEAD, epoch, term, start, '', seq",
            )
        ),
    ),
    "6 replicas": Step(
        "replicas are asked for on the connection that wrote",
        replication.test_more_replicas_than_there_are,
        lambda: patch.object(Replication, "confirm", lambda _, told: told(True)),
    ),
    "7 outcomes": Step(
        "what may have been done is not called undone",
        stores.test_no_answer_in_time,
        lambda: patch.object(sequencer, "OutcomeUnknown", Unavailable),
    ),
    "8 no local echo": Step(
        "a message of one's own is heard where all others are",
        broker.test_ones_own_message_does_not_overtake_what_others_said_before_it,
        lambda: patch.object(Publisher, "submit", _delivering(Publisher.submit)),
    ),
    "9 holes": Step(
        "a number that does not follow needs a look at the log",
        replicas.test_what_continues_a_log,
        lambda: patch.object(replicas, "judge", _by_number_alone),
        {"arriving": replicas.record(7), "verdict": Verdict.HOLE},
    ),
    "9 terms": Step(
        "a term follows only on the one that it names",
        replicas.test_what_continues_a_log,
        lambda: patch.object(replicas, "judge", _by_start_alone),
        {
            "arriving": replicas.record(6, "t3", start=6, previous="t2"),
            "verdict": Verdict.HOLE,
        },
    ),
    "10 subscribing first": Step(
        "a room is read once its channel is heard, not before",
        broker.test_what_is_said_between_subscribing_and_reading_is_not_missed,
        lambda: patch.object(Feed, "open", _reading_first),
    ),
    "11 the first of the buffer": Step(
        "what was heard meanwhile must follow on what was read",
        replicas.test_the_first_of_what_came_meanwhile_must_follow_what_was_read,
        lambda: patch.object(Replica, "settle", _neighbours_only),
        {"meanwhile": (10,)},
    ),
    "14 lost subscriptions": Step(
        "after a subscription that was not asked for the room is read",
        broker.test_what_was_said_while_nobody_heard_is_read_once_the_feed_is_back,
        lambda: patch.object(Feed, "lost", _nothing),
    ),
    "15 deaf connections": Step(
        "a connection that hears nothing is replaced",
        channels.test_a_deaf_connection_is_replaced,
        lambda: patch.object(Pulse, "beat", _nothing),
    ),
    "16 last messages": Step(
        "the ends of all rooms are compared with Redis",
        broker.test_a_last_message_that_was_lost_is_found,
        lambda: patch.object(Feeds, "check", _no_look),
    ),
    "17 lost tails": Step(
        "a log goes on for a reader only where its terms lead on from there",
        broker.test_a_lost_tail_is_rewound_with_what_came_instead,
        lambda: patch.object(LogView, "continues", _by_epoch_alone),
    ),
    "presence: dead nodes": Step(
        "what a dead node held is cleared away",
        presence.test_a_dead_nodes_users_leave_once,
        lambda: patch.object(Janitor, "clear_room", _no_look),
    ),
    "presence: numbers": Step(
        "a hole in what is told of a room is noticed",
        presence.test_a_hole_in_the_feed_is_noticed_by_what_follows,
        lambda: patch.object(PresenceReplica, "apply", _whatever_comes),
    ),
    "presence: looks": Step(
        "rooms are compared with Redis now and then",
        presence.test_a_record_lost_with_nothing_behind_it_is_noticed,
        lambda: patch.object(Audit, "look", _no_look),
    ),
}

MISSED = (
    *(AssertionError, TimeoutError, HubbubError, ExceptionGroup, redis.ResponseError),
    pytest.fail.Exception,
)
"""How a test fails. What else may come of it shows that the step was taken out in a wrong way."""


@pytest.fixture
def given(
    redis_server: RedisServer,
    redis_url: str,
    start_redis: StartRedis,
    monkeypatch: pytest.MonkeyPatch,
) -> Mapping[str, object]:
    """Fixtures of the tests above, by name."""
    return {
        "redis_server": redis_server,
        "redis_url": redis_url,
        "start_redis": start_redis,
        "monkeypatch": monkeypatch,
    }


async def run(step: Step, given: Mapping[str, object]) -> None:
    """Run its test as pytest would."""
    server, start_redis = given["redis_server"], given["start_redis"]
    assert isinstance(server, RedisServer)
    made = {**given, **step.args}
    wanted = inspect.signature(step.test).parameters
    if "room" in wanted:
        in_scripts = inspect.getmodule(step.test) is scripts
        made["room"] = scripts.Room(server) if in_scripts else RoomInRedis(server)
    if "pair" in wanted:
        made["pair"] = pair = replication.Pair(start_redis)  # type: ignore[arg-type]
        await pair.in_step()
    nodes = RedisNodes(server)
    made["nodes"] = nodes
    try:
        outcome = step.test(**{name: made[name] for name in wanted})
        if inspect.isawaitable(outcome):
            await outcome
    finally:
        await nodes.stop()


@pytest.mark.parametrize("name", STEPS)
async def test_a_step_that_is_missing_is_missed(
    name: str, given: Mapping[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = STEPS[name]
    monkeypatch.setattr(contract, "DEADLINE", HURRY)
    monkeypatch.setattr(peer.until, "__defaults__", (HURRY,))
    for module in (notes, presence_nodes):
        monkeypatch.setattr(module, "DEADLINE", HURRY)
    with step.without(), pytest.raises(MISSED):
        await run(step, given)


@pytest.mark.parametrize("name", STEPS)
async def test_with_the_step_its_test_passes(name: str, given: Mapping[str, object]) -> None:
    """Called like this, or the one above would show nothing."""
    await run(STEPS[name], given)
