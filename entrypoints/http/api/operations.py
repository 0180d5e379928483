"""What the API does for one caller: the same by a route and in a batch."""

import asyncio
import time
from collections.abc import Awaitable
from typing import NamedTuple, TypeVar

from application.describe_room import DescribeRoom
from application.give_order import GiveOrder
from application.list_members import ListMembers
from application.list_rooms import ListRooms
from application.publish_message import Outcome, PublishMessage
from application.read_history import ReadHistory
from application.requests import RequestRates
from domain import orders
from domain.errors import HubbubError, OutcomeUnknown, Unavailable
from domain.exclusions import REMEMBERED
from domain.grants import Caller
from domain.identifiers import RoomId, room_id, user_id
from domain.orders import Order
from domain.timeline import MAX_PAGE_MESSAGES, Page, PageRequest
from entrypoints.http.api import answers
from entrypoints.http.api.asks import (
    Block,
    Describe,
    Disconnect,
    Enter,
    History,
    Kick,
    Members,
    OrderAsk,
    PublishBody,
    ReadAsk,
    RevokeToken,
    RevokeTokens,
    Unblock,
)
from entrypoints.http.api.sessions import Sessions

PATIENCE = 10.0  # seconds for all that a request waits for

T = TypeVar("T")


class Cases(NamedTuple):
    """The use cases behind the API."""

    publish: PublishMessage
    history: ReadHistory
    members: ListMembers
    rooms: ListRooms
    describe: DescribeRoom
    order: GiveOrder
    sessions: Sessions
    rates: RequestRates


class Operations:
    """Every one answers in JSON or raises HubbubError. A `deadline` is of the loop's time."""

    def __init__(self, cases: Cases, patience: float = PATIENCE) -> None:
        self._cases = cases
        self._patience = patience

    def deadline(self) -> float:
        """When a request that begins now has to be through."""
        return asyncio.get_running_loop().time() + self._patience

    async def submit(
        self,
        caller: Caller,
        room: str,
        message: PublishBody,
        data: bytes,
        key: str | None,
        deadline: float,
    ) -> Outcome:
        """Begin to publish; `data` is canonical JSON. `settle` waits for what comes of it."""
        publish = self._cases.publish.ask(
            caller, room, data, sender=message.sender, key=key, ephemeral=message.ephemeral
        )
        return await in_time(publish, deadline, Unavailable("no answer in time"))

    async def settle(self, room: str, outcome: Outcome, deadline: float) -> bytes:
        late = OutcomeUnknown("no answer in time: publish it again with the same key")
        receipt = await in_time(outcome, deadline, late)
        if isinstance(receipt, HubbubError):
            raise receipt
        return answers.published(RoomId(room), receipt)

    async def read(self, caller: Caller, ask: ReadAsk, deadline: float) -> bytes:
        self._cases.rates.admit_command(caller)
        return await in_time(self._read(caller, ask), deadline, Unavailable("no answer in time"))

    async def _read(self, caller: Caller, ask: ReadAsk) -> bytes:
        match ask:
            case History(room=room):
                limit = min(ask.limit, MAX_PAGE_MESSAGES)
                before = ask.before if ask.after is None else None
                request = PageRequest(before, ask.after, ask.log, limit)
                page = await self._cases.history(caller, room, request)
                return answers.history(RoomId(room), _between(page, ask))
            case Members(room=room):
                return answers.members(
                    await self._cases.members(caller, room, ask.after, ask.limit)
                )
            case Describe(room=room):
                return answers.options(RoomId(room), self._cases.describe(caller, room))

    async def rooms(
        self, caller: Caller, prefix: str, after: str, limit: int, deadline: float
    ) -> bytes:
        self._cases.rates.admit_command(caller)
        listing = self._cases.rooms(caller, prefix, after, limit)
        return answers.rooms(await in_time(listing, deadline, Unavailable("no answer in time")))

    async def sessions(
        self, caller: Caller, user: str | None, limit: int, deadline: float
    ) -> bytes:
        self._cases.rates.admit_command(caller)
        listing = self._cases.sessions(caller, user, limit)
        return await in_time(listing, deadline, Unavailable("no answer in time"))

    async def order(self, caller: Caller, ask: OrderAsk, deadline: float) -> bytes:
        self._cases.rates.admit_command(caller)
        order = _order(ask, time.time())
        late = OutcomeUnknown("no answer in time: order it again, which does no harm")
        await in_time(self._cases.order(caller, order), deadline, late)
        return answers.ordered(order.kind)


async def in_time(work: Awaitable[T], deadline: float, late: HubbubError) -> T:
    """What comes of it, unless it takes longer than until `deadline`; then raises `late`."""
    try:
        async with asyncio.timeout_at(deadline):
            return await work
    except TimeoutError:
        raise late from None


def _between(page: Page, ask: History) -> Page:
    """With both ends named, the page after the one does not reach beyond the other."""
    if ask.after is None or ask.before is None:
        return page
    kept = [message for message in page.messages if message.seq < ask.before]
    whole = bool(kept) and len(kept) == len(page.messages)
    further = page.more and whole and kept[-1].seq + 1 < ask.before
    return Page(page.log, kept, further)


def _order(ask: OrderAsk, now: float) -> Order:
    """Raises BadName."""
    match ask:
        case Enter():
            return orders.Enter(room_id(ask.room), user_id(ask.user))
        case Kick():
            return orders.Kick(room_id(ask.room), user_id(ask.user), ask.reason)
        case Disconnect():
            return orders.SendAway(user_id(ask.user), ask.reason)
        case Block():
            return orders.Block(user_id(ask.user), ask.until, ask.reason)
        case Unblock():
            return orders.Unblock(user_id(ask.user))
        case RevokeToken():
            until = now + REMEMBERED if ask.expires_at is None else ask.expires_at
            return orders.RevokeToken(ask.token_id, until)
        case RevokeTokens():
            before = now if ask.issued_before is None else ask.issued_before
            return orders.RevokeTokens(user_id(ask.user), before)
