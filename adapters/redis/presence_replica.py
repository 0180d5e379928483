"""What this node knows of the users of one room: exactly what its listener was told.

Pure and synchronous. A replica is loaded from pages of Redis and then kept up by the room's feed,
whose records are numbered without a hole (`revision`). Pages of a large room are not of one moment;
what the feed said meanwhile makes them so.
"""

from bisect import bisect_left, insort
from collections.abc import Container, Iterator

from adapters.redis.presence_records import SEATED, WENT, Page, Record
from domain.identifiers import RoomId, UserId
from domain.member import ChangeKind, Member, PresenceChange, Snapshot

_MAX_HEARD = 50_000  # records kept while loading; beyond them it is begun again


class Gap(Exception):
    """What was heard does not continue what is known; the room must be read again."""


class Loading:
    """Pages that arrived so far, and what the feed said since the reading began."""

    __slots__ = ("_first", "_heard", "_last", "_members", "_seen", "begun")

    def __init__(self, begun: float = 0.0) -> None:
        self.begun = begun  # seconds, for whoever wonders how long it takes
        self._heard: list[Record] = []
        self._members: dict[UserId, Member] = {}
        self._seen: dict[UserId, int] = {}  # at which revision a page showed the user
        self._first: Page | None = None
        self._last: Page | None = None

    def hear(self, record: Record) -> None:
        """Keep a record of the feed. Raises Gap when there are too many."""
        if len(self._heard) >= _MAX_HEARD:
            raise Gap("too much happened while the room was read")
        self._heard.append(record)

    def add(self, page: Page) -> None:
        """Take the next page. Raises Gap when it is not of the same life as those before."""
        last = self._last
        if last is None:
            self._first = page
        elif page.life != last.life or page.revision < last.revision:
            raise Gap("the room began anew while it was read")
        self._last = page
        for user, info, sessions, _ in page.entries:
            self._members[user] = Member(user, info, sessions)
            self._seen[user] = page.revision

    @property
    def seen(self) -> Container[UserId]:
        """Users that the pages showed."""
        return self._seen

    def finish(self) -> "Loaded | None":
        """The room at one moment, or None until the feed has come as far as the last page.

        Raises Gap when the feed has a hole.
        """
        first, last = self._first, self._last
        if first is None or last is None or last.cursor != "0":
            return None
        merged, later = self._split(first, last)
        if merged and merged[-1].revision < last.revision:
            return None
        if not merged and first.revision < last.revision:
            return None
        members = dict(self._members)
        for record in merged:
            if self._seen.get(record.user, 0) < record.revision:
                if record.kind == WENT:
                    members.pop(record.user, None)
                else:
                    members[record.user] = Member(record.user, record.info, record.sessions)
        return Loaded(last, members, merged, later)

    def _split(self, first: Page, last: Page) -> tuple[list[Record], list[Record]]:
        """What was heard since the first page, up to the last one and after it."""
        merged: list[Record] = []
        later: list[Record] = []
        life, revision = first.life, first.revision
        for record in self._heard:
            if record.life == life and record.revision <= revision:
                continue  # the pages show it
            if record.revision != revision + 1 or not _continues(life, record):
                raise Gap("the feed does not continue what was read")
            life, revision = record.life, record.revision
            (merged if revision <= last.revision else later).append(record)
        return merged, later


class Loaded:
    """A whole room as it was at the revision of its last page."""

    __slots__ = ("later", "life", "members", "merged", "revision", "version")

    def __init__(
        self,
        last: Page,
        members: dict[UserId, Member],
        merged: list[Record],
        later: list[Record],
    ) -> None:
        self.life, self.revision, self.version = last.life, last.revision, last.version
        self.members = members
        self.merged = merged  # what happened while it was read, in order
        self.later = later  # what happened since


