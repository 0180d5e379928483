"""What the presence scripts say: records on a room's feed, and pages of its users.

The shapes are described at the top of scripts/presence_room.lua and scripts/presence_read.lua.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from domain.errors import BadName
from domain.identifiers import UserId, user_id

CAME, WENT, SEATED = b"J", b"L", b"S"

_FORMAT = b"P1"
_PARTS = 9
_MAX_DIGITS = 18
_SEAT = re.compile(rb"([^:,]+):(\d+)")


class BadRecord(Exception):
    """Not something our scripts wrote, or written by a later version."""


class Record(NamedTuple):
    """One thing told on a feed. `users` (how many) and `version` are those after it."""

    life: bytes
    revision: int
    version: int
    kind: bytes
    users: int
    sessions: int
    user: UserId
    info: bytes


class Entry(NamedTuple):
    """One user in a room; `seats` are sessions by node, empty in grace."""

    user: UserId
    info: bytes
    sessions: int
    seats: dict[str, int]


class Page(NamedTuple):
    """Some of a room's users, all of them as they were at `revision`. `cursor` is "0" after the
    last page; `life` is empty where Redis knows nothing of the room."""

    life: bytes
    revision: int
    version: int
    users: int
    cursor: str
    entries: list[Entry]


class Said(NamedTuple):
    """What came of saying how many sessions a node holds: a word of scripts/presence_seat.lua."""

    happened: bytes
    life: bytes
    revision: int
    version: int


def decode(payload: bytes) -> Record:
    """Raises BadRecord."""
    parts = payload.split(b" ", _PARTS - 1)
    if len(parts) != _PARTS or parts[0] != _FORMAT:
        raise BadRecord(f"not a presence record: {payload[:64]!r}")
    _, life, revision, version, kind, count, sessions, user, info = parts
    if kind not in {CAME, WENT, SEATED}:
        raise BadRecord(f"unknown kind of record: {kind!r}")
    try:
        return Record(
            life,
            _number(revision),
            _number(version),
            kind,
            _number(count),
            _number(sessions),
            _user(user),
            _shown(info),
        )
    except ValueError as error:
        raise BadRecord(f"not a presence record: {payload[:64]!r}") from error


def decode_page(reply: Sequence[Any]) -> Page:
    """Raises BadRecord."""
    try:
        life, revision, version, count, cursor, flat = reply
        entries = [_entry(flat[at], flat[at + 1]) for at in range(0, len(flat), 2)]
        return Page(life, revision, version, count, cursor.decode(), entries)
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise BadRecord("not a page of users") from error


def _number(text: bytes) -> int:
    if not text.isdigit() or len(text) > _MAX_DIGITS:
        raise ValueError("no number")
    return int(text)


def _user(name: bytes) -> UserId:
    """A name that may be spliced into frames."""
    try:
        return user_id(name.decode("ascii"))
    except BadName:
        raise ValueError("no name of a user") from None


def _shown(info: bytes) -> bytes:
    """JSON that may be spliced into frames: on one line, and no more than JSON."""
    if b"\n" in info or b"\r" in info:
        raise ValueError("info is not one line")
    try:
        msgspec.json.decode(info)
    except RecursionError:
        raise ValueError("info is nested too deeply") from None
    return info


def _entry(user: bytes, record: bytes) -> Entry:
    seats, bar, info = record.partition(b"|")
    if not bar:
        raise ValueError("a record without seats and info")
    held = {name.decode("ascii"): int(sessions) for name, sessions in _SEAT.findall(seats)}
    return Entry(_user(user), _shown(info), sum(held.values()), held)
