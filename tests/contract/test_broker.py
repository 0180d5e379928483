"""What every broker promises: one numbering per room, delivery in order, and a log to read on."""

import asyncio
from collections.abc import Callable

import pytest

from adapters.memory import broker as memory
from adapters.memory.broker import MemoryBroker
from application.ports.broadcasting import Published
from domain.errors import KeyConflict
from domain.identifiers import RoomId, SessionId
from domain.message import Message
from domain.options import Retention
from domain.position import Position
from domain.timeline import Outcome, Page, PageRequest, Recovery, Replay, Timeline
from tests.contract.conftest import (
    CHAT,
    KEEP,
    BrokerHarness,
    BrokerNode,
    BrokerNotes,
    Clock,
    Receipts,
    draft,
)

NEWS = RoomId("news")
# Names that a key, a pattern or a separator might be taken for.
HOSTILE = [
    "a:b", "a", "b", "@ann", "~", ".", "..", "a.b", "-", "log:chat", "chat:log", "A", "x" * 128,
]  # fmt: skip


def seqs(messages: list[Message]) -> list[int]:
    return [message.seq for message in messages]


def texts(messages: list[Message]) -> list[str]:
    return [message.data.decode().strip('"') for message in messages]


def span(first: int, last: int) -> list[int]:
    return list(range(first, last + 1))


def timeline_of(node: BrokerNode, room: RoomId = CHAT) -> Timeline:
    timeline = node.broker.timeline(room)
    assert timeline is not None
    return timeline


async def fill(node: BrokerNode, count: int, keep: Retention = KEEP, room: RoomId = CHAT) -> None:
    """Publish "1", "2" and so on."""
    receipts = [node.submit(str(number), room, keep) for number in span(1, count)]
    for receipt in receipts:
        await receipt.published()


async def recover(node: BrokerNode, after: Position, keep: Retention = KEEP) -> Replay:
    """What somebody is told who comes back to `chat` with a position."""
    subscribed = node.broker.timeline(CHAT) is not None
    await node.broker.subscribe(CHAT, keep)
    seq = timeline_of(node).lacks(after)
    if seq is not None:
        await node.broker.reach(CHAT, seq)
    replay = timeline_of(node).recover(after)
    if not subscribed:
        node.broker.unsubscribe(CHAT)
    return replay


async def position(node: BrokerNode, seq: int) -> Position:
    """A position in the log of `chat` as it is now."""
    return (await recover(node, Position("", 0, ""))).position._replace(seq=seq)


# Numbering and delivery


async def test_numbers_are_consecutive_from_one(node: BrokerNode) -> None:
    places = [(await node.publish("x")).position for _ in range(5)]
    assert [place.seq for place in places if place is not None] == [1, 2, 3, 4, 5]
    assert len({place.log for place in places if place is not None}) == 1


async def test_a_subscribed_room_is_delivered_in_order_and_once(node: BrokerNode) -> None:
    await node.broker.subscribe(CHAT, KEEP)
    await fill(node, 200)
    heard = await node.notes.heard(200)
    assert (seqs(heard), texts(heard)) == (span(1, 200), [str(n) for n in span(1, 200)])


async def test_a_message_is_its_draft_and_its_place(node: BrokerNode) -> None:
    await node.broker.subscribe(CHAT, KEEP)
    skipping = draft("x", skip=SessionId("s1"))
    published = await node.submit_draft(skipping).published()
    (message,) = await node.notes.heard(1)
    assert (message.room, message.sender, message.data) == (CHAT, "ann", b'"x"')
    assert (message.skip, message.id) == ("s1", published.message_id)
    assert published.position == Position.parse(message.log, message.seq)
    assert message.ts > 1.6e9
    assert message.id


async def test_only_the_first_message_of_a_log_opens_it(node: BrokerNode) -> None:
    await node.broker.subscribe(CHAT, KEEP)
    await fill(node, 3)
    assert [m.opens_log for m in await node.notes.heard(3)] == [True, False, False]


async def test_message_ids_are_unique_over_rooms(node: BrokerNode) -> None:
    published = [await node.publish("x", room) for room in (CHAT, NEWS) for _ in range(20)]
    assert len({receipt.message_id for receipt in published}) == 40


