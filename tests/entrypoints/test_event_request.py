"""What somebody asks for who opens an event stream, whatever that somebody sends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import BadFrame, BadName, TooManyRooms
from domain.identifiers import RoomId, UserId
from entrypoints.http.event_request import MAX_ROOMS, EventRequest, read_request
from entrypoints.wire.event_ids import LOST, NOWHERE, OUT

PLACE = "5.AAAAAAAA"


def ask(query: str, last_id: str | None = None) -> EventRequest:
    headers = [] if last_id is None else [(b"last-event-id", last_id.encode("latin-1"))]
    return read_request({"query_string": query.encode("latin-1"), "headers": headers})


def test_a_room_is_enough() -> None:
    assert ask("room=a") == EventRequest((RoomId("a"),), (NOWHERE,), False, False, 0, None)


def test_everything_there_is() -> None:
    asked = ask(f"room=a&room=%40ann&presence=1&history=20&user=ann&last_event_id={PLACE}")
    rooms = (RoomId("a"), RoomId("@ann"))
    marks = (PLACE.encode(), NOWHERE)
    assert asked == EventRequest(rooms, marks, False, True, 20, UserId("ann"))


def test_a_room_named_twice_is_one() -> None:
    assert ask("room=a&room=b&room=a").rooms == ("a", "b")
    assert len(ask("&".join(["room=a"] * 60)).rooms) == 1


def test_only_a_browser_that_returns_is_told_to_stay_away() -> None:
    for last_id in ("!", f"!{PLACE}", "x", "x,x"):
        rooms = "room=a&room=b" if "," in last_id else "room=a"
        assert ask(rooms, last_id).over
        assert not ask(f"{rooms}&last_event_id={last_id}").over
    assert not ask("room=a&room=b", "x").over
    assert ask("room=a&room=b", "x").marks == (OUT, NOWHERE)


def test_the_header_counts_before_the_address() -> None:
    assert ask(f"room=a&last_event_id={PLACE}", "?").marks == (LOST,)
    assert ask(f"room=a&last_event_id={PLACE}", "").marks == (PLACE.encode(),)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("", BadFrame),
        ("room", BadName),
        ("room=a&room=", BadName),
        ("room=a%0ab", BadName),
        ("&".join(f"room={number}" for number in range(MAX_ROOMS + 1)), TooManyRooms),
        ("room=a&" * 65, BadFrame),
        ("room=a&presence=2", BadFrame),
        ("room=a&history=1.5", BadFrame),
        ("room=a&history=%C2%B2", BadFrame),
        ("room=a&user=", BadName),
    ],
)
def test_what_is_no_request(query: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        ask(query)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_nothing_is_too_strange_to_be_answered(query: bytes, last_id: bytes) -> None:
    for text in (query, b"room=a&" + query):
        scope = {"query_string": text, "headers": [(b"last-event-id", last_id)]}
        try:
            asked = read_request(scope)
        except (BadFrame, BadName, TooManyRooms):
            continue
        assert len(asked.marks) == len(asked.rooms) <= MAX_ROOMS
