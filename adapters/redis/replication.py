"""Whether replicas have what was written over a link: one question for all that was written by
then, so that a busy node asks no more often than a quiet one."""

import logging
import time
from collections.abc import Callable
from typing import Any

from adapters.redis.link import Link, ReplyError

PATIENCE = 0.5  # seconds that replicas are waited for; nothing else gets through the link meanwhile
RETRY = 5.0  # seconds until a replica that was not there is waited for again
_LOG_INTERVAL = 5.0  # seconds between two lines about it
_NO_PATIENCE = 1  # ms; 0 would be for ever

logger = logging.getLogger("hubbub.redis")


class Replication:
    """Of one link, which may end while it is asked. Replicas that were missing once are not waited
    for, only counted, until RETRY later: every message would take as long as that."""

    def __init__(self, link: Link, replicas: int) -> None:
        self._link = link
        self._replicas = replicas
        self._waiting: list[Callable[[bool], None]] = []
        self._missed_at = float("-inf")
        self._logged_at = float("-inf")

    def confirm(self, told: Callable[[bool], None]) -> None:
        """Call with whether enough replicas have everything that was answered on the link so far.
        Called once; with False also when nobody can say."""
        self._waiting.append(told)
        if len(self._waiting) > 1:
            return  # replies come in order: what was answered before the one to this is covered
        patient = time.monotonic() - self._missed_at >= RETRY
        patience = int(PATIENCE * 1000) if patient else _NO_PATIENCE

        def answered(reply: Any) -> None:
            waiting, self._waiting = self._waiting, []
            enough = isinstance(reply, int) and reply >= self._replicas
            if enough:
                self._missed_at = float("-inf")
            elif patient:
                self._missed_at = time.monotonic()
            if not enough:
                self._complain(reply)
            for each in waiting:
                each(enough)

        self._link.send(("WAIT", self._replicas, patience), answered)

    def _complain(self, reply: Any) -> None:
        now = time.monotonic()
        if now - self._logged_at <= _LOG_INTERVAL or not isinstance(reply, int | ReplyError):
            return
        self._logged_at = now
        if isinstance(reply, ReplyError):
            logger.error("redis refuses to wait for replicas: %.200s", reply)
        else:
            logger.warning("messages are on %d of %d replicas", reply, self._replicas)