async def test_drafts_are_numbered_in_the_order_of_submission(node: BrokerNode) -> None:
    receipts = [node.submit(str(number)) for number in span(1, 100)]
    places = [(await receipt.published()).position for receipt in receipts]
    assert [place.seq for place in places if place is not None] == span(1, 100)


async def test_rooms_are_numbered_apart(node: BrokerNode) -> None:
    await node.broker.subscribe(CHAT, KEEP)
    await node.broker.subscribe(NEWS, KEEP)
    for room in (CHAT, NEWS, NEWS, CHAT):
        await node.publish("x", room)
    assert seqs(await node.notes.heard(2, CHAT)) == [1, 2]
    assert seqs(await node.notes.heard(2, NEWS)) == [1, 2]


async def test_rooms_with_hostile_names_do_not_mix(node: BrokerNode) -> None:
    for name in HOSTILE:
        await node.broker.subscribe(RoomId(name), KEEP)
        await node.publish(name, RoomId(name))
    for name in HOSTILE:
        assert texts(await node.notes.heard(1, RoomId(name))) == [name]
        page = await node.broker.page(RoomId(name), PageRequest(), KEEP)
        assert texts(page.messages) == [name]


async def test_a_receipt_is_called_once(node: BrokerNode) -> None:
    await node.broker.subscribe(CHAT, KEEP)
    receipts = [
        node.submit("a"),
        node.submit_draft(draft("b", key="k")),
        node.submit_draft(draft("b", key="k")),
        node.submit_draft(draft("c", key="k")),
        node.submit_draft(draft("d", ephemeral=True)),
    ]
    for receipt in receipts:
        await receipt.outcome()
    await node.publish("last")
    await node.notes.heard(4)
    assert [len(receipt.all) for receipt in receipts] == [1] * 5


# Subscriptions


async def test_a_room_that_is_not_subscribed_is_not_delivered(node: BrokerNode) -> None:
    await node.broker.subscribe(CHAT, KEEP)
    await fill(node, 5, room=NEWS)
    await node.publish("x")
    await node.notes.heard(1)
    assert node.notes.messages(NEWS) == []
    assert node.broker.timeline(NEWS) is None


async def test_what_came_before_a_subscription_is_in_the_timeline_only(node: BrokerNode) -> None:
    await fill(node, 3)
    await node.broker.subscribe(CHAT, KEEP)
    assert timeline_of(node).top == 3
    await node.publish("x")
    assert seqs(await node.notes.heard(1)) == [4]


async def test_a_timeline_is_continuous_with_the_next_delivery(node: BrokerNode) -> None:
    """Publishing all the while: whatever the timeline shows at the end of `subscribe`, the first
    message delivered is the one after it."""
    receipts: list[Receipts] = []
    for _ in range(30):
        receipts.append(node.submit("x"))
        subscribing = asyncio.create_task(node.broker.subscribe(CHAT, KEEP))
        receipts += [node.submit("x") for _ in range(3)]
        await subscribing
        top, before = timeline_of(node).top, len(node.notes.messages())
        await node.publish("x")
        heard = await node.notes.heard(before + 1)
        assert heard[before].seq == top + 1
        node.broker.unsubscribe(CHAT)
    for receipt in receipts:
        await receipt.published()


async def test_the_timeline_follows_what_is_delivered(node: BrokerNode) -> None:
    await node.broker.subscribe(CHAT, KEEP)
    start = timeline_of(node).position
    await fill(node, 5)
    await node.notes.heard(5)
    replay = timeline_of(node).recover(start)
    assert (replay.recovery.outcome, seqs(replay.messages)) == (Outcome.OK, span(1, 5))


async def test_unsubscribing_ends_delivery_and_keeps_the_log(node: BrokerNode) -> None:
    await node.broker.subscribe(CHAT, KEEP)
    await node.broker.subscribe(NEWS, KEEP)
    await fill(node, 2)
    await node.notes.heard(2)
    node.broker.unsubscribe(CHAT)
    assert node.broker.timeline(CHAT) is None
    await node.publish("unheard")
    await node.publish("x", NEWS)
    await node.notes.heard(1, NEWS)
    assert seqs(node.notes.messages()) == [1, 2]
    await node.broker.subscribe(CHAT, KEEP)
    assert timeline_of(node).top == 3


