"""Keeps calls in order and finds out what became of each.

What concerns one slot takes effect in the order it was handed over. So whatever goes wrong with a
call holds back those behind it: what was sent already is waited for (by a fence, a PING behind
it), then all are sent again, the failed ones first. An `ordered` call that was not done although
a later one on the same key was cannot be put in order any more: it is given up.
"""

import logging
import time
from contextlib import ExitStack
from typing import Any

from adapters.redis.calls import Call, Copied, Held, Judge
from adapters.redis.link import LinkLost, ReplyError, pack
from adapters.redis.shard import Shard
from adapters.redis.shard_map import ShardMap
from domain.errors import HubbubError, OutcomeUnknown, Unavailable

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.02, 0.25  # seconds before a call is sent again
# Not done, for a reason that ends by itself: at once the first time, or a little later.
_AT_ONCE = {"MOVED", "ASK", "NOSCRIPT"}
_SOON = {"BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "NOTERM", "READONLY", "TRYAGAIN"}
_TRANSIENT = _AT_ONCE | _SOON
_OPERATOR = {"OOM", "MISCONF", "NOREPLICAS"}  # not done, and only an operator can help
_LOG_INTERVAL = 5.0  # seconds between two lines about refusals

logger = logging.getLogger("hubbub.redis")


class Sequencer(Judge):
    """Calls that have no outcome so far. `done` of a call may be called by any method here."""

    def __init__(self, shards: ShardMap, max_calls: int, max_bytes: int, deadline: float) -> None:
        self.held_since: float | None = None  # since when something is held back
        self.refused_at = 0.0  # when only an operator could have helped
        self._map = shards
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self._deadline = deadline
        self._open: dict[Call, None] = {}  # in the order of their deadlines
        self._bytes = 0
        self._held: dict[int, Held] = {}
        self._logged_at = 0.0

    def accept(self, call: Call) -> None:
        call.judge = self
        packed = call.packed = call.packed or pack(call.command())
        size = len(packed)
        most = self._max_calls // 2 if call.patient else self._max_calls
        if len(self._open) >= most or self._bytes + size > self._max_bytes:
            _tell(call, Unavailable("too much waits for the store"))
            return
        call.deadline = time.monotonic() + self._deadline
        self._open[call] = None
        self._bytes += size
        self._send(call)

    def flows(self, slot: int) -> bool:
        """What concerns this slot is sent at once."""
        shard = self._map.owners[slot]
        return shard is not None and shard.is_ready and slot not in self._held

    def tick(self, now: float) -> None:
        """End what took too long, and go on with what may go on. Call it often."""
        self._expire_until(now)
        for slot, held in tuple(self._held.items()):
            if held.drop_finished():
                del self._held[slot]
            else:
                self._release(slot, now)
        self.held_since = (self.held_since or now) if self._held else None

    def release_all(self) -> None:
        """Go on: a server can be asked (again)."""
        now = time.monotonic()
        for slot in tuple(self._held):
            self._release(slot, now)

    def rerouted(self) -> None:
        """A slot has got another owner: nothing may go there before the former one has answered."""
        owners = self._map.owners
        sent = {
            (call.slot, call.shard)
            for call in self._open
            if call.sent and call.shard is not owners[call.slot]
        }
        for slot, shard in sent:
            self._fence(slot, shard)

    def end(self) -> None:
        """Tell everything open that there is no more to come."""
        with ExitStack() as told:  # all of them, even if one raises
            for call in reversed(tuple(self._open)):  # it goes backwards
                told.callback(self._give_up, call, "the store was closed")

    def _send(self, call: Call) -> None:
        if self._held and call.slot in self._held:
            self._held[call.slot].later.append(call)
            return
        shard = self._map.owners[call.slot]
        if call.asking is not None and call.asking.is_ready:
            shard = call.asking
        if shard is None or (link := shard.link) is None or not link.is_open:
            self._held.setdefault(call.slot, Held()).later.append(call)
            return
        script = call.script
        if script is not None and script.sha not in shard.loaded:
            shard.load(script)
        if call.asking is not None:
            if shard is call.asking:
                link.send(("ASKING",), _ignore)
            call.asking = None
        call.shard = shard
        call.sent = True
        link.send_packed(call.packed, call.answered)

    def succeeded(self, call: Call, reply: Any) -> None:
        if self._held:
            self._overtook(call)
        self._forget(call)
        if call.over:
            return
        call.over = True
        shard = call.shard
        if call.copied and shard is not None and shard.replication is not None:
            shard.replication.confirm(lambda enough: call.done(Copied(reply, enough)))
        else:
            call.done(reply)

    def failed(self, call: Call, error: ReplyError | LinkLost) -> None:
        call.sent = False
        if call.over:  # its time was over before
            self._forget(call)
        elif isinstance(error, LinkLost):
            self._lost(call)
        elif error.code in _TRANSIENT:
            self._postpone(call, error)
        else:
            self._refused(call, error)

    def _lost(self, call: Call) -> None:
        call.attempt += 1
        if not call.idempotent:
            self._give_up(call, "the connection to the store was lost")
            return
        self._repack(call)
        self._held.setdefault(call.slot, Held()).retry.append(call)

    def _repack(self, call: Call) -> None:
        """Ask with the arguments of now."""
        self._bytes -= len(call.packed)
        call.packed = pack(call.command())
        self._bytes += len(call.packed)

    def _postpone(self, call: Call, error: ReplyError) -> None:
        asked = call.shard
        assert asked is not None
        if error.code in {"MOVED", "ASK"}:
            named = self._map.heed(error, asked.address)
            if named is None:
                self._refused(call, error)
                return
            call.asking = named if error.code == "ASK" else None
        elif error.code == "NOSCRIPT" and call.script is not None:
            asked.loaded.discard(call.script.sha)
        elif error.code == "NOTERM":  # one of ours: see terms.py; there may be one by now
            self._repack(call)
        held = self._held.setdefault(call.slot, Held())
        held.retry.append(call)
        if call.postponed or error.code in _SOON:
            pause = min(_SHORTEST_PAUSE * 2**call.postponed, _LONGEST_PAUSE)
            held.not_before = max(held.not_before, time.monotonic() + pause)
        call.postponed += 1
        for shard in {asked, self._map.owners[call.slot]}:
            self._fence(call.slot, shard, reconnect=error.code == "READONLY")

    def _fence(self, slot: int, shard: Shard | None, reconnect: bool = False) -> None:
        """Hold a slot back until the server has answered what it was sent before."""
        held = self._held.setdefault(slot, Held())
        link = shard.link if shard is not None else None
        if link is None or not link.is_open:
            return

        def passed(_: Any) -> None:
            held.fences -= 1
            if reconnect:  # it is no master any more; that is looked at when it is connected to
                link.close()
            if self._held.get(slot) is held:
                self._release(slot, time.monotonic())

        held.fences += 1
        link.send(("PING",), passed)

    def _release(self, slot: int, now: float) -> None:
        held = self._held[slot]
        shard = self._map.owners[slot]
        if held.fences or now < held.not_before or shard is None or not shard.is_ready:
            return
        del self._held[slot]
        for call in (*held.retry, *held.later):
            if not call.over:
                self._send(call)

    def _overtook(self, call: Call) -> None:
        held = self._held.get(call.slot)
        if held is None or not call.ordered:
            return
        for earlier in held.retry:
            if earlier.ordered and earlier.keys[0] == call.keys[0]:
                self._give_up(earlier, "the store was not ready for it, but for a later one")

    def _refused(self, call: Call, error: ReplyError) -> None:
        now = time.monotonic()
        if error.code in _OPERATOR:
            self.refused_at = now
        if now - self._logged_at > _LOG_INTERVAL:
            self._logged_at = now
            what = call.script.name if call.script else "a command"
            logger.error("redis refuses %s: %.200s", what, error.text)
        self._give_up(call, f"the store refuses: {error.code}")

    def _expire_until(self, now: float) -> None:
        due = []
        for call in self._open:
            if call.deadline > now:
                break
            due.append(call)
        for call in due:
            self._give_up(call, "the store did not answer in time")

    def _give_up(self, call: Call, why: str) -> None:
        if not call.sent:  # else it takes up room until it is answered
            self._forget(call)
        perhaps = call.sent or call.attempt
        _tell(call, OutcomeUnknown(why) if perhaps else Unavailable(why))

    def _forget(self, call: Call) -> None:
        if call in self._open:
            del self._open[call]
            self._bytes -= len(call.packed)


def _tell(call: Call, outcome: HubbubError) -> None:
    if not call.over:
        call.over = True
        call.done(outcome)


def _ignore(_: Any) -> None: ...
