"""The terms of a log, and up to where each of them holds."""

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
