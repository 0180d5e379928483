"""Where a reader stands in a room's log."""

from typing import NamedTuple


class Position(NamedTuple):
    """`seq` messages of one log have been seen.

    A log is one `epoch` (a life of the room's log) under one `term` (a reign of the store that
    numbers it). Two stores can give the same epoch and seq to different messages after a
    failover; they cannot share the term as well, so equal positions mean equal messages.
    """

    epoch: str
    seq: int
    term: str

    @property
    def log(self) -> str:
        """Epoch and term as clients see them: opaque, to be handed back unchanged."""
        return f"{self.epoch}.{self.term}"

    @classmethod
    def parse(cls, log: str, seq: int) -> "Position":
        """Read what a client hands in. Anything unknown simply matches no log (reset)."""
        epoch, _, term = log.rpartition(".")
        return cls(epoch, seq, term)
