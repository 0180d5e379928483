"""What a store is asked to do, from being accepted until its outcome is told."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from adapters.redis.link import Command, LinkLost, ReplyError, Word
from adapters.redis.shard import Script, Shard

Outcome = Callable[[Any], None]
"""See `Call.done`."""

ArgsOf = Callable[[int], Sequence[Word]]
"""See `Call.arguments`; by attempt."""


class Copied(NamedTuple):
    """A reply, and whether enough replicas have what was written by then."""

    reply: Any
    enough: bool


class Judge(Protocol):
    """Decides what becomes of a call."""

    def succeeded(self, call: "Call", reply: Any) -> None: ...

    def failed(self, call: "Call", error: ReplyError | LinkLost) -> None: ...


class Call(ABC):
    """One thing asked of the store: a script with its keys, or a plain command on one key."""

    # What most calls never need costs them nothing.
    attempt = 0  # how often it was lost with its connection, and so may have been done
    postponed = 0  # how often it was refused for a reason that ends by itself
    ordered = False  # must not be done after one that was handed over later
    idempotent = True  # may be sent again without our knowing whether it was done
    patient = False  # refused while there is still room for others
    copied = False  # its outcome waits for the replicas' answer
    sent = False  # on its way, or its reply is
    over = False  # its outcome was told
    asking: Shard | None = None  # whom to ask, once, instead of the slot's owner
    shard: Shard | None = None  # whom it was sent to
    packed = b""  # what is sent next, once it is known
    # Set by who accepts it.
    judge: Judge
    slot: int
    deadline: float

    def __init__(self, script: Script | None, keys: Sequence[str]) -> None:
        self.script = script
        self.keys = keys

    @abstractmethod
    def arguments(self) -> Sequence[Word]:
        """Those of the script, for the attempt that it is; without a script the whole command.

        After the first attempt the script may have run already without our hearing of it: it has
        to find that out itself."""

    @abstractmethod
    def done(self, outcome: Any) -> None:
        """Is called once: with the reply, with Unavailable (not done) or with OutcomeUnknown; with
        Copied where `copied`."""

    def command(self) -> Command:
        script, keys = self.script, self.keys
        if script is None:
            return tuple(self.arguments())
        return (b"EVALSHA", script.sha, len(keys), *keys, *self.arguments())

    def answered(self, reply: Any) -> None:
        """Take what the link says."""
        kind = type(reply)
        if kind is ReplyError or kind is LinkLost:
            self.judge.failed(self, reply)
        else:
            self.judge.succeeded(self, reply)


class Request(Call):
    """A call that is made up where it is needed."""

    def __init__(
        self, script: Script | None, keys: Sequence[str], args_of: ArgsOf, done: Outcome
    ) -> None:
        super().__init__(script, keys)
        self._args_of = args_of
        self._done = done

    def arguments(self) -> Sequence[Word]:
        return self._args_of(self.attempt)

    def done(self, outcome: Any) -> None:
        self._done(outcome)


class Held:
    """Calls on one slot that wait: until what was sent before them is answered (`fences`), until
    `not_before`, and until somebody is there to ask."""

    __slots__ = ("fences", "later", "not_before", "retry")

    def __init__(self) -> None:
        self.retry: deque[Call] = deque()  # sent before, in their order
        self.later: deque[Call] = deque()  # asked for since
        self.fences = 0
        self.not_before = 0.0

    def drop_finished(self) -> bool:
        """Forget calls whose time is over; the oldest are in front. True if none is left."""
        for calls in (self.retry, self.later):
            while calls and calls[0].over:
                calls.popleft()
        return not (self.retry or self.later or self.fences)