async def test_subscribing_and_unsubscribing_again_is_harmless(node: BrokerNode) -> None:
    node.broker.unsubscribe(CHAT)
    await node.broker.subscribe(CHAT, KEEP)
    await node.broker.subscribe(CHAT, KEEP)
    await node.publish("x")
    assert seqs(await node.notes.heard(1)) == [1]
    node.broker.unsubscribe(CHAT)
    node.broker.unsubscribe(CHAT)
    assert node.broker.timeline(CHAT) is None


async def test_a_cancelled_subscription_can_be_repeated(node: BrokerNode) -> None:
    for turns in range(5):
        task = asyncio.create_task(node.broker.subscribe(CHAT, KEEP))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        node.broker.unsubscribe(CHAT)
    await node.broker.subscribe(CHAT, KEEP)
    await node.publish("x")
    assert texts(await node.notes.heard(1)) == ["x"]
    assert timeline_of(node).top == 1


# Keys


async def test_a_key_numbers_a_draft_once(node: BrokerNode) -> None:
    await node.broker.subscribe(CHAT, KEEP)
    published = [await node.submit_draft(draft("x", key="k")).published() for _ in range(3)]
    await node.publish("next")
    assert texts(await node.notes.heard(2)) == ["x", "next"]
    assert [receipt.duplicate for receipt in published] == [False, True, True]
    assert len({(receipt.position, receipt.message_id) for receipt in published}) == 1


async def test_a_key_used_at_the_same_time_numbers_once(node: BrokerNode) -> None:
    await node.broker.subscribe(CHAT, KEEP)
    receipts = [node.submit_draft(draft("x", key="k")) for _ in range(50)]
    published = [await receipt.published() for receipt in receipts]
    assert sum(not receipt.duplicate for receipt in published) == 1
    assert len({receipt.position for receipt in published}) == 1
    await node.publish("next")
    assert texts(await node.notes.heard(2)) == ["x", "next"]


async def test_a_key_used_for_other_data_is_a_conflict(node: BrokerNode) -> None:
    first = await node.submit_draft(draft("x", key="k")).published()
    assert isinstance(await node.submit_draft(draft("y", key="k")).outcome(), KeyConflict)
    again = await node.submit_draft(draft("x", key="k")).published()
    assert again == first._replace(duplicate=True)
    page = await node.broker.page(CHAT, PageRequest(), KEEP)
    assert texts(page.messages) == ["x"]


async def test_a_key_counts_within_one_room_and_one_principal(node: BrokerNode) -> None:
    others = [
        draft("x", key="k"),
        draft("x", key="k", principal="user:bob"),
        draft("x", key="k", principal="user"),
        draft("x", key=":ann:k", principal="user"),
        draft("x", NEWS, key="k"),
        draft("x", key="K"),
    ]
    published = [await node.submit_draft(other).published() for other in others]
    assert not any(receipt.duplicate for receipt in published)


async def test_drafts_without_a_key_are_never_duplicates(node: BrokerNode) -> None:
    published = [await node.publish("x") for _ in range(3)]
    assert not any(receipt.duplicate for receipt in published)


async def test_a_key_is_remembered_for_five_minutes(
    brokers: BrokerHarness, node: BrokerNode
) -> None:
    long = Retention(size=1000, ttl=3600.0)
    await node.submit_draft(draft("x", key="k"), long).published()
    await brokers.advance(295.0)
    assert (await node.submit_draft(draft("x", key="k"), long).published()).duplicate
    await brokers.advance(10.0)
    fresh = await node.submit_draft(draft("other", key="k"), long).published()
    assert (fresh.duplicate, fresh.position and fresh.position.seq) == (False, 2)


async def test_a_key_outlives_the_messages(brokers: BrokerHarness, node: BrokerNode) -> None:
    short = Retention(size=1000, ttl=10.0)
    first = await node.submit_draft(draft("x", key="k"), short).published()
    await brokers.advance(100.0)
    again = await node.submit_draft(draft("x", key="k"), short).published()
    assert again == first._replace(duplicate=True)


