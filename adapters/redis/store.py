"""Redis as hubbub uses it: scripts and commands, in order, with an outcome that can be trusted.

Every call is told one of three things within DEADLINE: its reply; Unavailable, it was not done;
OutcomeUnknown, nobody can say. Retries happen below here and nowhere else.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from adapters.redis.addresses import Address, parse
from adapters.redis.calls import ArgsOf, Call, Outcome, Request
from adapters.redis.link import Command, ReplyError, Word
from adapters.redis.sequencer import Sequencer
from adapters.redis.shard import Script, Shard
from adapters.redis.shard_map import ShardMap
from domain.errors import HubbubError, Unavailable

__all__ = ["Script", "Shard", "Store"]

DEADLINE = 3.0  # seconds for a call, everything included
MAX_CALLS = 20_000  # without an outcome; more are refused
MAX_BYTES = 32 * 1024 * 1024  # of their commands
TICK = 0.05
_STUCK = 1.0  # seconds something may be held back before we no longer say that all is well
# Seconds that a refusal counts for. The lease is written more often, so as long as writes are
# refused there is another one by then, also where nobody publishes.
_REFUSED = 5.0


class Store:
    """Everything one node asks of Redis, over one link to each server.

    `run` does the work: before it, calls wait; after it, they are refused. `sharded`: keys belong
    to different servers, and so do channels; `publish_command` fits. `copies`: replicas are asked
    for.
    """

    def __init__(
        self,
        url: str,
        *,
        replicas: int = 0,
        max_calls: int = MAX_CALLS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """`replicas`: so many must have what is `copied`. Raises BadUrl."""
        self._map = ShardMap(parse(url), self._on_ready, self._on_rerouted, replicas)
        self._calls = Sequencer(self._map, max_calls, max_bytes, DEADLINE)
        self._slot = self._map.slot
        self._over = False
        self._found = False  # the servers, once at least
        self._has_changed = self._has_moved = False
        self._on_changed: list[Callable[[], None]] = []
        self._on_moved: list[Callable[[], None]] = []
        self.sharded = self._map.sharded
        self.copies = replicas > 0
        self.publish_command = b"SPUBLISH" if self.sharded else b"PUBLISH"

    def accept(self, call: Call) -> None:
        """Ask for it, `ordered` after those accepted before on the same first key; its keys are of
        one slot.

        Its outcome may be told at once: when too much waits, the call is refused. One that is not
        `idempotent` is sent once: lost with its connection, its outcome stays unknown. One may be
        `copied` only where this store `copies`.
        """
        call.slot = self._slot(call.keys[0])
        if self._over:
            call.done(Unavailable("the store was closed"))
        else:
            self._calls.accept(call)

    def submit(
        self,
        script: Script,
        keys: Sequence[str],
        args_of: ArgsOf,
        done: Outcome,
        *,
        patient: bool = False,
    ) -> None:
        """Run a script, ordered. `patient`: nobody waits, and who asks can ask again: it must not
        fill up what others need."""
        call = Request(script, keys, args_of, done)
        call.ordered = True
        call.patient = patient
        self.accept(call)

    async def run_script(self, script: Script, keys: Sequence[str], args: Sequence[Word]) -> Any:
        """The same for who can wait, but in no order. Raises Unavailable and OutcomeUnknown."""
        return await self._outcome(script, keys, args)

    async def command(self, key: str, *command: Word) -> Any:
        """Send a command that concerns `key`. Raises Unavailable and OutcomeUnknown."""
        return await self._outcome(None, (key,), command)

    async def _outcome(
        self, script: Script | None, keys: Sequence[str], args: Sequence[Word]
    ) -> Any:
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.accept(Request(script, keys, lambda _: args, _setting(outcome)))
        return _reply(await outcome)

    def send_command(self, key: str, command: Command) -> bool:
        """Send a command now or never and hear no more of it. False if it cannot be sent now."""
        if self._over or not self._calls.flows(self._slot(key)):
            return False
        call = Request(None, (key,), lambda _: command, _ignore)
        call.idempotent = False
        self.accept(call)
        return call.sent

    @property
    def healthy(self) -> bool:
        """A publish can get through now, as far as we know."""
        now, calls = time.monotonic(), self._calls
        stuck = calls.held_since is not None and now - calls.held_since > _STUCK
        refused = now - calls.refused_at < _REFUSED
        return not self._over and self._map.is_whole and not stuck and not refused

    def shards(self) -> list[Shard]:
        """The servers that own something."""
        return self._map.in_charge

    def owner(self, key: str) -> Shard | None:
        """The server of a key or a channel, when it is known."""
        return self._map.owners[self._slot(key)]

    def look_again(self) -> None:
        """Something shows that the servers are not who we think they are."""
        self._map.look_again()

    def heed(self, error: ReplyError, told_by: Address) -> bool:
        """Learn from a server's answer whose a slot is. False if it said nothing of that."""
        return self._map.heed(error, told_by) is not None

    def on_store_changed(self, callback: Callable[[], None]) -> None:
        """Call when keys may not be what they were: another server answers for some of them, or
        one that was started anew."""
        self._on_changed.append(callback)

    def on_moved(self, callback: Callable[[], None]) -> None:
        """Call when a key may have got another owner."""
        self._on_moved.append(callback)

    async def run(self) -> None:
        """Until cancelled. Raises what a `done` or another callback raised."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._map.run(), name="redis servers")
                tasks.create_task(self._watch(), name="redis deadlines")
        finally:
            self._over = True
            self._calls.end()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            await asyncio.sleep(0)  # had the loop been busy, replies may lie there unread
            now = time.monotonic()
            for shard in self._map.all:
                shard.watch(now)
            self._calls.tick(now)
            self._tell()

    def _tell(self) -> None:
        moved, self._has_moved = self._has_moved, False
        changed, self._has_changed = self._has_changed, False
        for callback in self._on_moved if moved else ():
            callback()
        for callback in self._on_changed if changed else ():
            callback()

    def _on_ready(self, shard: Shard) -> None:
        self._has_changed = self._has_changed or shard.is_other
        self._calls.release_all()

    def _on_rerouted(self) -> None:
        self._has_moved = True
        self._has_changed = self._has_changed or self._found
        self._found = True
        self._calls.rerouted()


def _setting(outcome: asyncio.Future[Any]) -> Outcome:
    """Who was to wait may have been cancelled."""
    return lambda got: None if outcome.done() else outcome.set_result(got)


def _reply(got: Any) -> Any:
    if isinstance(got, HubbubError):
        raise got
    return got


def _ignore(_: Any) -> None: ...
