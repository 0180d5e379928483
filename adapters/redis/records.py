"""What a message looks like in a room's log and on its feed.

    M1 <epoch> <term> <start> <previous> <seq> <id> <sender> <ts> <skip> <size>:<ttl>\\n<data>
    E1 <sender> <ts> <skip>\\n<data>

M is a numbered message, E an ephemeral one, and the digit the version of the format; records that
begin with anything else are somebody else's. `start` is the first seq of the term, `previous` the
term before it. `size` and `ttl` (ms) say what the log keeps since this message. Fields without a
value are empty; none has a space in it. `data` is spliced as it is, on the way in and out.

publish.lua writes the fields up to the seq, `tail` here makes the rest.
"""

from functools import lru_cache
from math import isfinite
from typing import NamedTuple

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


class UnreadableRecord(Exception):
    """Bytes that are no record of ours. `newer`: of a version that came after this one."""

    def __init__(self, why: str, *, newer: bool = False) -> None:
        super().__init__(why)
        self.newer = newer


class Record(NamedTuple):
    """A message, and where in the history of its room it belongs."""

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
    return Retention(_number(size), _number(ttl) / 1000)


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
        try:
            if not payload.startswith(self._begin):
                self._read_term(payload)
            head, _, data = payload[len(self._begin) :].partition(b"\n")
            number, id_, sender, ts, skip, keep = _text(head, data).split(" ")
            seq, start = _number(number), self._start
            if not id_ or seq < start:
                raise ValueError("an id or a number is none")
            message = Message(
                self._room,
                seq,
                id_,
                UserId(sender) if sender else None,
                data,
                _seconds(ts),
                self._log,
                seq == start,
                SessionId(skip) if skip else None,
            )
            return Record(self._epoch, self._term, start, self._previous, _keep(keep), message)
        except ValueError as error:
            raise UnreadableRecord(str(error)) from None

    def _read_term(self, payload: bytes) -> None:
        _check_kind(payload, MESSAGE_HEAD)
        words = payload.partition(b"\n")[0].split(b" ", 5)[:-1]
        _, epoch, term, number, previous = _text(b" ".join(words), b"-").split(" ")
        start = _number(number)
        if not (epoch and term and start):
            raise ValueError("a field is missing")
        self._begin = b"%b " % b" ".join(words)
        self._epoch, self._term, self._start, self._previous = epoch, term, start, previous
        self._log = f"{epoch}.{term}"


def encode_ephemeral(draft: Draft, ts: float) -> bytes:
    head = f" {draft.sender or ''} {ts:.3f} {draft.skip or ''}\n"
    return EPHEMERAL_HEAD + head.encode() + draft.data


def decode_ephemeral(payload: bytes, room: RoomId, log: str) -> Message:
    """Read an ephemeral message into the log that is current. Raises UnreadableRecord."""
    try:
        _check_kind(payload, EPHEMERAL_HEAD)
        head, _, data = payload.partition(b"\n")
        _, sender, ts, skip = _text(head, data).split(" ")
        user = UserId(sender) if sender else None
        session = SessionId(skip) if skip else None
        return Message(room, 0, "", user, data, _seconds(ts), log, False, session)
    except ValueError as error:
        raise UnreadableRecord(str(error)) from None


def _check_kind(payload: bytes, expected: bytes) -> None:
    kind = payload.partition(b" ")[0][:20]
    if kind != expected:
        version = kind[1:]
        newer = kind[:1] == expected[:1] and version.isdigit() and int(version) > int(_VERSION)
        raise UnreadableRecord(f"of the kind {kind!r}", newer=newer)


def _text(head: bytes, data: bytes) -> str:
    """The header, if it is one that may go with this data into every member's frames: one line of
    UTF-8 the one (a line ends with either of two characters in an event stream), and nothing that
    JSON would escape in the other."""
    if not data or b"\n" in data or b"\r" in data:
        raise ValueError("data is not one line")
    if not data.isascii():
        data.decode()
    text = head.decode("ascii")
    if '"' in text or "\\" in text or not text.isprintable():
        raise ValueError("the header holds what no name may")
    return text


def _number(text: str) -> int:
    if not text.isdigit():
        raise ValueError(f"{text[:20]!r} is no number")
    return int(text)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not isfinite(seconds):
        raise ValueError(f"{text[:20]!r} is no time")
    return seconds
