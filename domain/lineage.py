"""Which reigns of the store numbered a room's log, and from where on."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

REMEMBERED = 16  # terms; a position of an older one is of no log that is known


class Lineage:
    """The terms of one epoch, oldest first, each with the seq before its first message.

    A term that follows another one holds all of that one's messages up to its own beginning; what
    the earlier store numbered above it is withdrawn. A store that was away may come back and go on
    in its own term as if there had been no other: then a term is lost as a whole, and who does
    `recall` it knows how much of it holds.
    """

    __slots__ = ("_lost", "_terms")

    def __init__(self, terms: Sequence[tuple[str, int]]) -> None:
        self._terms = list(terms[-REMEMBERED:])
        # Those lost as a whole, each with the term that it followed, and after which seq.
        self._lost: dict[str, tuple[str, int]] = {}

    @property
    def current(self) -> tuple[str, int]:
        """The term in force and the seq before its first message."""
        return self._terms[-1]

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._terms)

    @property
    def known(self) -> Iterator[str]:
        """All terms of which `end_of` knows an end."""
        yield from (term for term, _ in self._terms)
        yield from self._lost

    def begin(self, term: str, top: int) -> None:
        """Continue after `top` under a new term."""
        self._lost.pop(term, None)
        self._terms.append((term, top))
        del self._terms[:-REMEMBERED]

    def recall(self, former: "Lineage") -> None:
        """Remember which terms were known before, of the same epoch, and are none of these."""
        left = dict(former._lost)
        left.update((term, (last, start)) for (last, _), (term, start) in pairwise(former))
        names = {term for term, _ in self._terms}
        lost = [(term, fork) for term, fork in left.items() if term not in names]
        self._lost = dict(lost[-REMEMBERED:])

    def end_of(self, term: str, top: int) -> int | None:
        """The last seq of a term that still holds, None for a term not known. `top` is that of
        the log, and so the end of the term in force."""
        end = top
        for _ in range(len(self._lost)):
            if term in self._lost:
                term, left_at = self._lost[term]
                end = min(end, left_at)
        for following, (known, _) in enumerate(self._terms, 1):
            if known == term:
                is_over = following < len(self._terms)
                return min(end, self._terms[following][1] if is_over else top)
        return None

    def past(self, term: str) -> bool:
        """Whether this term is over: what it numbered and is not in the log will never be."""
        return term != self._terms[-1][0] and any(known == term for known, _ in self._terms)
