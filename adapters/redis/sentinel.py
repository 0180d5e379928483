"""Finding the master that Sentinels agreed on."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from adapters.redis.addresses import Address
from adapters.redis.link import Link, LinkLost, ReplyError
from adapters.redis.shard import Shard
from adapters.redis.topology import Discovery, Owned

PERIOD = 1.0  # seconds between two questions, also when all is well: see Sentinels
ASK_DEADLINE = 0.75  # seconds for an answer: one that is gone must not keep us from the others'
REMEMBERED = 60.0  # seconds since somebody last knew of the newest failover seen


class _Opinion(NamedTuple):
    epoch: int  # of the failover that made it master
    address: Address


class Sentinels(Discovery):
    """Asks all of them, again and again: a master that was cut off from them takes commands
    still, and only they know that another one has replaced it. The newest failover decides, also
    while nobody who knows of it answers: a Sentinel on the wrong side of a partition knows an
    older one. One that nobody knows of any more is forgotten in time; they may have been set up
    anew.
    """

    sharded = False
    slots = 1
    period = PERIOD

    def __init__(
        self,
        seeds: Sequence[Address],
        master: str,
        server: Address,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seeds = seeds
        self._master = master
        self._server = server
        self._clock = clock
        self._newest: _Opinion | None = None
        self._known_at = 0.0  # when somebody said so last
        self._links: dict[Address, Link] = {}

    def slot(self, key: str) -> int:
        return 0

    async def find(self, known: Sequence[Shard]) -> list[Owned]:
        answers = await asyncio.gather(
            *(self._ask(seed) for seed in self._seeds), return_exceptions=True
        )
        opinions = [answer for answer in answers if isinstance(answer, _Opinion)]
        if not opinions:
            raise _why(answers)
        newest = max(opinions, key=lambda opinion: opinion.epoch)
        return [Owned(0, 0, self._decide(newest).address)]

    def close(self) -> None:
        for link in self._links.values():
            link.close()
        self._links.clear()

    def _decide(self, said: _Opinion) -> _Opinion:
        """The newest opinion, of what was said now and is remembered."""
        now, newest = self._clock(), self._newest
        if newest is not None and said.epoch < newest.epoch and now - self._known_at < REMEMBERED:
            return newest
        self._newest, self._known_at = said, now
        return said

    async def _ask(self, seed: Address) -> _Opinion:
        try:
            async with asyncio.timeout(ASK_DEADLINE):
                link = self._links.get(seed)
                if link is None or not link.is_open:
                    link = self._links[seed] = await Link.open(seed)
                told, where = await asyncio.gather(
                    link.call("SENTINEL", "MASTER", self._master),
                    link.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._master),
                )
        except TimeoutError:
            if seed in self._links:
                self._links.pop(seed).close()
            raise LinkLost(f"{seed} does not answer") from None
        if where is None:
            raise LinkLost(f"{seed} does not know {self._master}")
        # MASTER names the former one until the failover is over in every detail, which takes
        # seconds, and what that one acknowledges meanwhile is lost.
        host, port = where
        return _Opinion(int(told[b"config-epoch"]), self._server.at(host.decode(), int(port)))


def _why(answers: Sequence[object]) -> Exception:
    """The one error that says most; a bug is raised as it is."""
    expected = (LinkLost, ReplyError)
    for answer in answers:
        if isinstance(answer, Exception) and not isinstance(answer, expected):
            return answer
    return LinkLost("; ".join(dict.fromkeys(str(answer) for answer in answers)))
