"""What a store is asked to do, from being accepted until its outcome is told."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from adapters.redis.link import Command, LinkLost, ReplyError, Word
from adapters.redis.shard import Script, Shard

Outcome = Callable[[Any], None]
"""Is called once: with the reply, with Unavailable (not done) or with OutcomeUnknown; with Copied
where that was asked for."""

ArgsOf = Callable[[int], Sequence[Word]]
"""Arguments of a script, by attempt. Above 0, the script may have run already without our hearing
of it: it has to find that out itself."""


class Copied(NamedTuple):
    """A reply, and whether enough replicas have what was written by then."""

    reply: Any
    enough: bool


class Judge(Protocol):
    """Decides what becomes of a call."""

    def succeeded(self, call: "Call", reply: Any) -> None: ...

    def failed(self, call: "Call", error: ReplyError | LinkLost) -> None: ...


class Call:
    """A script with its keys, or a plain command on one key: `args_of` is the whole of it then."""

    # What most calls never need costs them nothing.
    attempt = 0  # how often it was lost with its connection, and so may have been done
    postponed = 0  # how often it was refused for a reason that ends by itself
    ordered = False  # must not be done after one that was handed over later
    sent = False  # on its way, or its reply is
    patient = False  # refused while there is still room for others
    copied = False  # its outcome waits for the replicas' answer
    asking: Shard | None = None  # whom to ask, once, instead of the slot's owner
    shard: Shard | None = None  # whom it was sent to

    def __init__(
        self,
        judge: Judge,
        slot: int,
        script: Script | None,
        keys: Sequence[str],
        args_of: ArgsOf,
        done: Outcome,
        idempotent: bool,
    ) -> None:
        self.judge = judge
        self.slot = slot
        self.script = script
        self.keys = keys
        self.args_of = args_of
        self.done: Outcome | None = done  # None once it was called
        self.idempotent = idempotent
        self.deadline = 0.0
        self.packed = b""  # what is sent next, once it is known

    def command(self) -> Command:
        script, keys = self.script, self.keys
        if script is None:
            return tuple(self.args_of(self.attempt))
        return (b"EVALSHA", script.sha, len(keys), *keys, *self.args_of(self.attempt))

    def answered(self, reply: Any) -> None:
        """Take what the link says."""
        kind = type(reply)
        if kind is ReplyError or kind is LinkLost:
            self.judge.failed(self, reply)
        else:
            self.judge.succeeded(self, reply)


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
            while calls and calls[0].done is None:
                calls.popleft()
        return not (self.retry or self.later or self.fences)
