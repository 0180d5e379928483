"""Which reigns of the store numbered a room's log, and from where on."""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

REMEMBERED = 16  # terms; a position of an older one is of no log that is known


class Lineage:
    """The terms of one epoch, oldest first, each with the seq before its first message.

    A term that follows another one holds all of that one's messages up to its own beginning; what
    the earlier store numbered above it is withdrawn.
    """

    __slots__ = ("_terms",)

    def __init__(self, terms: Sequence[tuple[str, int]]) -> None:
        self._terms = deque(terms, REMEMBERED)

    @property
    def current(self) -> tuple[str, int]:
        """The term in force and the seq before its first message."""
        return self._terms[-1]

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._terms)

    def begin(self, term: str, top: int) -> None:
        """Continue after `top` under a new term."""
        self._terms.append((term, top))

    def end_of(self, term: str, top: int) -> int | None:
        """The last seq of a term that still holds, None for a term not known. `top` is that of
        the log, and so the end of the term in force."""
        for index, (known, _) in enumerate(self._terms):
            if known == term:
                following = next(islice(self._terms, index + 1, None), None)
                return top if following is None else following[1]
        return None

    def past(self, term: str) -> bool:
        """Whether this term is over: what it numbered and is not in the log will never be."""
        return term != self._terms[-1][0] and any(known == term for known, _ in self._terms)
