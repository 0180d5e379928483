"""Fan-out on this node: which sessions are in which rooms, and frames from brokers to them.

The hot path is `deliver` → `flush`. Its rules:
- a frame is encoded once per dialect, and the same bytes go to every member who speaks it;
- nothing is awaited, created or looked up per recipient;
- frames of one loop turn are joined once per group, and each member gets them in one push;
- before a member enters or leaves a group, the group is flushed: a member sees exactly the
  messages delivered between its entry and its exit.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from application.live_room import Group, LiveRoom
from application.ports.broadcasting import Broker, BrokerListener
from application.ports.metrics import Metrics
from application.ports.presence import Presence, PresenceListener
from application.session import Membership, Session
from domain.catchup import CatchUp, clip
from domain.errors import HubbubError
from domain.identifiers import RoomId, SessionId, UserId
from domain.member import PresenceChange
from domain.message import Message
from domain.options import RoomOptions
from domain.position import Position
from domain.room import Room
from domain.timeline import Outcome, Recovery, Replay, Timeline

logger = logging.getLogger("hubbub.hub")

SUMMARY_INTERVAL = 1.0  # seconds between two counts of a crowded room, at least


class Hub(BrokerListener, PresenceListener):
    """All rooms with members on this node. Single-threaded, on one event loop."""

    def __init__(self, broker: Broker, presence: Presence, metrics: Metrics) -> None:
        self._broker = broker
        self._presence = presence
        self._metrics = metrics
        self._rooms: dict[RoomId, LiveRoom] = {}
        self._dirty: list[Group] = []
        self.sessions: dict[SessionId, Session] = {}
        self._users: Counter[UserId] = Counter()
        metrics.gauge("sessions", lambda: len(self.sessions))
        metrics.gauge("rooms", lambda: len(self._rooms))

    # Sessions

    def register(self, session: Session) -> None:
        self.sessions[session.id] = session
        self._users[session.identity.user] += 1

    def forget(self, session: Session) -> None:
        del self.sessions[session.id]
        user = session.identity.user
        self._users[user] -= 1
        if not self._users[user]:
            del self._users[user]

    def sessions_of(self, user: UserId) -> int:
        """How many sessions a user has on this node."""
        return self._users[user]

    # Rooms

    def find(self, room: RoomId) -> LiveRoom | None:
        return self._rooms.get(room)

    async def hold(self, room: RoomId, options: RoomOptions) -> LiveRoom:
        """Make a room live and keep it so until `release`. Raises Unavailable."""
        live = self._rooms.get(room)
        if live is None:
            live = self._rooms[room] = LiveRoom(Room(room, options))
        live.holds += 1
        try:
            # Whoever opens the room may be cancelled; then the next of those who wait takes over.
            while not live.open:
                if live.opening is None:
                    await self._open(live)
                else:
                    await asyncio.shield(live.opening)
        except BaseException:
            self.release(live)
            raise
        return live

    async def _open(self, live: LiveRoom) -> None:
        opening = live.opening = asyncio.get_running_loop().create_future()
        try:
            await self._broker.subscribe(live.room.id, live.room.options.keep)
            timeline = self._timeline(live.room.id)
            live.last = (timeline.log, timeline.top)
            live.open = True
        except HubbubError as failure:
            opening.set_exception(failure)
            opening.exception()  # perhaps nobody waits
            raise
        finally:
            live.opening = None
            if not opening.done():
                opening.set_result(None)

    def release(self, live: LiveRoom) -> None:
        """Give up a hold; the last one out turns off the light."""
        live.holds -= 1
        self._drop_if_empty(live)

    def _drop_if_empty(self, live: LiveRoom) -> None:
        unused = not live.holds and not live.memberships
        if unused and self._rooms.get(live.room.id) is live:
            del self._rooms[live.room.id]
            self._broker.unsubscribe(live.room.id)

    def _timeline(self, room: RoomId) -> Timeline:
        timeline = self._broker.timeline(room)
        if timeline is None:
            raise RuntimeError(f"{room} is live without a subscription")
        return timeline

    # Members

    def enter(
        self,
        session: Session,
        live: LiveRoom,
        position: Position | None,
        history: int,
        *,
        announced: bool,
    ) -> tuple[Membership, Replay]:
        """Register a session and read what it has to catch up on, in one step without waiting.

        The caller sends the replay and then calls `pump`, also without waiting in between.
        """
        timeline = self._timeline(live.room.id)
        replay = replay_for(timeline, position, history)
        membership = Membership(session, live.room, replay.position, announced=announced)
        live.memberships[session.id] = membership
        session.memberships[live.room.id] = membership
        if replay.more:
            membership.entry = timeline.position
            membership.catchup = CatchUp(replay.position)
        else:
            self._go_live(membership)
        return membership, replay

    def leave(self, membership: Membership) -> None:
        """Take a session out of a room. What was delivered before is still sent to it."""
        live = self._rooms[membership.room.id]
        self._go_quiet(membership)
        membership.catchup = None
        live.memberships.pop(membership.session.id, None)
        membership.session.memberships.pop(live.room.id, None)
        self._drop_if_empty(live)

    def reread(self, membership: Membership, position: Position | None, history: int) -> Replay:
        """What a session gets that is already in and joins again. `pump` sends the rest.

        A live member gets what lies before its entry. One in catch-up goes on where it is, or
        starts again from `position`. Of several readings the last one asked for counts.
        """
        timeline = self._timeline(membership.room.id)
        asked = position is not None or history > 0
        if membership.catchup is not None and not membership.live:
            if position is None:
                at = membership.catchup.position
                return Replay(Recovery(Outcome.NONE), [], at, not membership.catchup.done(timeline))
            replay = replay_for(timeline, position, history)
            membership.catchup = CatchUp(replay.position)
            return replay
        # What was delivered and not sent yet counts as seen at the position answered.
        self._flush_group(self._group_of(membership))
        until = membership.entry.seq
        replay = replay_for(timeline, position, history, until)
        if asked:
            membership.catchup = CatchUp(replay.position, until) if replay.more else None
        return replay

    def pump(self, membership: Membership) -> None:
        """Send pages to a member in catch-up while there is room; take it live at the end."""
        session = membership.session
        while membership.catchup is not None and not session.closed:
            timeline = self._timeline(membership.room.id)
            if membership.catchup.done(timeline):
                membership.catchup = None
                if not membership.live:
                    self._go_live(membership)
                return
            if not session.transport.ready:
                return  # `drained` calls again
            replay = membership.catchup.step(timeline)
            _move_entry(membership, replay)
            if replay.recovery.outcome is Outcome.OK:
                self._send_page(session, replay.messages)
            else:
                self._metrics.count("resyncs", label="catchup")
                session.send(session.dialect.resync(membership.room.id, replay))

    def drained(self, session: Session) -> None:
        """Room again in the session's outbox."""
        for membership in list(session.memberships.values()):
            if membership.catchup is not None:
                self.pump(membership)
            elif membership.missed:
                self._send_newest(membership)

    def _send_page(self, session: Session, messages: list[Message]) -> None:
        frames = [session.dialect.message(m) for m in messages if m.skip != session.id]
        session.send(b"".join(frame for frame in frames if frame is not None) or None)

    def _go_live(self, membership: Membership) -> None:
        session, groups = membership.session, self._rooms[membership.room.id].groups
        group = groups.get(session.dialect)
        if group is None:
            group = groups[session.dialect] = Group(session.dialect)
        self._flush_group(group)
        group.transports[session.transport] = membership
        membership.live = True

    def _go_quiet(self, membership: Membership) -> None:
        if not membership.live:
            return
        group = self._group_of(membership)
        self._flush_group(group)
        del group.transports[membership.session.transport]
        if not group.transports:
            del self._rooms[membership.room.id].groups[group.dialect]
        membership.live = False

    def _group_of(self, membership: Membership) -> Group:
        """The group of a live member."""
        return self._rooms[membership.room.id].groups[membership.session.dialect]

    # Fan-out

    def deliver(self, message: Message) -> None:
        live = self._rooms.get(message.room)
        if live is None:
            return
        if message.seq:
            live.last = (message.log, message.seq)
        if live.room.options.conflate:
            self._conflate(live, message)
            return
        skipped = None if message.skip is None else live.memberships.get(message.skip)
        for group in live.groups.values():
            frame = group.dialect.message(message)
            if frame is None:
                continue
            if skipped is not None and skipped.session.transport in group.transports:
                self._send_to_others(group, frame, skipped)
            elif group.queue(frame):
                self._mark(group)

    def _send_to_others(self, group: Group, frame: bytes, skipped: Membership) -> None:
        self._flush_group(group)
        for transport, membership in group.transports.items():
            if membership is not skipped:
                transport.push(frame)
        self._metrics.count("deliveries", len(group.transports) - 1)

    def _conflate(self, live: LiveRoom, message: Message) -> None:
        """Members who keep up get every message; the others the newest once they can take it."""
        live.newest = message
        for group in live.groups.values():
            frame = group.dialect.message(message)
            if frame is None:
                continue
            self._flush_group(group)
            sent = 0
            for transport, membership in group.transports.items():
                if message.skip == membership.session.id:
                    continue
                if membership.missed or not transport.idle:
                    membership.missed += 1
                else:
                    transport.push(frame)
                    sent += 1
            self._metrics.count("deliveries", sent)

    def _send_newest(self, membership: Membership) -> None:
        newest = self._rooms[membership.room.id].newest
        session = membership.session
        if newest is None or not session.transport.idle:
            return  # `drained` calls again
        skipped, membership.missed = membership.missed - 1, 0
        self._metrics.count("conflated", skipped)
        session.send(session.dialect.message(newest, skipped))

    def _broadcast(self, live: LiveRoom, frames: Iterator[tuple[Group, bytes | None]]) -> None:
        for group, frame in frames:
            if frame is not None and group.queue(frame):
                self._mark(group)

    def _mark(self, group: Group) -> None:
        self._dirty.append(group)
        if len(self._dirty) == 1:
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Send what was delivered in this loop turn."""
        dirty, self._dirty = self._dirty, []
        for group in dirty:
            self._flush_group(group)

    def _flush_group(self, group: Group) -> None:
        sent = group.flush()
        if sent:
            self._metrics.count("deliveries", sent)

    # A log that could not be continued

    def interrupted(self, room: RoomId) -> None:
        live = self._rooms.get(room)
        if live is None:
            return
        timeline = self._timeline(live.room.id)
        log, seq = live.last
        replay = timeline.recover(Position.parse(log, seq))
        self._metrics.count("resyncs", label="interrupted")
        logger.warning("room %s resynced: %s", room, replay.recovery.outcome)
        for group in list(live.groups.values()):
            self._resync_group(live, group, replay)
        live.last = (timeline.log, timeline.top)

    def _resync_group(self, live: LiveRoom, group: Group, replay: Replay) -> None:
        memberships = list(group.transports.values())
        self._flush_group(group)
        if replay.recovery.outcome is Outcome.OK:
            self._close_hole(group, replay.messages)
        else:
            frame = group.dialect.resync(live.room.id, replay)
            if frame is not None:
                group.queue(frame)
                self._flush_group(group)
        for membership in memberships:
            _move_entry(membership, replay)
            if replay.more:
                self._go_quiet(membership)
                membership.catchup = CatchUp(replay.position)
                self.pump(membership)

    def _close_hole(self, group: Group, messages: list[Message]) -> None:
        shown = [(message.skip, group.dialect.message(message)) for message in messages]
        frames = [(skip, frame) for skip, frame in shown if frame is not None]
        everything = b"".join(frame for _, frame in frames)
        skipped = {skip for skip, _ in frames}
        for membership in group.transports.values():
            session = membership.session
            if session.id in skipped:
                session.send(b"".join(f for skip, f in frames if skip != session.id) or None)
            else:
                session.send(everything or None)

    # Presence

    def presence_changed(self, change: PresenceChange) -> None:
        live = self._rooms.get(change.room)
        if live is None:
            return
        if live.room.crowds(change.count):
            live.summary_due = True
            return
        self._broadcast(
            live,
            ((group, group.dialect.presence_change(change)) for group in live.groups.values()),
        )

    async def run(self) -> None:
        """Tell the counts of crowded rooms, at most once a second, until cancelled."""
        while True:
            await asyncio.sleep(SUMMARY_INTERVAL)
            for live in [room for room in self._rooms.values() if room.summary_due]:
                await self.summarise(live)

    async def summarise(self, live: LiveRoom) -> None:
        """Tell one crowded room its count, or the whole list once it is calm again."""
        live.summary_due = False  # before asking: what changes from here on is for the next round
        try:
            snapshot = await self._presence.snapshot(live.room.id)
        except HubbubError as failure:
            logger.warning("no presence of %s now: %s", live.room.id, failure.code)
            live.summary_due = True
            return
        if live.room.calms(snapshot.count):
            live.room.calm()
        if live.room.crowded:
            snapshot = replace(snapshot, members=None)
        self._broadcast(
            live,
            (
                (group, group.dialect.presence_summary(live.room.id, snapshot))
                for group in live.groups.values()
            ),
        )


def replay_for(
    timeline: Timeline, position: Position | None, history: int, until: int | None = None
) -> Replay:
    """What a newcomer gets: what follows its position, else the newest `history` messages.

    A position of a log that is gone (RESET) falls back to the history asked for.
    """
    if position is None:
        return clip(timeline.latest(history), until)
    replay = timeline.recover(position)
    if replay.recovery.outcome is Outcome.RESET and history:
        latest = timeline.latest(history)
        replay = latest._replace(recovery=replay.recovery)
    return clip(replay, until)


def _move_entry(membership: Membership, replay: Replay) -> None:
    """Note what a broken numbering means for the place at which a member entered.

    What lies before it is what joining again returns: never what a resync brought already.
    """
    match replay.recovery.outcome:
        case Outcome.RESET:
            membership.entry = replay.position
            membership.missed = 0
        case Outcome.REWOUND:
            valid_to = replay.recovery.valid_to or 0
            if membership.entry.seq > valid_to:
                membership.entry = replay.position._replace(seq=valid_to)
                if membership.catchup is not None:
                    membership.catchup.lower(valid_to)
