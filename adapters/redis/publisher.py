"""Drafts on their way into a room's log. The hot path: synchronous, nothing waits."""

import itertools
import secrets
import time
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from adapters.redis.calls import Copied
from adapters.redis.feeds import Feeds
from adapters.redis.keyspace import CACHED_ROOMS, Keyspace
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
        self._store = store
        self._room = keyspace.room
        self._feeds = feeds
        self._terms = terms
        self._metrics = metrics
        self._wall = wall
        self._script = Script("publish")
        # publish.lua goes by the form of ids, and by their order: see there.
        self._id_prefix = secrets.token_urlsafe(9)
        self._ids = itertools.count(1)
        self._command = store.publish_command
        self._beginning = lru_cache(CACHED_ROOMS)(self._begin)

    def submit(self, draft: Draft, keep: Retention, receipt: Receipt) -> None:
        """See `Broker.submit`."""
        if draft.ephemeral:
            self._whisper(draft, receipt)
            return
        names, keeping = self._room(draft.room), kept(keep)
        message_id = f"{self._id_prefix}{next(self._ids):x}"
        said = tail(draft, message_id, self._wall(), keeping)
        words: tuple[Word, ...] = (self._command, names.feed, said, keeping.size, keeping.ttl)
        keys, digest, packed = [names.meta, names.log], "", b""
        if draft.key is not None:
            keys.append(names.publish_key(draft.principal, draft.key))
            digest = blake2b(draft.data, digest_size=16).hexdigest()
        elif not self._terms.made_up:
            packed = self._packed(draft.room, said, keeping)
        feed = self._feeds.find(draft.room)
        # What is numbered from here on is above this. Of a room that nobody listens to here
        # nothing is known, and then it may be anywhere in the log.
        timeline = None if feed is None else feed.timeline
        known = ("", 0, "") if timeline is None else (timeline.epoch, timeline.top, timeline.term)

        def arguments(attempt: int) -> tuple[Word, ...]:
            if attempt:
                return (*words, self._terms.made_up, digest, *known)
            if digest or self._terms.made_up:
                return (*words, self._terms.made_up, digest)
            return words

        def done(reply: Any) -> None:
            enough = None
            if type(reply) is Copied:
                reply, enough = reply
            outcome = _outcome(reply, message_id, draft, enough)
            if isinstance(outcome, HubbubError):
                self._failed(outcome, receipt)
                return
            if feed is not None and outcome.position is not None:
                feed.acknowledged(outcome.position)
            receipt(outcome)

        self._store.submit(self._script, keys, arguments, done, copied=True, packed=packed)

    def _packed(self, room: RoomId, said: bytes, keeping: Kept) -> bytes:
        """What nearly every draft is sent as: only what is said differs from the last one."""
        return b"%b$%d\r\n%b\r\n%b" % (self._beginning(room), len(said), said, keeping.packed)

    def _begin(self, room: RoomId) -> bytes:
        """The same up to what is said."""
        names = self._room(room)
        keys = (names.meta, names.log)
        words = (b"EVALSHA", self._script.sha, len(keys), *keys, self._command, names.feed)
        return b"*%d\r\n%b" % (len(words) + 3, pack_part(*words))

    def _whisper(self, draft: Draft, receipt: Receipt) -> None:
        feed = self._room(draft.room).feed
        payload = encode_ephemeral(draft, self._wall())
        if self._store.send_command(feed, (self._command, feed, payload)):
            receipt(Published(None, ""))
        else:
            self._failed(Unavailable("the store cannot be reached"), receipt)

    def _failed(self, error: HubbubError, receipt: Receipt) -> None:
        if isinstance(error, Failure):  # not a refusal, which is the publisher's own doing
            self._metrics.count("publish_failures", label=error.code)
        receipt(error)


def _outcome(
    reply: Any, message_id: str, draft: Draft, enough: bool | None
) -> Published | HubbubError:
    """`enough` replicas have what the connection wrote; None where it does not matter."""
    if isinstance(reply, HubbubError):
        return reply
    if reply[0] == b"OK":
        _, epoch, term, seq = reply
        place = Position(epoch.decode("latin-1"), seq, term.decode("latin-1"))
        return Published(place, message_id, replicated=enough)
    if reply[0] == b"USED":
        _, epoch, term, seq, found, *written = reply
        place = Position(epoch.decode("latin-1"), seq, term.decode("latin-1"))
        # One's own id is a first attempt that nobody had heard of.
        first = found.decode("latin-1")
        # What another connection wrote is behind what this one wrote just now, if it did.
        return Published(place, first, first != message_id, enough and bool(written))
    if reply[0] == b"CONFLICT":
        return KeyConflict(f"key {draft.key} was used for other data")
    return OutcomeUnknown("it cannot be found out whether this was published")