async def test_a_key_does_not_outlive_its_log(brokers: BrokerHarness, node: BrokerNode) -> None:
    await node.submit_draft(draft("x", key="k")).published()
    await brokers.lose_log(CHAT)
    assert not (await node.submit_draft(draft("x", key="k")).published()).duplicate


# Ephemeral messages


async def test_an_ephemeral_message_has_no_place(node: BrokerNode) -> None:
    await node.broker.subscribe(CHAT, KEEP)
    await node.publish("before")
    published = await node.submit_draft(draft("gone", ephemeral=True)).published()
    await node.publish("after")
    heard = await node.notes.heard(3)
    assert (published.position, published.duplicate) == (None, False)
    gone = next(message for message in heard if message.data == b'"gone"')
    assert (gone.seq, gone.id, gone.opens_log) == (0, "", False)
    assert seqs([message for message in heard if message is not gone]) == [1, 2]


async def test_an_ephemeral_message_is_in_no_log(node: BrokerNode) -> None:
    await node.broker.subscribe(CHAT, KEEP)
    await node.submit_draft(draft("gone", ephemeral=True)).published()
    await node.notes.heard(1)
    assert timeline_of(node).top == 0
    assert (await node.broker.page(CHAT, PageRequest(), KEEP)).messages == []


async def test_an_ephemeral_message_does_not_wait_for_subscribers(node: BrokerNode) -> None:
    await node.submit_draft(draft("gone", ephemeral=True)).published()
    await node.broker.subscribe(CHAT, KEEP)
    await node.publish("x")
    assert texts(await node.notes.heard(1)) == ["x"]


# What the log keeps


async def test_only_the_newest_messages_are_kept(node: BrokerNode) -> None:
    await fill(node, 9, Retention(size=4, ttl=600.0))
    page = await node.broker.page(CHAT, PageRequest(), KEEP)
    assert (seqs(page.messages), page.more) == ([6, 7, 8, 9], False)


async def test_what_is_held_of_logs_is_known(brokers: BrokerHarness, node: BrokerNode) -> None:
    assert node.broker.held == (0, 0)
    await node.broker.subscribe(CHAT, KEEP)
    assert node.broker.held == (1, 0)
    await node.publish("x" * 1000)
    await node.notes.heard(1)
    rooms, first = node.broker.held
    assert rooms == 1
    assert first > 1000
    await node.publish("y" * 1000)
    await node.notes.heard(2)
    assert node.broker.held == (1, 2 * first)
    await brokers.advance(KEEP.ttl + 1)
    assert node.broker.held == (1, 0)


async def test_a_log_may_keep_nothing_and_still_count(node: BrokerNode) -> None:
    nothing = Retention(size=0, ttl=600.0)
    await node.broker.subscribe(CHAT, nothing)
    await fill(node, 3, nothing)
    assert seqs(await node.notes.heard(3)) == [1, 2, 3]
    replay = await recover(node, await position(node, 1), nothing)
    assert replay.recovery == Recovery(Outcome.GAP, first=4)


async def test_the_lifetime_runs_from_the_last_publish(
    brokers: BrokerHarness, node: BrokerNode
) -> None:
    keep = Retention(size=1000, ttl=100.0)
    await node.publish("a", keep=keep)
    await brokers.advance(90.0)
    await node.publish("b", keep=keep)
    await brokers.advance(90.0)
    page = await node.broker.page(CHAT, PageRequest(), keep)
    assert texts(page.messages) == ["a", "b"]
    await brokers.advance(11.0)
    assert (await node.broker.page(CHAT, PageRequest(), keep)).messages == []


async def test_epoch_and_count_outlive_the_log(brokers: BrokerHarness, node: BrokerNode) -> None:
    keep = Retention(size=1000, ttl=100.0)
    before = await node.publish("a", keep=keep)
    await brokers.advance(3600.0)
    after = await node.publish("b", keep=keep)
    assert before.position is not None
    assert after.position == before.position._replace(seq=2)
    replay = await recover(node, before.position._replace(seq=0), keep)
    assert replay.recovery == Recovery(Outcome.GAP, first=2)


