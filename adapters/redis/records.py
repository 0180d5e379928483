"""What a message looks like in a room's log and on its feed.

    M1 <epoch> <term> <start> <previous> <seq> <id> <sender> <ts> <skip> <size>:<ttl>\\n<data>
    E1 <sender> <ts> <skip>\\n<data>

M is a numbered message, E an ephemeral one, and the digit the version of the format; records that
begin with anything else are somebody else's. `start` is the first seq of the term, `previous` the
term before it. `size` and `ttl` (ms) say what the log keeps since this message. Fields without a
value are empty; none has a space in it. No term has a dot; `ts` has one (seconds, up to nine
decimals). `data` is spliced as it is, on the way in and out.

publish.lua writes the fields up to the seq, `tail` here makes the rest.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from msgspec import Struct

from adapters.redis.link import pack_part
from domain.identifiers import RoomId, SessionId, UserId
from domain.message import Draft, Message
from domain.options import Retention

MESSAGE = b"M"
EPHEMERAL = b"E"
_VERSION = b"1"
MESSAGE_HEAD = MESSAGE + _VERSION
EPHEMERAL_HEAD = EPHEMERAL + _VERSION
_NOTHING = b"\n"  # what no record begins with

# Fields hold what may go into every member's frames as it is: ASCII that JSON does not escape.
_WORD = r"[!#-\[\]-~]"
_TERM = r"[!#-\-/-\[\]-~]"  # without a dot: behind the last one in a log's name stands the term
_TIME = r"([0-9]{1,15}\.[0-9]{1,9})"
_ORIGIN = re.compile(rf"({_WORD}+) ({_TERM}+) ([0-9]{{1,16}}) ({_TERM}*) ").fullmatch
_PLACED = re.compile(
    rf"([0-9]{{1,16}}) ({_WORD}+) ({_WORD}*) {_TIME} ({_WORD}*) ([0-9]{{1,16}}:[0-9]{{1,19}})"
).fullmatch
_WHISPERED = re.compile(rf"({_WORD}*) {_TIME} ({_WORD}*)").fullmatch


class UnreadableRecord(Exception):
    """Bytes that are no record of ours. `newer`: of a version that came after this one."""

    def __init__(self, why: str, *, newer: bool = False) -> None:
        super().__init__(why)
        self.newer = newer


class Record(Struct, frozen=True):
    """A message, and where in the history of its room it belongs. No tuple, as it is made for
    every message: that would take three times as long."""

    epoch: str
    term: str
    start: int
    previous: str
    keep: Retention
    message: Message


class Kept(NamedTuple):
    """A retention: as a field of a record, and in the words of Redis, also packed."""

    field: str
    size: bytes
    ttl: bytes  # ms
    packed: bytes


@lru_cache(1000)
def kept(keep: Retention) -> Kept:
    ttl = max(1, round(keep.ttl * 1000))
    words = b"%d" % keep.size, b"%d" % ttl
    return Kept(f"{keep.size}:{ttl}", *words, pack_part(*words))


@lru_cache(1000)
def _keep(field: str) -> Retention:
    size, ttl = field.split(":")
    return Retention(int(size), int(ttl) / 1000)


def tail(draft: Draft, message_id: str, ts: float, keep: Kept) -> bytes:
    """The end of a record, from the message id on."""
    head = f"{message_id} {draft.sender or ''} {ts:.3f} {draft.skip or ''} {keep.field}\n"
    return head.encode() + draft.data


class Decoder:
    """Reads the numbered messages of one room. The fields up to the seq are the same for all
    messages of a term, and read once."""

    __slots__ = ("_begin", "_epoch", "_log", "_previous", "_room", "_start", "_term")

    def __init__(self, room: RoomId) -> None:
        self._room = room
        self._begin = _NOTHING
        self._epoch = self._term = self._previous = self._log = ""
        self._start = 0

    def decode(self, payload: bytes) -> Record:
        """Raises UnreadableRecord for whatever else there is."""
        if not payload.startswith(self._begin):
            self._read_origin(payload)
        head, _, data = payload[len(self._begin) :].partition(b"\n")
        seq_, id_, sender, ts, skip, keep = _fields(_PLACED, head, data)
        seq, start = int(seq_), self._start
        if seq < start:
            raise UnreadableRecord("it is from before its term")
        message = Message(
            self._room,
            seq,
            id_,
            UserId(sender) if sender else None,
            data,
            float(ts),
            self._log,
            seq == start,
            SessionId(skip) if skip else None,
        )
        return Record(self._epoch, self._term, start, self._previous, _keep(keep), message)

    def _read_origin(self, payload: bytes) -> None:
        fields = _after_kind(payload, MESSAGE_HEAD)
        origin = b" ".join(fields.partition(b"\n")[0].split(b" ", 4)[:-1]) + b" "
        epoch, term, start, previous = _fields(_ORIGIN, origin, b"-")
        if not int(start):
            raise UnreadableRecord("a term begins with the first message or later")
        self._begin = payload[: len(payload) - len(fields) + len(origin)]
        self._epoch, self._term, self._start, self._previous = epoch, term, int(start), previous
        self._log = f"{epoch}.{term}"


def encode_ephemeral(draft: Draft, ts: float) -> bytes:
    head = f" {draft.sender or ''} {ts:.3f} {draft.skip or ''}\n"
    return EPHEMERAL_HEAD + head.encode() + draft.data


def decode_ephemeral(payload: bytes, room: RoomId, log: str) -> Message:
    """Read an ephemeral message into the log that is current. Raises UnreadableRecord."""
    head, _, data = _after_kind(payload, EPHEMERAL_HEAD).partition(b"\n")
    sender, ts, skip = _fields(_WHISPERED, head, data)
    user = UserId(sender) if sender else None
    session = SessionId(skip) if skip else None
    return Message(room, 0, "", user, data, float(ts), log, False, session)


def _after_kind(payload: bytes, expected: bytes) -> bytes:
    kind, _, rest = payload.partition(b" ")
    if kind != expected:
        version = kind[1:20]
        newer = kind[:1] == expected[:1] and version.isdigit() and int(version) > int(_VERSION)
        raise UnreadableRecord(f"of the kind {kind[:20]!r}", newer=newer)
    return rest


def _fields(form: Callable[[str], re.Match[str] | None], head: bytes, data: bytes) -> Sequence[str]:
    """The fields of a header, and data that may stand in a frame: one line of UTF-8 (a line ends
    with either of two characters in an event stream)."""
    if not data or b"\n" in data or b"\r" in data:
        raise UnreadableRecord("data is not one line")
    try:
        if not data.isascii():
            data.decode()
        found = form(head.decode("ascii"))
    except UnicodeDecodeError:
        raise UnreadableRecord("it is not the text it should be") from None
    if found is None:
        raise UnreadableRecord("the header has another form")
    return found.groups()
