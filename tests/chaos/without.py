"""`python -m tests.chaos.without STEP,STEP serve ...`: hubbub without a step that keeps it safe.

The patches live here; the server knows nothing of them. Each takes one promise away, which a run
with the right fault must find. Conditions make a fault show sooner and take nothing away.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, NamedTuple
from unittest.mock import patch

from adapters.redis import feeds, publisher, replica
from adapters.redis.channels import Channels
from adapters.redis.feed import Feed
from adapters.redis.pulse import Pulse
from adapters.redis.records import Record
from adapters.redis.replica import Replica, Verdict
from adapters.redis.store import Script
from domain.message import Message
from domain.timeline import Timeline
from entrypoints import cli

_WRITES_META = "redis.call('HSET', KEYS[1], 'seq', seq, unpack(changed))\n"
_WRITES_LOG = "redis.call('XADD', "


def _numbering_first(name: str) -> Script:
    source = Script(name).source
    if name != "publish":
        return Script(name)
    assert source.count(_WRITES_META) == source.count(_WRITES_LOG) == 1
    source = source.replace(_WRITES_META, "")
    return Script(name, source.replace(_WRITES_LOG, _WRITES_META + _WRITES_LOG))


_judge = replica.judge


def _no_holes(timeline: Timeline, record: Record) -> Verdict:
    verdict = _judge(timeline, record)
    if verdict is Verdict.HOLE and record.epoch == timeline.epoch:
        timeline.clear()
        timeline.top = record.message.seq - 1
        return Verdict.NEXT
    return verdict


def _settle_without_a_look(self: Replica, now: float) -> Any:
    timeline, buffer = self._held, self._buffer
    self._forget_buffer()
    delivered: list[Message] = []
    for record in buffer:
        if record.message.seq > timeline.top:
            timeline.clear()
            timeline.top = record.message.seq - 1
            timeline.append(record.message, record.keep, now)
            delivered.append(record.message)
    self.live = True
    return iter(delivered)


def _nothing(*_: object) -> None: ...


async def _no_comparison(_: feeds.Feeds) -> None: ...


class Step(NamedTuple):
    """`about` says what happens instead; inside `undone()` it does."""

    about: str
    undone: Callable[[], AbstractContextManager[object]]


STEPS: dict[str, Step] = {
    "log-first": Step(
        "the number is written down before the message is in the log",
        lambda: patch.object(publisher, "Script", _numbering_first),
    ),
    "continuity": Step(
        "whatever comes from a channel is taken, whether or not something is missing before it",
        lambda: patch.object(replica, "judge", _no_holes),
    ),
    "merge": Step(
        "what was heard while a log was read is taken without a look at where it begins",
        lambda: patch.object(Replica, "settle", _settle_without_a_look),
    ),
    "resubscription": Step(
        "nothing is read when a subscription was lost and is back",
        lambda: patch.object(Feed, "lost", _nothing),
    ),
    "pulse": Step(
        "nobody notices that a connection is deaf", lambda: patch.object(Pulse, "beat", _nothing)
    ),
    "tops": Step(
        "the end of a room here is not compared with its end in Redis",
        lambda: patch.object(feeds.Feeds, "check", _no_comparison),
    ),
}
CONDITIONS: dict[str, Step] = {
    "hurry": Step(
        "pulses and comparisons come sooner",
        lambda: _both(
            patch.object(feeds, "CHECK", 2.0),
            patch.object(Channels.__init__, "__defaults__", (0.5, "hubbub")),
        ),
    ),
    "small-buffer": Step(
        "little is kept of what is heard while a log is read",
        lambda: patch.object(replica, "MAX_BUFFER", 2_000),
    ),
}


def _both(*patches: AbstractContextManager[object]) -> AbstractContextManager[object]:
    entered = ExitStack()
    for one in patches:
        entered.enter_context(one)
    return entered


def main(words: Sequence[str]) -> None:
    """Run hubbub's command line without the steps, or under the conditions, named first."""
    names, *rest = words
    sys.argv[1:] = rest
    with ExitStack() as undone:
        for name in names.split(","):
            undone.enter_context((STEPS | CONDITIONS)[name].undone())
        cli.main()


if __name__ == "__main__":
    main(sys.argv[1:])