async def test_the_timeline_of_a_quiet_room_expires_too(
    brokers: BrokerHarness, node: BrokerNode
) -> None:
    keep = Retention(size=1000, ttl=100.0)
    await node.broker.subscribe(CHAT, keep)
    await node.publish("a", keep=keep)
    await node.notes.heard(1)
    await brokers.advance(101.0)
    timeline = timeline_of(node)
    assert (timeline.first, timeline.top) == (2, 1)


async def test_reading_does_not_make_a_room(node: BrokerNode) -> None:
    page = await node.broker.page(CHAT, PageRequest(), KEEP)
    assert (page.messages, page.more) == ([], False)
    published = await node.publish("x")
    assert published.position is not None
    assert (published.position.seq, published.position.log == page.log) == (1, False)


# Recovery


async def test_what_follows_a_position(node: BrokerNode) -> None:
    await fill(node, 9)
    replay = await recover(node, await position(node, 6))
    assert replay.recovery == Recovery(Outcome.OK)
    assert (seqs(replay.messages), replay.more) == ([7, 8, 9], False)
    assert replay.position == await position(node, 9)


async def test_a_position_at_the_top_misses_nothing(node: BrokerNode) -> None:
    await fill(node, 3)
    replay = await recover(node, await position(node, 3))
    assert (replay.recovery, replay.messages) == (Recovery(Outcome.OK), [])


async def test_a_position_whose_followers_are_gone_is_a_gap(node: BrokerNode) -> None:
    await fill(node, 9, Retention(size=4, ttl=600.0))
    assert (await recover(node, await position(node, 5))).recovery == Recovery(Outcome.OK)
    replay = await recover(node, await position(node, 4))
    assert replay.recovery == Recovery(Outcome.GAP, first=6)
    assert seqs(replay.messages) == [6, 7, 8, 9]


async def test_a_position_above_the_top_is_rewound(node: BrokerNode) -> None:
    await fill(node, 3)
    replay = await recover(node, await position(node, 7))
    assert replay.recovery == Recovery(Outcome.REWOUND, valid_to=3)
    assert (replay.messages, replay.position.seq) == ([], 3)


@pytest.mark.parametrize(
    "change",
    [
        lambda at: at._replace(epoch="other"),
        lambda at: at._replace(term="other"),
        lambda at: at._replace(epoch="", term=""),
        lambda at: at._replace(seq=-1),
        lambda at: Position.parse("nonsense", at.seq),
    ],
)
async def test_a_position_of_no_log_we_know_is_a_reset(
    node: BrokerNode, change: Callable[[Position], Position]
) -> None:
    await fill(node, 3)
    strange = change(await position(node, 2))
    replay = await recover(node, strange)
    assert (replay.recovery, replay.messages) == (Recovery(Outcome.RESET), [])
    assert replay.position == await position(node, 3)


async def test_a_long_replay_comes_in_pages(node: BrokerNode) -> None:
    await fill(node, 250)
    at, read, pages = await position(node, 0), list[int](), 0
    while at.seq < 250:
        replay = await recover(node, at)
        assert replay.recovery == Recovery(Outcome.OK)
        assert replay.more == (replay.position.seq < 250)
        assert 0 < len(replay.messages) <= 100
        read += seqs(replay.messages)
        at, pages = replay.position, pages + 1
    assert (read, pages) == (span(1, 250), 3)


# Pages of history


async def page(node: BrokerNode, **request: int | str | None) -> Page:
    return await node.broker.page(CHAT, PageRequest(**request), KEEP)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("request_", "expected", "more"),
    [
        ({}, span(1, 9), False),
        ({"limit": 3}, [7, 8, 9], True),
        ({"limit": 9}, span(1, 9), False),
        ({"before": 7, "limit": 3}, [4, 5, 6], True),
        ({"before": 4, "limit": 3}, [1, 2, 3], False),
        ({"before": 1}, [], False),
        ({"before": 500, "limit": 2}, [8, 9], True),
        ({"after": 3, "limit": 3}, [4, 5, 6], True),
        ({"after": 6, "limit": 3}, [7, 8, 9], False),
        ({"after": 0, "limit": 2}, [1, 2], True),
        ({"after": 9}, [], False),
        ({"after": 500}, [], False),
    ],
)
async def test_history_is_read_in_both_directions(
    node: BrokerNode, request_: dict[str, int], expected: list[int], more: bool
) -> None:
    await fill(node, 9)
    answer = await page(node, **request_)
    assert (seqs(answer.messages), answer.more) == (expected, more)


