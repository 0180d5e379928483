"""The terms of a log, and up to where each of them holds."""

from itertools import pairwise

import pytest

from domain.lineage import REMEMBERED, Lineage


@pytest.mark.parametrize(
    ("term", "end"), [("t1", 5), ("t2", 5), ("t3", 12), ("t4", None), ("", None)]
)
def test_a_term_ends_where_the_next_one_began(term: str, end: int | None) -> None:
    lineage = Lineage([("t1", 0), ("t2", 5)])
    lineage.begin("t3", 5)
    assert lineage.end_of(term, 12) == end


def test_only_so_many_terms_are_remembered() -> None:
    lineage = Lineage([("t0", 0)])
    for number in range(1, REMEMBERED + 1):
        lineage.begin(f"t{number}", number)
    assert lineage.end_of("t0", 99) is None
    assert lineage.end_of("t1", 99) == 2
    assert len(list(lineage)) == REMEMBERED


@pytest.mark.parametrize(("term", "past"), [("t1", True), ("t2", False), ("t3", False)])
def test_a_term_is_past_once_another_one_is_in_force(term: str, past: bool) -> None:
    assert Lineage([("t1", 0), ("t2", 5)]).past(term) is past


def test_the_term_in_force_is_the_last_one() -> None:
    lineage = Lineage([("t1", 0), ("t2", 5)])
    assert lineage.current == ("t2", 5)
    lineage.begin("t3", 9)
    assert (lineage.current, next(iter(lineage))) == (("t3", 9), ("t1", 0))


# Terms that were lost as a whole


def recalling(terms: list[tuple[str, int]], *former: list[tuple[str, int]]) -> Lineage:
    """A lineage with what was known of those before it, the oldest first."""
    lineages = [Lineage(known) for known in (*former, terms)]
    for before, after in pairwise(lineages):
        after.recall(before)
    return lineages[-1]


@pytest.mark.parametrize(
    ("term", "end"), [("t1", 20), ("t2", 5), ("t3", 5), ("t0", 2), ("t4", None)]
)
def test_a_lost_term_holds_up_to_where_it_left(term: str, end: int | None) -> None:
    """The store of t1 is back, and had heard of nobody who followed it."""
    lineage = recalling([("t0", 0), ("t1", 2)], [("t0", 0), ("t1", 2), ("t2", 5), ("t3", 9)])
    assert lineage.end_of(term, 20) == end
    assert list(lineage) == [("t0", 0), ("t1", 2)]
    assert not lineage.past("t2")
    assert set(lineage.known) == {"t0", "t1", "t2", "t3"}


def test_a_lost_term_holds_no_further_than_the_one_it_left() -> None:
    lineage = recalling([("t1", 0)], [("t1", 0), ("t2", 8)])
    lineage.begin("t3", 6)  # after a store that had less of t1
    assert (lineage.end_of("t1", 9), lineage.end_of("t2", 9)) == (6, 6)
    lineage = recalling([("t1", 0), ("t3", 6)], [("t1", 0), ("t2", 8)])
    assert lineage.end_of("t2", 9) == 6


def test_a_term_that_left_one_that_is_lost_itself() -> None:
    lineage = recalling(
        [("t1", 0), ("t4", 7)], [("t1", 0), ("t2", 3), ("t3", 5)], [("t1", 0), ("t2", 3)]
    )
    assert [lineage.end_of(term, 9) for term in ("t1", "t2", "t3", "t4")] == [7, 3, 3, 9]
    lineage = recalling([("t1", 0)], [("t1", 0), ("t2", 3), ("t3", 5)], [("t1", 0), ("t2", 3)])
    assert [lineage.end_of(term, 9) for term in ("t1", "t2", "t3")] == [9, 3, 3]
    lineage = recalling(
        [("t1", 0), ("t2", 3)], [("t1", 0), ("t2", 3), ("t3", 5)], [("t1", 0), ("t2", 3)]
    )
    assert [lineage.end_of(term, 9) for term in ("t1", "t2", "t3")] == [3, 9, 5]


@pytest.mark.parametrize("way", ["heard", "read"])
def test_a_lost_term_may_come_back(way: str) -> None:
    if way == "heard":
        lineage = recalling([("t1", 0)], [("t1", 0), ("t2", 5)])
        lineage.begin("t2", 5)
    else:
        back = [("t1", 0), ("t2", 5)]
        lineage = recalling(back, back, [("t1", 0)])
    assert [lineage.end_of(term, 9) for term in ("t1", "t2", "t3")] == [5, 9, None]
    assert sorted(lineage.known) == ["t1", "t2"]


def test_terms_of_which_nothing_is_left_are_not_known() -> None:
    lineage = recalling([("u1", 0)], [("t1", 0), ("t2", 5)])
    assert [lineage.end_of(term, 9) for term in ("t1", "t2", "u1")] == [None, None, 9]


def test_only_so_many_lost_terms_are_remembered() -> None:
    lineage = Lineage([("t", 0)])
    for number in range(1, 100):
        following = Lineage([("t", 0)])
        lineage.begin(f"lost{number}", number)
        following.recall(lineage)
        lineage = following
    names = set(lineage.known)
    assert (len(names), lineage.end_of("lost99", 200)) == (REMEMBERED + 1, 99)
    assert lineage.end_of(f"lost{99 - REMEMBERED}", 200) is None
