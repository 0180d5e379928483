"""Event ids: read from strangers, and stamped so that a stream may break at any byte."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from domain.bookmark import Bookmark, log_tag
from domain.identifiers import RoomId
from domain.message import Message
from domain.position import Position
from domain.timeline import Outcome, Recovery, Replay
from entrypoints.http.event_request import MAX_ROOMS
from entrypoints.wire.event_ids import (
    LOST,
    MAX_BYTES,
    NOWHERE,
    OUT,
    Stamps,
    bookmark_of,
    mark_of,
    read_id,
)
from entrypoints.wire.events import Events
from tests.event_source import EventParser

LOG = "G3lXpGLIoS81nfn-g_7lNQ.0"
TAG = log_tag(LOG)
ROOMS = tuple(RoomId(f"room{number}") for number in range(3))

# Reading


def test_an_id_has_a_mark_for_each_room() -> None:
    resume = read_id(f"43.{TAG},,7.{TAG}", 3)
    assert resume.marks == (f"43.{TAG}".encode(), NOWHERE, f"7.{TAG}".encode())
    assert not resume.over
    assert [bookmark_of(mark) for mark in resume.marks] == [
        Bookmark(43, TAG),
        None,
        Bookmark(7, TAG),
    ]


def test_an_id_of_fewer_rooms_says_nothing_of_the_others() -> None:
    assert read_id("", 2).marks == (NOWHERE, NOWHERE)
    assert read_id(f"1.{TAG}", 3).marks == (f"1.{TAG}".encode(), NOWHERE, NOWHERE)


def test_an_id_of_more_rooms_says_what_it_says_of_the_first() -> None:
    marks = read_id(f"1.{TAG},2.{TAG},3.{TAG}", 2).marks
    assert marks == (f"1.{TAG}".encode(), f"2.{TAG}".encode())


def test_a_place_out_of_a_room_is_no_place_to_go_on_from() -> None:
    assert read_id(f"x,1.{TAG}", 2).marks[0] == OUT
    assert bookmark_of(OUT) is None


def test_the_id_of_an_end_keeps_the_marks() -> None:
    assert read_id("!", 2) == ((NOWHERE, NOWHERE), True)
    assert read_id(f"!4.{TAG},x", 2) == ((f"4.{TAG}".encode(), OUT), True)


def test_what_is_no_mark_is_a_place_in_no_log() -> None:
    for text in ("7", f"-1.{TAG}", f"01.{TAG}", f"1.{TAG}x", "?", f"1e3.{TAG}", f"²3.{TAG}"):
        (mark,) = read_id(text, 1).marks
        assert mark == LOST, text
        found = bookmark_of(mark)
        assert found is not None
        assert found.tag != TAG


def test_too_long_an_id_is_not_read() -> None:
    text = ",".join([f"1.{TAG}"] * 200)[:MAX_BYTES]
    assert read_id(text, 2).marks[0] == f"1.{TAG}".encode()
    assert read_id(text + ",", 2) == ((LOST, LOST), False)


@given(st.text(max_size=3000), st.integers(1, MAX_ROOMS))
def test_no_text_is_too_strange_to_be_read(text: str, rooms: int) -> None:
    resume = read_id(text, rooms)
    assert len(resume.marks) == rooms
    for mark in resume.marks:
        assert mark.decode("ascii").isprintable()
        assert b"," not in mark
        bookmark_of(mark)
    # Whatever it was, it is written out as something that means the same.
    assert read_id(b",".join(resume.marks).decode(), rooms).marks == resume.marks


def test_the_longest_id_we_write_is_one_we_read() -> None:
    rooms = tuple(RoomId(f"{number:x}" + "r" * 127) for number in range(MAX_ROOMS))
    stamp = Stamps().stamp(rooms, (NOWHERE,) * MAX_ROOMS)
    dialect, parser = Events(alone=False, presence=False), EventParser()
    for room in rooms:
        parser.feed(stamp(dialect.message(message(room, 2**53))))
    assert len(parser.last_id) <= MAX_BYTES
    assert read_id(parser.last_id, MAX_ROOMS).marks == (mark_of(LOG, 2**53),) * MAX_ROOMS


# Writing


def message(room: RoomId, seq: int, log: str = LOG) -> Message:
    return Message(room, seq, f"id{seq}", None, b'"text"', 1767225600.0, log)


class Reader:
    """What one stream is sent, and the other side of it."""

    def __init__(self, stamp: Callable[[bytes], bytes]) -> None:
        self._stamp = stamp
        self.sent = b""

    def push(self, frames: bytes) -> None:
        self.sent += self._stamp(frames)


def seen(sent: bytes) -> tuple[dict[str, int], str]:
    """Per room the last message that somebody got to whom these bytes came, and the last id."""
    parser, last = EventParser(), dict.fromkeys(ROOMS, 0)
    for event in parser.feed(sent):
        if event.frame.get("seq"):
            room = RoomId(event.frame["room"])
            assert event.frame["seq"] == last[room] + 1
            last[room] += 1
    return {str(room): seq for room, seq in last.items()}, parser.last_id


BATCHES = st.lists(  # of what is pushed at once: rooms, in which something is said
    st.lists(st.sampled_from(ROOMS), min_size=1, max_size=5), max_size=8
)


@given(BATCHES, st.data())
def test_a_stream_may_break_at_any_byte(batches: list[list[RoomId]], data: st.DataObject) -> None:
    """The last id a browser has then tells exactly which messages it has dispatched."""
    dialect = Events(alone=False, presence=True)
    reader = Reader(Stamps().stamp(ROOMS, (NOWHERE,) * len(ROOMS)))
    tops = dict.fromkeys(ROOMS, 0)
    for batch in batches:
        frames = b""
        for room in batch:
            tops[room] += 1
            frames += dialect.message(message(room, tops[room]))
        reader.push(frames)
        reader.push(dialect.ping())
    cut = data.draw(st.integers(0, len(reader.sent)))
    got, last_id = seen(reader.sent[:cut])
    marks = read_id(last_id, len(ROOMS)).marks
    assert [got[room] for room in ROOMS] == [
        0 if mark == NOWHERE else int(mark.split(b".")[0]) for mark in marks
    ]


@given(BATCHES, st.lists(st.integers(0, 3), max_size=8))
def test_streams_at_different_places_share_nothing_wrong(
    batches: list[list[RoomId]], late: list[int]
) -> None:
    """Readers of the same rooms who come one after the other, and one of other rooms."""
    dialect, stamps = Events(alone=False, presence=False), Stamps()
    marks = (NOWHERE,) * len(ROOMS)
    readers = [Reader(stamps.stamp(ROOMS, marks))]
    other = Reader(stamps.stamp(ROOMS[::-1], marks))
    tops = dict.fromkeys(ROOMS, 0)
    entered = [dict(tops)]
    for number, batch in enumerate(batches):
        frames = b""
        for room in batch:
            tops[room] += 1
            frames += dialect.message(message(room, tops[room]))
        for reader in (*readers, other):
            reader.push(frames)
        if number in late:
            begin = tuple(mark_of(LOG, tops[room]) if tops[room] else NOWHERE for room in ROOMS)
            readers.append(Reader(stamps.stamp(ROOMS, begin)))
            entered.append(dict(tops))
    final = b",".join(mark_of(LOG, tops[room]) if tops[room] else NOWHERE for room in ROOMS)
    for reader, at in zip(readers, entered, strict=True):
        if at != tops:
            assert seen_id(reader) == final.decode()
    if batches:
        assert seen_id(other).split(",") == final.decode().split(",")[::-1]


def seen_id(reader: Reader) -> str:
    parser = EventParser()
    parser.feed(reader.sent)
    return parser.last_id


def test_streams_at_the_same_place_are_handed_the_same_bytes() -> None:
    stamps = Stamps()
    frames = Events(alone=False, presence=False).message(message(ROOMS[0], 1))
    marks = (NOWHERE, NOWHERE)
    first, second = stamps.stamp(ROOMS[:2], marks), stamps.stamp(ROOMS[:2], marks)
    behind = stamps.stamp(ROOMS[:2], (NOWHERE, b"5.AAAAAAAA"))
    stamped = first(frames)
    assert second(frames) is stamped
    assert behind(frames) != stamped
    again = Events(alone=False, presence=False).message(message(ROOMS[0], 2))
    assert first(again) is second(again)


def test_what_moves_no_mark_is_left_as_it_is() -> None:
    dialect = Events(alone=False, presence=True)
    stamp = Stamps().stamp(ROOMS, (NOWHERE,) * len(ROOMS))
    ephemeral = dialect.message(message(ROOMS[0], 0))
    frames = dialect.ping() + ephemeral
    assert stamp(frames) == frames


def test_a_room_one_is_taken_out_of_is_marked() -> None:
    dialect = Events(alone=False, presence=False)
    reader = Reader(Stamps().stamp(ROOMS[:2], (NOWHERE, NOWHERE)))
    reader.push(dialect.message(message(ROOMS[0], 1)))
    removed = dialect.removed(ROOMS[1], "kicked", "be nice")
    assert removed is not None
    reader.push(removed)
    assert read_id(seen_id(reader), 2).marks == (mark_of(LOG, 1), OUT)


def test_the_ids_of_one_room_need_no_stamp() -> None:
    dialect, parser = Events(alone=True, presence=False), EventParser()
    for seq in (1, 2):
        (event,) = parser.feed(dialect.message(message(ROOMS[0], seq)))
        assert event.id.encode() == mark_of(LOG, seq)


def test_a_page_of_messages_is_events_of_their_own_behind_the_verdict() -> None:
    """So that a cut between two of them is no harm."""
    dialect, parser = Events(alone=True, presence=False), EventParser()
    messages = [message(ROOMS[0], seq) for seq in (5, 6)]
    replay = Replay(Recovery(Outcome.REWOUND, valid_to=4), messages, Position.parse(LOG, 6), False)
    verdict, *events = parser.feed(dialect.resync(ROOMS[0], replay))
    assert verdict.name == "resync"
    assert verdict.frame["position"] == {"log": LOG, "seq": 4}
    assert (verdict.frame["messages"], verdict.frame["more"]) == ([], True)
    assert verdict.id.encode() == mark_of(LOG, 4)
    assert [(event.name, event.frame["seq"]) for event in events] == [
        ("message", 5),
        ("message", 6),
    ]
    assert [event.id.encode() for event in events] == [mark_of(LOG, 5), mark_of(LOG, 6)]
