"""Drafts on their way into a room's log. The hot path: synchronous, nothing waits."""

import itertools
import secrets
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

from adapters.redis.calls import Call, Copied
from adapters.redis.feeds import Feeds
from adapters.redis.keyspace import CACHED_ROOMS, Keyspace, RoomKeys
from adapters.redis.link import Word, pack_part
from adapters.redis.records import Kept, encode_ephemeral, kept, tail
from adapters.redis.store import Script, Store
from adapters.redis.terms import Terms
from application.ports.broadcasting import Published, Receipt
from application.ports.metrics import Metrics
from domain.errors import Failure, HubbubError, KeyConflict, OutcomeUnknown, Unavailable
from domain.identifiers import RoomId
from domain.message import Draft
from domain.options import Retention
from domain.position import Position


class _Way(NamedTuple):
    """What the drafts of one room have in common. `begin` is the command that nearly all of them
    are sent in, up to what is said; `kept.packed` comes after that."""

    names: RoomKeys
    keys: Sequence[str]
    kept: Kept
    begin: bytes


class Publisher:
    """Submits drafts to publish.lua and reads its answers."""

    def __init__(
        self,
        store: Store,
        keyspace: Keyspace,
        feeds: Feeds,
        terms: Terms,
        metrics: Metrics,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.script = Script("publish")
        self.feeds = feeds
        self.terms = terms
        self.command = store.publish_command
        self._store = store
        self._room = keyspace.room
        self._metrics = metrics
        self._wall = wall
        # publish.lua goes by the form of ids, and by their order: see there.
        self._id_prefix = secrets.token_urlsafe(9)
        self._ids = itertools.count(1)
        self._way = lru_cache(CACHED_ROOMS)(self._new_way)

    def submit(self, draft: Draft, keep: Retention, receipt: Receipt) -> None:
        """See `Broker.submit`."""
        if draft.ephemeral:
            self._whisper(draft, receipt)
            return
        message_id = f"{self._id_prefix}{next(self._ids):x}"
        way, ts = self._way(draft.room, keep), self._wall()
        submission = _Submission(self, way, draft, message_id, ts, receipt)
        submission.copied = self._store.copies
        self._store.accept(submission)

    def _new_way(self, room: RoomId, keep: Retention) -> _Way:
        names = self._room(room)
        keys = (names.meta, names.log)
        words = (b"EVALSHA", self.script.sha, len(keys), *keys, self.command, names.feed)
        begin = b"*%d\r\n%b" % (len(words) + 3, pack_part(*words))
        return _Way(names, keys, kept(keep), begin)

    def _whisper(self, draft: Draft, receipt: Receipt) -> None:
        feed = self._room(draft.room).feed
        payload = encode_ephemeral(draft, self._wall())
        if self._store.send_command(feed, (self.command, feed, payload)):
            receipt(Published(None, ""))
        else:
            self.failed(Unavailable("the store cannot be reached"), receipt)

    def failed(self, error: HubbubError, receipt: Receipt) -> None:
        """Tell somebody that nothing came of it."""
        if isinstance(error, Failure):  # not a refusal, which is the publisher's own doing
            self._metrics.count("publish_failures", label=error.code)
        receipt(error)


class _Submission(Call):
    """One numbered draft, until its publisher has been told what became of it."""

    ordered = True

    def __init__(
        self,
        publisher: Publisher,
        way: _Way,
        draft: Draft,
        message_id: str,
        ts: float,
        receipt: Receipt,
    ) -> None:
        super().__init__(publisher.script, way.keys)
        self._publisher = publisher
        self._way = way
        self._draft = draft
        self._id = message_id
        self._receipt = receipt
        self._said = said = tail(draft, message_id, ts, way.kept)
        if draft.key is not None:
            self.keys = (*way.keys, way.names.publish_key(draft.principal, draft.key))
        elif not publisher.terms.made_up:
            self.packed = b"%b$%d\r\n%b\r\n%b" % (way.begin, len(said), said, way.kept.packed)
        self._feed = feed = publisher.feeds.find(draft.room)
        # What is numbered from here on is above this. Of a room that nobody listens to here
        # nothing is known, and then it may be anywhere in the log.
        timeline = None if feed is None else feed.timeline
        self._known: Sequence[Word] = ("", 0, "")
        if timeline is not None:
            self._known = (timeline.epoch, timeline.top, timeline.term)

    def arguments(self) -> Sequence[Word]:
        names, _, keeping, _ = self._way
        words = (self._publisher.command, names.feed, self._said, keeping.size, keeping.ttl)
        term, draft = self._publisher.terms.made_up, self._draft
        if not (self.attempt or term) and draft.key is None:
            return words
        digest = "" if draft.key is None else blake2b(draft.data, digest_size=16).hexdigest()
        return (*words, term, digest, *(self._known if self.attempt else ()))

    def done(self, outcome: Any) -> None:
        enough = None  # replicas have what the connection wrote; None where it does not matter
        if type(outcome) is Copied:
            outcome, enough = outcome
        told = self._read(outcome, enough)
        if isinstance(told, HubbubError):
            self._publisher.failed(told, self._receipt)
            return
        if self._feed is not None and told.position is not None:
            self._feed.acknowledged(told.position)
        self._receipt(told)

    def _read(self, outcome: Any, enough: bool | None) -> Published | HubbubError:
        if isinstance(outcome, HubbubError):
            return outcome
        if outcome[0] == b"OK":
            _, epoch, term, seq = outcome
            place = Position(epoch.decode("latin-1"), seq, term.decode("latin-1"))
            return Published(place, self._id, replicated=enough)
        if outcome[0] == b"USED":
            _, epoch, term, seq, found, *written = outcome
            place = Position(epoch.decode("latin-1"), seq, term.decode("latin-1"))
            # One's own id is a first attempt that nobody had heard of.
            first = found.decode("latin-1")
            # What another connection wrote is behind what this one wrote just now, if it did.
            return Published(place, first, first != self._id, enough and bool(written))
        if outcome[0] == b"CONFLICT":
            return KeyConflict(f"key {self._draft.key} was used for other data")
        return OutcomeUnknown("it cannot be found out whether this was published")
