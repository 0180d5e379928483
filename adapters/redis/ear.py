"""One connection that hears what is published at one server."""

import asyncio
import logging
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from adapters.redis.addresses import Address
from adapters.redis.link import Link, LinkLost, ReplyError
from adapters.redis.shard import LONGEST_PAUSE, pauses

_BATCH = 200  # channels in one command, where they may be of different slots
_STEADY = 2 * LONGEST_PAUSE  # seconds after which a connection is no failed attempt

logger = logging.getLogger("hubbub.redis")


class Hearer(Protocol):
    """What an ear tells. Channels are as they are on the wire."""

    @abstractmethod
    def connected(self, ear: "Ear") -> None:
        """It can be told what to listen to, and has forgotten everything."""

    @abstractmethod
    def disconnected(self, ear: "Ear") -> None: ...

    @abstractmethod
    def heard(self, ear: "Ear", channel: bytes, payload: bytes) -> None: ...

    @abstractmethod
    def confirmed(self, ear: "Ear", channel: bytes) -> None:
        """From here on, what is published there is heard."""

    @abstractmethod
    def ended(self, ear: "Ear", channel: bytes, why: ReplyError | None) -> None:
        """The server will not (`why`) or does no longer let us hear it. We did not ask for that."""


class Ear:
    """Keeps a connection: `run` until cancelled. `subscribe` and `unsubscribe` have no effect
    without one."""

    def __init__(self, address: Address, sharded: bool, hearer: Hearer) -> None:
        self.address = address
        self.link: Link | None = None
        self._hearer = hearer
        self._batch = 1 if sharded else _BATCH
        self._verbs = (b"SUBSCRIBE", b"UNSUBSCRIBE")
        self._messages = b"message"
        if sharded:
            self._verbs = (b"SSUBSCRIBE", b"SUNSUBSCRIBE")
            self._messages = b"smessage"
        self._kinds = tuple(verb.lower() for verb in self._verbs)
        # Commands not confirmed in full: begins to hear or stops to, and the channels to come.
        # They are confirmed in their order, or refused as a whole.
        self._asked: deque[tuple[bool, deque[bytes]]] = deque()
        self._silent = False

    async def run(self) -> None:
        """Raises what the hearer raised."""
        pause = pauses()
        while True:
            began = time.monotonic()
            try:
                why = await self._live()
            except (LinkLost, ReplyError) as error:
                why = error
            if not isinstance(why, LinkLost | ReplyError):
                raise why
            if not self._silent:
                logger.warning("no subscriptions at redis %s: %s; trying on", self.address, why)
            self._silent = True
            if time.monotonic() - began > _STEADY:
                pause = pauses()
            await asyncio.sleep(next(pause))

    @property
    def owed(self) -> object | None:
        """The oldest command that was not confirmed in full, as a token to compare by identity."""
        return self._asked[0] if self._asked else None

    def subscribe(self, channels: Sequence[bytes]) -> None:
        self._ask(True, channels)

    def unsubscribe(self, channels: Sequence[bytes]) -> None:
        self._ask(False, channels)

    def rebuild(self) -> None:
        """Take another connection."""
        if self.link is not None:
            self.link.close()

    def steady(self) -> None:
        """It has been heard with: failures from now on are worth a line in the log."""
        if self._silent:
            logger.info("subscriptions at redis %s are back", self.address)
        self._silent = False

    async def _live(self) -> Exception:
        ended: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        link = await Link.open(
            self.address,
            pushed=self._pushed,
            lost=lambda why: None if ended.done() else ended.set_result(why),
        )
        self.link = link
        try:
            self._hearer.connected(self)
            return await ended
        finally:
            self.link = None
            link.close()
            self._asked.clear()
            self._hearer.disconnected(self)

    def _ask(self, hear: bool, channels: Sequence[bytes]) -> None:
        link = self.link
        if link is None or not link.is_open:
            return
        for part in _parts(channels, self._batch):
            self._asked.append((hear, deque(part)))
            link.send_unanswered((self._verbs[0 if hear else 1], *part))

    def _pushed(self, push: Any) -> None:
        if isinstance(push, ReplyError):
            self._refused(push)
            return
        kind = push[0]
        if kind == self._messages:
            self._hearer.heard(self, push[1], push[2])
        elif kind == self._kinds[0]:
            self._expected(True, push[1])
            self._hearer.confirmed(self, push[1])
        elif kind == self._kinds[1] and not self._expected(False, push[1]):
            self._hearer.ended(self, push[1], None)

    def _expected(self, hear: bool, channel: bytes) -> bool:
        """It is the answer we wait for; take note of it."""
        if not self._asked:
            return False
        asked_to_hear, channels = self._asked[0]
        if asked_to_hear is not hear or channels[0] != channel:
            return False
        channels.popleft()
        if not channels:
            self._asked.popleft()
        return True

    def _refused(self, why: ReplyError) -> None:
        hear, channels = self._asked.popleft() if self._asked else (False, ())
        for channel in channels if hear else ():
            self._hearer.ended(self, channel, why)


def _parts(channels: Sequence[bytes], size: int) -> Iterable[Sequence[bytes]]:
    return (channels[at : at + size] for at in range(0, len(channels), size))
