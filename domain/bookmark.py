"""A position in little room: the log by a tag instead of by its name."""

from base64 import urlsafe_b64encode
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from domain.position import Position
from domain.timeline import Timeline

TAG = 8  # characters of A-Z a-z 0-9 _ -; 48 bits, against the few logs that a room knows


@lru_cache(maxsize=4096)  # one log for as long as it lasts, asked for with every message
def log_tag(log: str) -> str:
    """The same TAG characters for a log wherever it is met."""
    return urlsafe_b64encode(blake2b(log.encode(), digest_size=TAG * 6 // 8).digest()).decode()


class Bookmark(NamedTuple):
    """`seq` messages have been seen of the log with this tag."""

    seq: int
    tag: str

    def within(self, timeline: Timeline) -> Position:
        """The position meant. With a tag of no log known there it is in none (RESET)."""
        for term in timeline.lineage.known:
            if log_tag(Position(timeline.epoch, 0, term).log) == self.tag:
                return Position(timeline.epoch, self.seq, term)
        return Position("", self.seq, "")
