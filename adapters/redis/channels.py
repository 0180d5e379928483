"""Subscriptions: who listens to which channel, and on which connection.

Redis tells nobody that it was not heard for a while. So listeners are told whenever that may have
been: after a connection was lost, after a server ended a subscription (its slot went elsewhere),
and after another one was confirmed for whatever reason.
"""

import asyncio
import logging
import time
from abc import abstractmethod
from itertools import filterfalse
from typing import Protocol

from adapters.redis.addresses import Address
from adapters.redis.ear import Ear, Hearer
from adapters.redis.link import ReplyError
from adapters.redis.pulse import Pulse
from adapters.redis.store import Store
from domain.errors import Unavailable

SUBSCRIBE_DEADLINE = 3.0  # seconds until a subscription must be confirmed
HEARTBEAT = 3.0  # seconds between two pulses; three of them is how long nobody notices deafness
_MEND_PAUSE = 0.1  # seconds before a subscription that failed is tried again
_LOG_INTERVAL = 5.0  # seconds between two lines about refusals

logger = logging.getLogger("hubbub.redis")


class ChannelListener(Protocol):
    """What is published. Calls are synchronous; what they raise ends `Channels.run`."""

    __slots__ = ()

    @abstractmethod
    def received(self, channel: str, payload: bytes) -> None: ...

    @abstractmethod
    def lost(self, channel: str) -> None:
        """Something may have been missed. From here on, everything is heard again."""


