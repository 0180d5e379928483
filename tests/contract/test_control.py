"""What every Control does."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from adapters.memory.control import MemoryControl
from adapters.redis import control as redis_control
from adapters.redis.channels import Channels
from adapters.redis.control import RedisControl, decode, encode
from adapters.redis.store import Store
from application.ports.control import Control, ControlListener
from domain.identifiers import RoomId, UserId
from domain.orders import Block, Enter, Kick, Order, RevokeToken, RevokeTokens, SendAway, Unblock
from tests.peer import until
from tests.redis_user import as_hubbub
from tests.running import running

ANN = UserId("ann")
ORDERS: list[Order] = [
    Kick(RoomId("chat"), ANN, "be nice"),
    Enter(RoomId("chat"), ANN),
    SendAway(ANN, "enough"),
    RevokeToken("t1", 1.7e9),
    RevokeTokens(ANN, 1.7e9),
    Block(ANN, 1.8e9, "for now"),
    Unblock(ANN),
]


class Notes(ControlListener):
    """The orders a node heard, and when each was given if it was missed."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.given_at: list[float | None] = []

    def ordered(self, order: Order, given_at: float | None) -> None:
        self.orders.append(order)
        self.given_at.append(given_at)


class RedisNode:
    """A node's control, with what it rests on."""

    def __init__(self, url: str) -> None:
        self.store = Store(as_hubbub(url))
        self.channels = Channels(self.store)
        self.control = RedisControl(self.store, self.channels)
        self.notes = Notes()
        self.control.attach(self.notes)

    async def hears(self, orders: list[Order]) -> None:
        await until(lambda: self.notes.orders == orders)

    async def start(self, stack: AsyncExitStack) -> "RedisNode":
        await stack.enter_async_context(running(self.store, self.channels))
        await stack.enter_async_context(running(self.control))
        return self


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as started:
        yield started


@pytest.fixture(params=["memory", "redis"])
async def control(request: pytest.FixtureRequest, stack: AsyncExitStack) -> tuple[Control, Notes]:
    if request.param == "redis":
        node = await RedisNode(request.getfixturevalue("redis_url")).start(stack)
        return node.control, node.notes
    notes, memory = Notes(), MemoryControl()
    memory.attach(notes)
    await stack.enter_async_context(running(memory))
    return memory, notes


async def test_orders_are_carried_out_once_and_in_order(control: tuple[Control, Notes]) -> None:
    gives, notes = control
    for order in ORDERS:
        await gives.give(order)
    await until(lambda: len(notes.orders) >= len(ORDERS))
    assert notes.orders == ORDERS


async def test_every_node_hears_an_order(redis_url: str, stack: AsyncExitStack) -> None:
    nodes = [await RedisNode(redis_url).start(stack) for _ in range(3)]
    await nodes[0].control.give(ORDERS[0])
    for node in nodes:
        await node.hears(ORDERS[:1])


async def test_a_node_that_begins_later_hears_what_was_ordered_and_when(
    redis_url: str, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_control, "_PAGE", 3)  # so that one look takes several
    early = await RedisNode(redis_url).start(stack)
    for order in ORDERS:
        await early.control.give(order)
    late = await RedisNode(redis_url).start(stack)
    await until(lambda: len(late.notes.orders) == len(ORDERS))
    assert late.notes.orders == ORDERS
    assert all(moment is not None and moment > 1.7e9 for moment in late.notes.given_at)


async def test_what_was_heard_is_not_carried_out_again_at_the_next_look(
    redis_url: str, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_control, "CHECK", 0.02)
    node = await RedisNode(redis_url).start(stack)
    await node.control.give(ORDERS[0])
    await until(lambda: node.notes.orders == ORDERS[:1])
    await node.control.give(ORDERS[1])
    await until(lambda: node.control.read_up_to != "0-0" and len(node.notes.orders) == 2)
    assert node.notes.orders == ORDERS[:2]


async def test_what_was_read_is_not_carried_out_again_when_it_is_heard(
    redis_url: str, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look may be faster than the channel, and who was kicked may be back by then."""
    monkeypatch.setattr(redis_control, "CHECK", 0.02)
    node = await RedisNode(redis_url).start(stack)
    monkeypatch.setattr(RedisControl, "received", lambda *_: None)
    await node.control.give(ORDERS[0])
    await node.hears(ORDERS[:1])
    monkeypatch.undo()
    record = "hubbub:{control}:orders"
    ((entry, fields),) = await node.store.command(record, "XRANGE", record, "-", "+")
    node.control.received("", entry + b" " + fields[1])
    await node.control.give(ORDERS[1])
    await node.hears(ORDERS[:2])


async def test_an_order_whose_telling_was_lost_is_found(
    redis_url: str, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_control, "CHECK", 0.02)
    node = await RedisNode(redis_url).start(stack)
    monkeypatch.setattr(RedisControl, "received", lambda *_: None)
    await node.control.give(ORDERS[0])
    await until(lambda: node.notes.orders == ORDERS[:1])


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_reads_back_as_it_was_written(order: Order) -> None:
    assert decode(encode(order)) == order


@pytest.mark.parametrize(
    "junk",
    [b"", b"[]", b"{}", b"\xff", b'{"format":1,"kind":"kick"}', b'{"format":9,"kind":"unblock"}'],
)
def test_junk_on_record_is_left_out(junk: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        decode(junk)
