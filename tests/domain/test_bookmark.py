"""A position by the tag of its log."""

import re

from hypothesis import given
from hypothesis import strategies as st

from domain.bookmark import TAG, Bookmark, log_tag
from domain.lineage import Lineage
from domain.position import Position
from domain.timeline import Outcome, Timeline


def test_a_tag_is_short_and_the_same_every_time() -> None:
    tag = log_tag("epoch.term")
    assert re.fullmatch(rf"[A-Za-z0-9_-]{{{TAG}}}", tag)
    assert log_tag("epoch.term") == tag
    assert len({log_tag(f"epoch.{number}") for number in range(10_000)}) == 10_000


@given(st.text(max_size=200))
def test_every_log_has_a_tag(log: str) -> None:
    assert len(log_tag(log)) == TAG


def test_it_is_found_in_every_term_that_is_known() -> None:
    timeline = Timeline.restore("epoch", Lineage([("old", 0), ("new", 5)]), 8, 0)
    for term, seq in (("old", 4), ("new", 7), ("old", 6)):
        position = Position("epoch", seq, term)
        assert Bookmark(seq, log_tag(position.log)).within(timeline) == position


def test_it_is_found_in_a_term_that_was_lost_as_a_whole() -> None:
    former = Timeline.restore("epoch", Lineage([("old", 0), ("lost", 5)]), 8, 0)
    timeline = Timeline.restore("epoch", Lineage([("old", 0)]), 9, 0)
    timeline.recall(former)
    position = Position("epoch", 7, "lost")
    assert Bookmark(7, log_tag(position.log)).within(timeline) == position


def test_one_of_another_log_is_reset() -> None:
    timeline = Timeline("epoch", "term", 5)
    for tag in (log_tag("other.term"), log_tag("epoch.other"), "", "?"):
        position = Bookmark(3, tag).within(timeline)
        assert timeline.recover(position).recovery.outcome is Outcome.RESET
