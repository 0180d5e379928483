"""Event ids: where a stream stands in all of its rooms, as one short text.

    id   = mark *( "," mark ) / "!" [ id ]
    mark = seq "." tag      so many messages seen, of the log with this tag
         / ""               nothing seen yet
         / "x"              taken out of the room
         / "?"              something that was no mark

There is one mark for each room, in the order of the request. "!" comes with a `disconnect` after
which nobody is to come back.

A browser takes over the id of an event when it dispatches that event, and hands the last one in
when it returns. A connection may break anywhere, also in the middle of what was written at once,
and the beginning of an event without its end is thrown away. So every event that stands for a
message needs an id of its own, and that id must say "after this event, before the next one" of
all rooms. An id for every batch would double what was dispatched of a batch that broke, or, put
first, lose the rest of it.

In a stream of one room such an id follows from the message alone: it is the same for everybody
and part of what is framed once. In a stream of several rooms it also depends on what *this* stream
was sent of the other ones, in which order, and who is still catching up is elsewhere than the rest.
So there the dialect writes only the mark that moves, with the name of its room, and a Stamp puts
the whole id in its place as the events are handed to the connection, in the order in which they
are written. Streams that stand at the same place and are handed the same bytes object, which is
the rule in a room with many readers, share one result.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple
from weakref import WeakValueDictionary

from domain.bookmark import TAG, Bookmark, log_tag
from domain.identifiers import RoomId

MAX_BYTES = 2048  # of an id, as far as we read one; ours stay below for the rooms of a stream
END = b"\n\n"  # of an event, and nowhere in one: data is JSON on one line
OVER = b"!"

NOWHERE = b""
OUT = b"x"
LOST = b"?"

_LINE = b"id: "
_PLACE = re.compile(rf"(?:0|[1-9][0-9]{{0,15}})\.[A-Za-z0-9_-]{{{TAG}}}")
_KNOWN = {"": NOWHERE, "x": OUT, "?": LOST}


class Resume(NamedTuple):
    """What a reader hands in: a mark for each of its rooms. `over`: it was told to stay away."""

    marks: tuple[bytes, ...]
    over: bool


def read_id(text: str, rooms: int) -> Resume:
    """Read an id, whatever it is. Rooms that it says nothing about are NOWHERE, those about which
    it says nothing that we understand are LOST."""
    if len(text) > MAX_BYTES:
        return Resume((LOST,) * rooms, False)
    over = text.startswith("!")
    given = [_mark(part) for part in text.lstrip("!").split(",", rooms)[:rooms]]
    return Resume((*given, *(NOWHERE,) * (rooms - len(given))), over)


def _mark(text: str) -> bytes:
    known = _KNOWN.get(text)
    if known is None:
        known = text.encode() if _PLACE.fullmatch(text) else LOST
    return known


def mark_of(log: str, seq: int) -> bytes:
    """The mark after a message."""
    return b"%d.%b" % (seq, log_tag(log).encode())


def bookmark_of(mark: bytes) -> Bookmark | None:
    """Where to go on, None for no such wish. LOST is a place in no log."""
    if mark in (NOWHERE, OUT):
        return None
    seq, _, tag = mark.decode().partition(".")
    return Bookmark(0 if mark == LOST else int(seq), tag)


def id_line(mark: bytes) -> bytes:
    """The first line of an event in a stream of one room."""
    return b"id: %b\n" % mark


def place_line(room: RoomId, mark: bytes) -> bytes:
    """The same for a stream of several rooms, to be stamped."""
    return b"id: %b %b\n" % (room.encode(), mark)


class _Splitter:
    """Takes events apart, once for everybody who is handed the same bytes one after the other."""

    __slots__ = ("_frames", "_parts")

    def __init__(self) -> None:
        self._frames = b""
        self._parts: list[tuple[bytes, bytes, bytes]] = []

    def __call__(self, frames: bytes) -> list[tuple[bytes, bytes, bytes]]:
        """The room and the mark that it moves to, both empty for none, and the rest of each."""
        if frames is not self._frames:
            self._frames, self._parts = frames, [_part(event) for event in frames.split(END)]
        return self._parts


def _part(event: bytes) -> tuple[bytes, bytes, bytes]:
    if not event.startswith(_LINE):
        return b"", b"", event
    line, _, rest = event.partition(b"\n")
    room, _, mark = line[len(_LINE) :].partition(b" ")
    return room, mark, rest


class _Sheet:
    """What streams over the same rooms in the same order share: the stamping of the bytes that
    they were handed last, by where they stood before."""

    __slots__ = (
        "__weakref__",
        "_done",
        "_places",
        "_split",
        "after",
        "before",
        "frames",
        "stamped",
    )

    def __init__(self, rooms: Sequence[RoomId], split: _Splitter) -> None:
        self._split = split
        self._places = {room.encode(): place for place, room in enumerate(rooms)}
        self._done: dict[tuple[bytes, ...], tuple[tuple[bytes, ...], bytes]] = {}
        # The last that was asked for, so that whoever asks for the same need not look it up.
        self.frames = b""
        self.before: tuple[bytes, ...] = ()
        self.after: tuple[bytes, ...] = ()
        self.stamped = b""

    def stamp(self, marks: tuple[bytes, ...], frames: bytes) -> None:
        """Find the marks `after` these events, and the events with whole ids."""
        if frames is not self.frames:
            self.frames, self._done = frames, {}
        found = self._done.get(marks)
        if found is None:
            found = self._done[marks] = self._stamp(list(marks), frames)
        self.before = marks
        self.after, self.stamped = found

    def _stamp(self, marks: list[bytes], frames: bytes) -> tuple[tuple[bytes, ...], bytes]:
        places, events = self._places, []
        for room, mark, rest in self._split(frames):
            if room:
                marks[places[room]] = mark
                events.append(b"id: %b\n%b" % (b",".join(marks), rest))
            else:
                events.append(rest)
        return tuple(marks), END.join(events)


class Stamps:
    """Makes the stamps of all streams. One for all of them."""

    def __init__(self) -> None:
        self._split = _Splitter()
        self._sheets: WeakValueDictionary[tuple[RoomId, ...], _Sheet] = WeakValueDictionary()

    def stamp(self, rooms: Sequence[RoomId], marks: tuple[bytes, ...]) -> Callable[[bytes], bytes]:
        """For one stream over these rooms that begins at these marks."""
        key = tuple(rooms)
        sheet = self._sheets.get(key)
        if sheet is None:
            sheet = self._sheets[key] = _Sheet(key, self._split)
        return _Stamp(sheet, marks)


class _Stamp:
    """Events of one stream on their way out: whole ids in the place of single marks."""

    __slots__ = ("_marks", "_sheet")

    def __init__(self, sheet: _Sheet, marks: tuple[bytes, ...]) -> None:
        self._sheet = sheet
        self._marks = marks

    def __call__(self, frames: bytes) -> bytes:
        sheet = self._sheet
        if frames is not sheet.frames or self._marks is not sheet.before:
            sheet.stamp(self._marks, frames)
        self._marks = sheet.after
        return sheet.stamped
