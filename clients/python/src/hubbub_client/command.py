"""Frames of ours that are answered, each with what becomes of the answer."""

import asyncio
from collections.abc import Callable
from enum import Enum, auto

from hubbub_client.clock import Moment
from hubbub_client.errors import HubbubError
from hubbub_client.messages import Frame


class Kind(Enum):
    """What the server counts apart."""

    COMMAND = auto()
    PUBLISH = auto()


class Lost(Exception):
    """The connection broke before the reply came, and this is not to be repeated."""


Outcome = Frame | HubbubError | Lost
Reply = Callable[[Outcome], None]


class Answer:
    """A Reply that somebody waits for."""

    def __init__(self) -> None:
        self._future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def __call__(self, outcome: Outcome) -> None:
        if not self._future.done():  # or whoever waited has been cancelled
            self._future.set_result(outcome)

    async def given(self) -> Outcome:
        return await self._future


class Command:
    """`text` is the frame. `lasting`: sent again after a lost connection; a publish among these
    has a key. `silent`: a publish without echo.
    """

    __slots__ = (
        "id",
        "kind",
        "lasting",
        "not_before",
        "reply",
        "room",
        "sent_at",
        "silent",
        "size",
        "text",
        "tries",
        "uncertain_since",
        "urgent",
    )

    def __init__(
        self,
        number: int,
        kind: Kind,
        room: str | None,
        text: str,
        reply: Reply,
        *,
        lasting: bool = False,
        urgent: bool = False,
        silent: bool = False,
    ) -> None:
        self.id = number
        self.kind = kind
        self.room = room
        self.text = text
        self.size = len(text.encode())
        self.reply = reply
        self.lasting = lasting
        self.urgent = urgent
        self.silent = silent
        self.tries = 0
        self.not_before = float("-inf")
        self.sent_at: Moment | None = None
        self.uncertain_since: Moment | None = None

    @property
    def rank(self) -> tuple[bool, int]:
        return (not self.urgent, self.id)
