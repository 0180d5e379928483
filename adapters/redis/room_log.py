"""Rooms' logs as they are in Redis."""

import logging
import math
import secrets
from collections.abc import Sequence
from typing import Any

from adapters.redis.keyspace import Keyspace
from adapters.redis.records import Decoder, Record, UnreadableRecord, kept
from adapters.redis.replica import LogView
from adapters.redis.store import Script, Store
from adapters.redis.terms import Terms
from application.ports.metrics import Metrics
from domain.errors import OutcomeUnknown, Unavailable
from domain.identifiers import RoomId
from domain.lineage import Lineage
from domain.options import Retention
from domain.position import Position
from domain.timeline import MAX_PAGE_BYTES, MAX_PAGE_MESSAGES, Page, PageRequest, fit

NEWEST = 128  # messages a node holds of a room until somebody needs more
_END = 10**14  # above every seq

logger = logging.getLogger("hubbub.redis")

_Entries = list[tuple[int, bytes]]


class RoomLog:
    """Reads logs, each answer one atomic look. All methods raise Unavailable."""

    def __init__(self, store: Store, keyspace: Keyspace, terms: Terms, metrics: Metrics) -> None:
        self._store = store
        self._keyspace = keyspace
        self._terms = terms
        self._metrics = metrics
        self._script = Script("read")

    async def newest(self, room: RoomId, keep: Retention) -> LogView:
        """The end of a log. Makes the room if there is none."""
        return _made(await self._view(room, "down", _END, NEWEST, keep))

    async def after(self, room: RoomId, seq: int, keep: Retention) -> LogView:
        """A page of what follows a seq. Makes the room if there is none."""
        return _made(await self._view(room, "up", seq, MAX_PAGE_MESSAGES, keep))

    async def before(self, room: RoomId, seq: int) -> LogView | None:
        """A page of what lies before a seq; None if the room is not there."""
        return await self._view(room, "down", seq, MAX_PAGE_MESSAGES, None)

    async def page(self, room: RoomId, request: PageRequest) -> Page:
        """A page of history. A room that is not there has an empty log of its own."""
        limit = max(0, min(request.limit, MAX_PAGE_MESSAGES))
        if request.after is not None:
            way, at = "up", max(0, request.after)
        else:
            way, at = "down", _END if request.before is None else min(request.before, _END)
        decoder = Decoder(room)
        while True:
            reply = await self._read(room, way, at, limit, None)
            if not reply:
                return Page(Position(secrets.token_hex(16), 0, "0").log, [], False)
            view, entries = self._parse(reply, room)
            log = Position(view.epoch, 0, view.lineage.current[0]).log
            if request.log is not None and request.log != log:
                return Page(log, [], False)
            read = [self._decode(decoder, room, entry, view) for entry in entries]
            found = [record.message for record in read if record is not None]
            messages, more = fit(found, limit, request.max_bytes)
            if entries:
                at = entries[-1][0]
                more = more or (at < view.top if way == "up" else at > view.floor + 1)
            if messages or not more:
                break  # else nobody could go on from a page of what cannot be read
        if way == "down":
            messages.reverse()
        return Page(log, messages, more)

    async def _view(
        self, room: RoomId, way: str, at: int, count: int, keep: Retention | None
    ) -> LogView | None:
        """What is missing or cannot be read ends the log: a hole must not look like none."""
        reply = await self._read(room, way, at, count, keep)
        if not reply:
            return None
        view, entries = self._parse(reply, room)
        if way == "up":
            entries.reverse()
        records, floor, decoder = list[Record](), view.floor, Decoder(room)
        seq = view.top if at == _END else entries[0][0] if entries else 0
        for entry in entries:
            record = self._decode(decoder, room, entry, view) if entry[0] == seq else None
            if record is None:
                floor = max(floor, seq)
                break
            records.append(record)
            seq -= 1
        records.reverse()
        return view._replace(records=records, floor=floor)

    async def _read(
        self, room: RoomId, way: str, at: int, count: int, keep: Retention | None
    ) -> Sequence[Any]:
        """With `keep`, for somebody who enters the room."""
        await self._terms.wait()
        keys = self._keyspace.room(room)
        entering = ("", "") if keep is None else (secrets.token_hex(16), kept(keep).ttl)
        arguments = (way, at, count, MAX_PAGE_BYTES, *entering, self._terms.made_up)
        try:
            reply = await self._store.run_script(self._script, [keys.meta, keys.log], arguments)
        except OutcomeUnknown as error:  # whether it was read or not: nobody has the answer
            raise Unavailable(error.message) from None
        if not isinstance(reply, list):
            raise Unavailable("the store answers with something else")
        return reply

    def _parse(self, reply: Sequence[Any], room: RoomId) -> tuple[LogView, _Entries]:
        try:
            epoch, top, lineage, floor, left, found = reply
            terms = [_term(entry) for entry in lineage.decode().split(",")]
            entries = list(zip(map(int, found[::2]), found[1::2], strict=True))
        except (ValueError, TypeError, AttributeError) as error:
            logger.error("the log of room %s is damaged: %s", room, error)
            raise Unavailable("the log of this room is damaged") from None
        expires_in = left / 1000 if left >= 0 else 0.0 if left == _NO_LOG else math.inf
        return LogView(epoch.decode(), Lineage(terms), top, floor, expires_in, ()), entries

    def _decode(
        self, decoder: Decoder, room: RoomId, entry: tuple[int, bytes], view: LogView
    ) -> Record | None:
        seq, payload = entry
        try:
            record = decoder.decode(payload)
            if (record.epoch, record.message.seq) != (view.epoch, seq):
                raise UnreadableRecord(f"of seq {record.message.seq} at {seq}")
        except UnreadableRecord as error:
            note_unreadable(error, room, self._metrics)
            return None
        return record


_NO_LOG = -2  # what PTTL says of a key that is not there


def note_unreadable(error: UnreadableRecord, room: RoomId, metrics: Metrics) -> None:
    """Count and log a record that cannot be read, wherever it was found."""
    kind = "newer" if error.newer else "junk"
    metrics.count("unreadable_records", label=kind)
    logger.error("room %s: a record cannot be read (%s): %s", room, kind, error)


def _term(entry: str) -> tuple[str, int]:
    term, start = entry.rsplit(":", 1)
    return term, int(start)


def _made(view: LogView | None) -> LogView:
    if view is None:
        raise Unavailable("the room was not made")
    return view
