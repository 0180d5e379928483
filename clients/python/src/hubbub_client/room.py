"""A room you are in."""

import logging
from collections.abc import AsyncIterator
from typing import Any, Literal, overload

from hubbub_client import requests
from hubbub_client.conversation import Conversation
from hubbub_client.messages import Event, Gap, Member, Message, Page, Position, Published
from hubbub_client.seat import Ended, Seat

logger = logging.getLogger("hubbub_client")


class Room:
    """Iterate over it to read its messages, or over `events()` to hear of everything else, too.

    Both take from one queue, in the order in which things happened. The queue is bounded: what
    does not fit in is left with the server, and fetched as you read on. What is not kept there
    for so long is told as a Gap. Who comes and goes, and ephemeral messages, are not fetched
    later; `members` is right all the same. The loop ends after `leave` and `close`, and raises
    RemovedFromRoom or Disconnected when it was somebody else's doing.
    """

    def __init__(self, conversation: Conversation, seat: Seat) -> None:
        self._conversation = conversation
        self._seat = seat

    @property
    def name(self) -> str:
        return self._seat.name

    @property
    def position(self) -> Position | None:
        """Behind what you have read: `join` with it to go on there, in another process, too."""
        return self._seat.stream.taken

    @property
    def members(self) -> list[Member] | None:
        """Who is here, by name; None in a room that is too crowded for a list, or has none."""
        return self._seat.roster.members

    @property
    def count(self) -> int | None:
        """How many users are here; None in a room that does not tell."""
        return self._seat.roster.count

    def events(self) -> AsyncIterator[Event]:
        """Messages, and what happens between them."""
        return _Events(self._conversation, self._seat)

    def __aiter__(self) -> AsyncIterator[Message]:
        return _Messages(self.events())

    @overload
    async def publish(
        self,
        data: Any,
        *,
        key: str | None = None,
        echo: bool = True,
        ephemeral: Literal[False] = False,
    ) -> Published: ...

    @overload
    async def publish(self, data: Any, *, ephemeral: Literal[True]) -> bool: ...

    async def publish(
        self, data: Any, *, key: str | None = None, echo: bool = True, ephemeral: bool = False
    ) -> Published | bool:
        """As Hub.publish."""
        if ephemeral:
            return await requests.signal(self._conversation, self.name, data)
        return await requests.publish(self._conversation, self.name, data, key, echo)

    async def history(
        self,
        *,
        before: Position | int | None = None,
        after: Position | int | None = None,
        limit: int = 100,
    ) -> Page:
        """As Hub.history. A seq alone is one of the log that the room has now."""
        at = self._seat.stream.position
        before, after = _placed(before, at), _placed(after, at)
        return await requests.history(self._conversation, self.name, before, after, limit)

    async def leave(self) -> None:
        """Be no member any more. What is queued can still be read."""
        await requests.leave(self._conversation, self._seat)

    def __repr__(self) -> str:
        return f"<Room {self.name}>"


def _placed(seq: Position | int | None, at: Position | None) -> Position | None:
    if isinstance(seq, int):
        return None if at is None else Position(at.log, seq)
    return seq


class _Events(AsyncIterator[Event]):
    def __init__(self, conversation: Conversation, seat: Seat) -> None:
        self._conversation = conversation
        self._seat = seat

    async def __anext__(self) -> Event:
        try:
            event = await self._seat.take()
        except Ended:
            raise StopAsyncIteration from None
        self._conversation.follow_up(self._seat)
        return event


class _Messages(AsyncIterator[Message]):
    def __init__(self, events: AsyncIterator[Event]) -> None:
        self._events = events

    async def __anext__(self) -> Message:
        async for event in self._events:
            if isinstance(event, Message):
                return event
            if isinstance(event, Gap):
                logger.warning("%s; read Room.events() to act on it", event)
        raise StopAsyncIteration