async def test_a_page_has_at_most_a_hundred_messages(node: BrokerNode) -> None:
    await fill(node, 150)
    answer = await page(node, limit=1000)
    assert (seqs(answer.messages), answer.more) == (span(51, 150), True)


async def test_a_page_names_its_log(node: BrokerNode) -> None:
    await fill(node, 3)
    answer = await page(node)
    assert answer.log == (await position(node, 0)).log
    assert seqs((await page(node, after=1, log=answer.log)).messages) == [2, 3]


async def test_seqs_of_another_log_are_of_no_use(node: BrokerNode) -> None:
    await fill(node, 3)
    answer = await page(node, after=1, log="other.log")
    assert (answer.messages, answer.more) == ([], False)
    assert answer.log == (await position(node, 0)).log


# A log that is lost


async def test_a_lost_log_interrupts_its_subscribers_only(
    brokers: BrokerHarness, node: BrokerNode
) -> None:
    await node.broker.subscribe(CHAT, KEEP)
    await fill(node, 3)
    await fill(node, 3, room=NEWS)
    await node.notes.heard(3)
    await brokers.lose_log(CHAT)
    await brokers.lose_log(NEWS)
    await node.publish("new")
    heard = await node.notes.heard(4)
    assert (node.notes.interruptions(), node.notes.interruptions(NEWS)) == (1, 0)
    assert seqs(heard) == [1, 2, 3, 1]
    assert heard[3].log != heard[2].log
    assert heard[3].opens_log


async def test_an_interruption_comes_when_the_timeline_shows_the_new_truth(
    brokers: BrokerHarness, node: BrokerNode
) -> None:
    await node.broker.subscribe(CHAT, KEEP)
    await fill(node, 3)
    await node.notes.heard(3)
    before, seen = timeline_of(node).position, list[Recovery]()

    def look(room: RoomId) -> None:
        seen.append(timeline_of(node, room).recover(before).recovery)

    node.notes.on_interrupted = look
    await brokers.lose_log(CHAT)
    await node.publish("new")
    await node.notes.heard(4)
    assert seen == [Recovery(Outcome.RESET)]
    assert timeline_of(node).top == 1


async def test_positions_in_a_lost_log_are_reset(brokers: BrokerHarness, node: BrokerNode) -> None:
    await fill(node, 3)
    before = await position(node, 2)
    await brokers.lose_log(CHAT)
    await node.publish("new")
    replay = await recover(node, before)
    assert (replay.recovery, replay.position.seq) == (Recovery(Outcome.RESET), 1)


# Several nodes


async def test_nodes_share_one_numbering(two_nodes: tuple[BrokerNode, BrokerNode]) -> None:
    one, other = two_nodes
    for node in two_nodes:
        await node.broker.subscribe(CHAT, KEEP)
    receipts = [node.submit(str(number)) for number in range(50) for node in two_nodes]
    for receipt in receipts:
        await receipt.published()
    heard = [await node.notes.heard(100) for node in two_nodes]
    assert seqs(heard[0]) == span(1, 100)
    assert heard[0] == heard[1]
    assert one.notes.interruptions() == other.notes.interruptions() == 0


async def test_a_node_that_confirms_has_what_was_acknowledged_elsewhere(
    two_nodes: tuple[BrokerNode, BrokerNode],
) -> None:
    one, other = two_nodes
    for node in two_nodes:
        await node.broker.subscribe(CHAT, KEEP)
    for number in range(20):
        published = await one.publish(str(number))
        await other.broker.confirm(CHAT)
        timeline = other.broker.timeline(CHAT)
        assert timeline is not None
        assert timeline.position == published.position
    assert other.notes.interruptions() == 0


