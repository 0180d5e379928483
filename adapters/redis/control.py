"""Control over Redis: a stream that remembers orders, and a channel that tells them at once.

A node reads the stream when it begins, whenever the channel was lost, and every CHECK seconds, and
so carries out what it was not there for, but nothing twice.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, get_args

import msgspec

from adapters.redis.channels import ChannelListener, Channels
from adapters.redis.store import Script, Store
from application.ports.control import Control, ControlListener
from domain.errors import HubbubError
from domain.exclusions import REMEMBERED
from domain.orders import Order

logger = logging.getLogger("hubbub.redis")

CHECK = 10.0  # seconds between two looks at the record
FORMAT = 1  # of an order on record; one below is still read
_PAGE = 500
_KINDS: Mapping[str, type[Any]] = {kind.kind: kind for kind in get_args(Order)}


class RedisControl(Control, ChannelListener):
    """See the port."""

    def __init__(self, store: Store, channels: Channels, prefix: str = "hubbub") -> None:
        self._store = store
        self._channels = channels
        self._record = f"{prefix}:{{control}}:orders"
        self._feed = f"{prefix}:{{control}}:feed"
        self._script = Script("control")
        self._listener: ControlListener | None = None
        self.read_up_to = "0-0"  # entry of the record
        self._heard: set[str] = set()  # of the orders behind it
        # Read before they were heard: a look may be faster than the channel.
        self._read: deque[str] = deque(maxlen=2 * _PAGE)
        self._due = asyncio.Event()

    def attach(self, listener: ControlListener) -> None:
        self._listener = listener

    async def give(self, order: Order) -> None:
        args = (encode(order), int(REMEMBERED), self._feed, self._store.publish_command)
        await self._store.run_script(self._script, [self._record], args)

    async def run(self) -> None:
        """Whatever fails is tried again at the next look."""
        while True:
            self._due.clear()
            try:
                await self._channels.subscribe(self._feed, self)
                await self._catch_up()
            except HubbubError as error:
                logger.warning("orders cannot be read now: %s", error.code)
            try:
                async with asyncio.timeout(CHECK):
                    await self._due.wait()
            except TimeoutError:
                continue

    def received(self, channel: str, payload: bytes) -> None:
        head, _, order = payload.partition(b" ")
        entry = head.decode("ascii", "replace")
        if entry not in self._read:
            self._heard.add(entry)
            self._carry_out(order, None)

    def lost(self, channel: str) -> None:
        self._due.set()

    async def _catch_up(self) -> None:
        while True:
            entries = await self._store.command(
                self._record, "XRANGE", self._record, f"({self.read_up_to}", "+", "COUNT", _PAGE
            )
            for entry, fields in entries:
                self.read_up_to = entry.decode()
                if self.read_up_to in self._heard:  # who was kicked may be back by now
                    self._heard.discard(self.read_up_to)
                else:
                    self._read.append(self.read_up_to)
                    given_at = int(self.read_up_to.partition("-")[0]) / 1000
                    self._carry_out(fields[1], given_at)
            if len(entries) < _PAGE:
                return

    def _carry_out(self, data: bytes, given_at: float | None) -> None:
        try:
            order = decode(data)
        except ValueError as error:
            logger.error("an order cannot be read and is left out: %s", error)
            return
        if self._listener is not None:
            self._listener.ordered(order, given_at)


def encode(order: Order) -> bytes:
    """An order as it is on record."""
    return msgspec.json.encode({"format": FORMAT, "kind": order.kind, **asdict(order)})


def decode(data: bytes) -> Order:
    """Raises ValueError for what is none, or of a format that is not known here."""
    try:
        fields = msgspec.json.decode(data, type=dict[str, Any])
        form, kind = fields.pop("format", None), fields.pop("kind", None)
        if form not in (FORMAT, FORMAT - 1) or not isinstance(kind, str) or kind not in _KINDS:
            raise ValueError(f"format {str(form)[:20]!r}, kind {str(kind)[:20]!r}")
        order: Order = msgspec.convert(fields, _KINDS[kind])
    except (RecursionError, OverflowError) as error:
        raise ValueError(type(error).__name__) from None
    return order
