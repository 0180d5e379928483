"""What a client is given as its position leads back to the same position."""

import pytest

from domain.position import Position


def test_a_log_names_epoch_and_term() -> None:
    assert Position("e1", 7, "t1").log == "e1.t1"


def test_the_log_does_not_depend_on_how_much_was_seen() -> None:
    assert Position("e1", 7, "t1").log == Position("e1", 8, "t1").log


def test_another_epoch_or_term_is_another_log() -> None:
    logs = {Position(epoch, 0, term).log for epoch in ("e1", "e2") for term in ("t1", "t2")}
    assert len(logs) == 4


def test_a_position_comes_back_from_its_log_and_seq() -> None:
    position = Position("e1", 7, "t1")
    assert Position.parse(position.log, position.seq) == position


def test_an_epoch_may_hold_a_dot() -> None:
    position = Position("e.1", 7, "t1")
    assert Position.parse(position.log, position.seq) == position


@pytest.mark.parametrize("log", ["", ".", "e1", "e1.", ".t1", "e1.t1.x", " e1.t1", "e1.t1\n", "\0"])
def test_garbage_is_parsed_and_matches_nothing(log: str) -> None:
    parsed = Position.parse(log, 7)
    assert parsed.seq == 7
    assert (parsed.epoch, parsed.term) != ("e1", "t1")