class _Channel:
    __slots__ = ("confirmed", "ear", "key", "known", "listeners", "name", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.key = name.encode()
        self.listeners: tuple[ChannelListener, ...] = ()
        self.known: set[ChannelListener] = set()  # those that were told to have subscribed
        self.waiting: set[asyncio.Future[None]] = set()
        self.ear: Ear | None = None  # that was asked to hear it
        self.confirmed = False  # and does


class Channels(Hearer):
    """The subscriptions of one node, one connection to each server. `store` must run too."""

    def __init__(self, store: Store, heartbeat: float = HEARTBEAT, prefix: str = "hubbub") -> None:
        """`prefix` begins the names of the channels of its own."""
        self._store = store
        self._prefix = prefix
        self._heartbeat = heartbeat
        self._channels: dict[bytes, _Channel] = {}
        self._pulses: dict[Ear, Pulse] = {}
        self._ears: dict[Address, Ear] = {}
        self._tasks: dict[Ear, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._logged_at = 0.0
        self._homeless = asyncio.Event()  # there are channels without an ear
        store.on_moved(self._reconcile)

    async def subscribe(self, name: str, listener: ChannelListener) -> None:
        """Return when everything published from now on is heard; at once if it is already.

        Raises Unavailable; a listener that was subscribed before remains so.
        """
        channel = self._channels.get(name.encode())
        if channel is None:
            channel = self._channels[name.encode()] = _Channel(name)
            self._place(channel)
        if listener not in channel.listeners:
            channel.listeners += (listener,)
        if not channel.confirmed:
            try:
                await _confirmation(channel)
            except BaseException:
                if listener not in channel.known:
                    self.unsubscribe(name, listener)
                raise
        channel.known.add(listener)

    def unsubscribe(self, name: str, listener: ChannelListener) -> None:
        """Without effect for who is not subscribed."""
        channel = self._channels.get(name.encode())
        if channel is None or listener not in channel.listeners:
            return
        channel.listeners = tuple(other for other in channel.listeners if other is not listener)
        channel.known.discard(listener)
        if not channel.listeners:
            del self._channels[channel.key]
            for waiting in filterfalse(asyncio.Future.done, channel.waiting):
                waiting.set_exception(Unavailable("the subscription was ended"))
            if channel.ear is not None:
                channel.ear.unsubscribe([channel.key])

    @property
    def healthy(self) -> bool:
        """What is published is heard, as far as we know."""
        shards = self._store.shards()
        ears = [self._ears.get(shard.address) for shard in shards]
        return bool(ears) and all(ear is not None and self._pulses[ear].healthy for ear in ears)

    async def run(self) -> None:
        """Until cancelled. Raises what a listener raised."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for ear in self._ears.values():
                    self._tasks[ear] = group.create_task(ear.run())
                self._reconcile()
                group.create_task(self._beat())
                group.create_task(self._mend())
        finally:
            self._group = None
            self._tasks.clear()

    # What ears tell

    def heard(self, ear: Ear, channel: bytes, payload: bytes) -> None:
        found = self._channels.get(channel)
        if found is not None:
            name = found.name
            for listener in found.listeners:
                listener.received(name, payload)
        elif channel == self._pulses[ear].key:
            self._pulses[ear].heard()

    def connected(self, ear: Ear) -> None:
        self._pulses[ear].connected()
        ear.subscribe([channel.key for channel in self._channels.values() if channel.ear is ear])

    def disconnected(self, ear: Ear) -> None:
        self._pulses[ear].disconnected()
        for channel in self._channels.values():
            if channel.ear is ear:
                channel.confirmed = False

    def confirmed(self, ear: Ear, channel: bytes) -> None:
        found = self._channels.get(channel)
        if found is None:
            if channel == self._pulses[ear].key:
                self._pulses[ear].confirmed()
        elif found.ear is ear:
            found.confirmed = True
            for waiting in filterfalse(asyncio.Future.done, found.waiting):
                waiting.set_result(None)
            for listener in found.listeners:
                if listener in found.known:
                    listener.lost(found.name)

    def ended(self, ear: Ear, channel: bytes, why: ReplyError | None) -> None:
        if why is not None and not self._store.heed(why, ear.address):
            self._complain(ear, why)
        self._store.look_again()
        found = self._channels.get(channel)
        if found is not None and found.ear is ear:
            found.ear = None
            found.confirmed = False
            self._homeless.set()
        elif channel == self._pulses[ear].key:
            self._pulses[ear].ended()

    def _complain(self, ear: Ear, why: ReplyError) -> None:
        now = time.monotonic()
        if now - self._logged_at > _LOG_INTERVAL:
            self._logged_at = now
            logger.warning("redis at %s refuses a subscription: %.200s", ear.address, why)

    # Where channels are

    def _place(self, channel: _Channel) -> None:
        """Ask the right server for a channel, or leave it to `_mend`."""
        shard = self._store.owner(channel.name)
        channel.confirmed = False
        channel.ear = None if shard is None else self._ear(shard.address)
        if channel.ear is None:
            self._homeless.set()
        else:
            channel.ear.subscribe([channel.key])

    def _ear(self, address: Address) -> Ear:
        ear = self._ears.get(address)
        if ear is None:
            ear = self._ears[address] = Ear(address, self._store.sharded, self)
            self._pulses[ear] = Pulse(ear, self._store, self._prefix)
            if self._group is not None:
                self._tasks[ear] = self._group.create_task(ear.run())
        return ear

    def _reconcile(self) -> None:
        """Follow the keys to their servers."""
        needed = {self._ear(shard.address) for shard in self._store.shards()}
        for channel in self._channels.values():
            shard = self._store.owner(channel.name)
            if shard is None or (channel.ear and channel.ear.address == shard.address):
                continue
            if channel.ear is not None:
                channel.ear.unsubscribe([channel.key])
            self._place(channel)
        for ear in self._ears.keys() - {ear.address for ear in needed}:
            self._retire(self._ears[ear])

    def _retire(self, ear: Ear) -> None:
        del self._ears[ear.address]
        if ear in self._tasks:
            task = self._tasks.pop(ear)
            task.add_done_callback(lambda _: self._pulses.pop(ear, None))  # it hears until then
            task.cancel()
        else:
            del self._pulses[ear]
        for channel in self._channels.values():
            if channel.ear is ear:  # it has no known owner now
                channel.ear = None
                channel.confirmed = False
                self._homeless.set()

    async def _mend(self) -> None:
        while True:
            await self._homeless.wait()
            await asyncio.sleep(_MEND_PAUSE)
            self._homeless.clear()
            for channel in tuple(self._channels.values()):
                if channel.ear is None:
                    self._place(channel)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat)
            for ear in tuple(self._ears.values()):
                self._pulses[ear].beat()


async def _confirmation(channel: _Channel) -> None:
    confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    channel.waiting.add(confirmed)
    try:
        async with asyncio.timeout(SUBSCRIBE_DEADLINE):
            await confirmed
    except TimeoutError:
        raise Unavailable("the store does not confirm a subscription") from None
    finally:
        channel.waiting.discard(confirmed)