async def test_nodes_share_keys(two_nodes: tuple[BrokerNode, BrokerNode]) -> None:
    receipts = [node.submit_draft(draft("x", key="k")) for _ in range(10) for node in two_nodes]
    published = [await receipt.published() for receipt in receipts]
    assert sum(not receipt.duplicate for receipt in published) == 1
    assert len({receipt.position for receipt in published}) == 1


async def test_ephemeral_messages_reach_other_nodes(
    two_nodes: tuple[BrokerNode, BrokerNode],
) -> None:
    one, other = two_nodes
    await other.broker.subscribe(CHAT, KEEP)
    await one.submit_draft(draft("gone", ephemeral=True)).published()
    (message,) = await other.notes.heard(1)
    assert (message.seq, message.data) == (0, b'"gone"')


# The memory adapter's own bounds


class Attic:
    """A memory broker with a clock, and what becomes of its unused rooms."""

    def __init__(self, max_idle: int = 1000, max_bytes: int = 10_000_000) -> None:
        self.clock = Clock()
        self.broker = MemoryBroker(self.clock, max_idle=max_idle, max_bytes=max_bytes)
        self.broker.attach(BrokerNotes())

    def publish(self, room: str, size: int = 1, keep: Retention = KEEP) -> Position:
        receipts: list[object] = []
        self.broker.submit(draft("x" * size, RoomId(room)), keep, receipts.append)
        (receipt,) = receipts
        assert isinstance(receipt, Published)
        assert receipt.position is not None
        return receipt.position

    async def knows(self, room: str, at: Position) -> bool:
        return (await self.broker.page(RoomId(room), PageRequest(), KEEP)).log == at.log

    async def kept(self, *rooms: str) -> list[int]:
        """How many messages of each room are kept."""
        pages = [await self.broker.page(RoomId(room), PageRequest(), KEEP) for room in rooms]
        return [len(page.messages) for page in pages]

    def sleep(self, seconds: float) -> None:
        self.clock.now += seconds
        self.broker.sweep()


async def test_unused_rooms_are_forgotten_after_a_day() -> None:
    attic = Attic()
    old = attic.publish("old")
    attic.sleep(memory.IDLE_TTL - 60)
    young = attic.publish("young")
    attic.sleep(120)
    assert await attic.knows("young", young)
    assert not await attic.knows("old", old)


async def test_rooms_in_use_are_not_forgotten() -> None:
    attic = Attic()
    at = attic.publish("live")
    await attic.broker.subscribe(RoomId("live"), KEEP)
    attic.sleep(10 * memory.IDLE_TTL)
    attic.broker.unsubscribe(RoomId("live"))
    attic.sleep(memory.IDLE_TTL / 2)
    assert await attic.knows("live", at)


async def test_too_many_unused_rooms_are_forgotten_the_longest_unused_first() -> None:
    attic = Attic(max_idle=3)
    places = {room: attic.publish(room) for room in ("a", "b", "c")}
    attic.publish("a")
    attic.publish("d")
    known = {room: await attic.knows(room, at) for room, at in places.items()}
    assert known == {"a": True, "b": False, "c": True}


async def test_rooms_in_use_do_not_count_as_unused() -> None:
    attic = Attic(max_idle=2)
    places = {}
    for room in ("a", "b", "c", "d"):
        places[room] = attic.publish(room)
        await attic.broker.subscribe(RoomId(room), KEEP)
    attic.publish("e")
    assert all([await attic.knows(room, at) for room, at in places.items()])


async def test_asking_for_rooms_that_are_not_there_forgets_nobody() -> None:
    attic = Attic(max_idle=3)
    at = attic.publish("a")
    for number in range(10):
        await attic.broker.page(RoomId(f"guess{number}"), PageRequest(), KEEP)
    assert await attic.knows("a", at)