class Replica:
    """The users of one room as told so far. Not to be used before the first `adopt`."""

    __slots__ = ("_listed", "_order", "life", "loaded", "members", "revision", "room", "version")

    def __init__(self, room: RoomId) -> None:
        self.room = room
        self.life = b""
        self.revision = 0
        self.version = 0
        self.loaded = False
        self.members: dict[UserId, Member] = {}
        self._order: list[UserId] | None = None  # names in order, once somebody wanted a list
        self._listed: tuple[Member, ...] | None = None  # until something changes

    def continues(self, loaded: Loaded) -> bool:
        """Whether it is a later state of the same life, not one that Redis fell back to."""
        if not self.life or not self.loaded:
            return True
        return loaded.life == self.life and loaded.revision >= self.revision

    def can_tell(self, loaded: Loaded) -> bool:
        """Whether who was told of this so far knows of what was read once `adopt` tells it.

        All of it is told with one version, and who listens takes a change with the next version,
        asks when one is missing, and takes no other for news. After Redis lost something, two
        histories may have come to the same version or nearly so.
        """
        if not self.loaded:
            return True
        ahead = loaded.version - self.version
        return ahead > 1 or len(self.members.keys() ^ loaded.members.keys()) <= ahead

    def adopt(self, loaded: Loaded) -> Iterator[PresenceChange]:
        """Become what was read; yields what that changes for who listens.

        Reading for the first time changes nothing for anybody but what happened meanwhile.
        """
        before, first = self.members, not self.loaded
        self.life, self.revision, self.version = loaded.life, loaded.revision, loaded.version
        self.members, self.loaded = loaded.members, True
        self._order = self._listed = None
        if first:
            yield from (_change(self.room, r) for r in loaded.merged if r.kind != SEATED)
        else:
            yield from self._difference(before)
        for record in loaded.later:
            change = self.apply(record)
            if change is not None:
                yield change

    def apply(self, record: Record) -> PresenceChange | None:
        """Follow one record of the feed. Returns what it changes for who listens; raises Gap."""
        if record.revision != self.revision + 1 or record.life != self.life:
            if record.life == self.life and record.revision <= self.revision:
                return None  # the pages showed it
            if record.revision != self.revision + 1 or not _continues(self.life, record):
                raise Gap("the feed does not continue what is known")
        if record.kind == SEATED and record.user not in self.members:
            # Put back by another node after Redis lost something. Told with the version there is
            # already, it would be no news to who goes by versions: see `can_tell`.
            raise Gap("somebody is there who never came")
        self.life = record.life
        self.revision, self.version = record.revision, record.version
        self._listed = None
        if record.kind == WENT:
            if not self._remove(record.user):
                return None
        elif self._put(Member(record.user, record.info, record.sessions)):
            return None
        return _change(self.room, record)

    def snapshot(self, list_limit: int | None = None) -> Snapshot:
        """Everybody, ordered by name; no list when there are more than `list_limit`."""
        count = len(self.members)
        if list_limit is not None and count > list_limit:
            return Snapshot(None, count, self.version)
        if self._listed is None:
            if self._order is None:
                self._order = sorted(self.members)
            self._listed = tuple(map(self.members.__getitem__, self._order))
        return Snapshot(self._listed, count, self.version)

    def _difference(self, before: dict[UserId, Member]) -> Iterator[PresenceChange]:
        count, version = len(self.members), self.version
        for users, others, kind in (
            (before, self.members, ChangeKind.LEAVE),
            (self.members, before, ChangeKind.JOIN),
        ):
            for user, member in list(users.items()):
                if user not in others:
                    yield PresenceChange(kind, self.room, user, member.info, count, version)

    def _put(self, member: Member) -> bool:
        """Returns whether the user was there before."""
        user = member.user
        known = user in self.members
        self.members[user] = member
        if not known and self._order is not None:
            insort(self._order, user)
        return known

    def _remove(self, user: UserId) -> bool:
        if self.members.pop(user, None) is None:
            return False
        if self._order is not None:
            del self._order[bisect_left(self._order, user)]
        return True


def _continues(life: bytes, record: Record) -> bool:
    """Whether a record may follow on what is known of `life`: the first one begins a life."""
    return record.life == life or (not life and record.revision == 1)


def _change(room: RoomId, record: Record) -> PresenceChange:
    kind = ChangeKind.LEAVE if record.kind == WENT else ChangeKind.JOIN
    return PresenceChange(kind, room, record.user, record.info, record.users, record.version)