async def test_over_the_bytes_for_all_the_room_spoken_in_the_longest_ago_loses_its_log() -> None:
    attic = Attic(max_bytes=10_000)
    first = attic.publish("a", 3000)
    attic.publish("b", 3000)
    attic.publish("a", 3000)
    assert await attic.kept("a", "b") == [2, 1]
    attic.publish("c", 3000)
    assert await attic.kept("a", "b", "c") == [2, 0, 1]
    attic.publish("d", 8000)
    assert await attic.kept("a", "c", "d") == [0, 0, 1]
    await attic.broker.subscribe(RoomId("a"), KEEP)
    timeline = attic.broker.timeline(RoomId("a"))
    assert timeline is not None
    assert timeline.recover(first).recovery == Recovery(Outcome.GAP, first=3)
    assert attic.publish("a").seq == 3


async def test_a_log_that_has_expired_takes_no_room_from_others() -> None:
    attic = Attic(max_bytes=10_000)
    attic.publish("old", 3000)
    attic.publish("short", 5000, Retention(size=10, ttl=10.0))
    attic.clock.now += 20.0
    assert await attic.kept("short") == [0]
    attic.broker.sweep()
    attic.publish("new", 5000)
    assert await attic.kept("old", "new") == [1, 1]


async def test_a_forgotten_room_takes_no_room_from_others() -> None:
    attic = Attic(max_idle=2, max_bytes=10_000)
    for room in ("a", "b", "c"):
        attic.publish(room, 4000)
    assert await attic.kept("b", "c") == [1, 1]


async def test_a_message_larger_than_all_of_it_is_delivered_and_not_kept() -> None:
    attic, notes = Attic(max_bytes=1000), BrokerNotes()
    attic.broker.attach(notes)
    await attic.broker.subscribe(CHAT, KEEP)
    assert attic.publish("chat", 5000).seq == 1
    assert (notes.seqs(), await attic.kept("chat")) == ([1], [0])


async def test_lifetimes_are_exact_whenever_the_sweep_comes() -> None:
    attic, room = Attic(), RoomId("chat")
    await attic.broker.subscribe(room, KEEP)
    attic.publish("chat")
    attic.clock.now += KEEP.ttl
    timeline = attic.broker.timeline(room)
    assert timeline is not None
    assert timeline.first == 2
    attic.publish("chat")
    attic.clock.now += KEEP.ttl
    attic.publish("chat")
    page = await attic.broker.page(room, PageRequest(), KEEP)
    assert seqs(page.messages) == [3]


async def test_keys_are_forgotten_in_time_whenever_the_sweep_comes() -> None:
    attic, receipts = Attic(), Receipts()
    for wait in (memory.KEY_TTL - 1, 1.0, 0.0):
        attic.broker.submit(draft("x", key="k"), KEEP, receipts.take)
        attic.clock.now += wait
    published = [receipt for receipt in receipts.all if isinstance(receipt, Published)]
    assert [receipt.duplicate for receipt in published] == [False, True, False]


async def test_keys_are_so_many_and_the_oldest_are_forgotten_first() -> None:
    clock, receipts = Clock(), Receipts()
    broker = MemoryBroker(clock, max_keys=3)
    for number in range(4):
        broker.submit(draft("x", RoomId(f"room{number}"), key="k"), KEEP, receipts.take)
    for number in (3, 2, 1):
        broker.submit(draft("x", RoomId(f"room{number}"), key="k"), KEEP, receipts.take)
    broker.submit(draft("x", RoomId("room0"), key="k"), KEEP, receipts.take)
    published = [receipt for receipt in receipts.all if isinstance(receipt, Published)]
    assert [receipt.duplicate for receipt in published] == 4 * [False] + 3 * [True] + [False]


async def test_a_flood_of_keys_holds_no_more_than_those() -> None:
    clock = Clock()
    broker = MemoryBroker(clock, max_keys=100)
    for number in range(10_000):
        one = draft("x", RoomId(f"room{number % 7}"), key=f"{number}")
        broker.submit(one, KEEP, lambda receipt: None)
    assert len(broker._keys) == 100
    clock.now += memory.KEY_TTL
    broker.sweep()
    assert not broker._keys


async def test_the_sweep_runs_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SWEEP_INTERVAL", 0.0)
    swept = asyncio.Event()

    class Watched(MemoryBroker):
        def sweep(self) -> None:
            super().sweep()
            swept.set()

    task = asyncio.create_task(Watched().run())
    async with asyncio.timeout(20):
        for _ in range(2):
            await swept.wait()
            swept.clear()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
