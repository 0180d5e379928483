"""Members on their way to the live end of a room's log, and back onto it when it breaks."""

import asyncio
import logging

from application.disconnects import INTERNAL
from application.fan_out import FanOut
from application.live_room import Group, LiveRoom
from application.ports.broadcasting import Broker
from application.ports.metrics import Metrics
from application.session import Membership, Session
from domain.catchup import CatchUp, clip
from domain.errors import HubbubError
from domain.identifiers import RoomId
from domain.message import Message
from domain.position import Position
from domain.timeline import Outcome, Recovery, Replay, Timeline

logger = logging.getLogger("hubbub.hub")

PATIENCE = 30.0  # seconds for which a store that cannot be read is asked again: a failover
_PAUSE = 1.0  # seconds between two tries


class LogReader:
    """Reads subscribed rooms' logs for their members, page by page as these have room for it.

    Every method but `reach` and `run` is one step without waiting: nothing is delivered between a
    look at the log and what follows from it.
    """

    def __init__(self, broker: Broker, fan_out: FanOut, metrics: Metrics) -> None:
        self._broker = broker
        self._fan_out = fan_out
        self._metrics = metrics
        # Members whose next page this node does not hold, and those of them still to be served.
        self._lacking: set[Membership] = set()
        self._requests: asyncio.Queue[tuple[LiveRoom, Membership]] = asyncio.Queue()

    async def run(self) -> None:
        """Fetch what members in catch-up have to read and this node does not hold, until
        cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                tasks.create_task(self._fetch(*await self._requests.get()))

    async def reach(self, room: RoomId, position: Position | None, history: int) -> bool:
        """Make sure that the log held here is enough for `enter` or `reread`, as long as nobody
        waits in between. Whether it was necessary. Raises Unavailable."""
        if position is None and not history:
            return False
        seq = self.timeline(room).lacks(position, history)
        if seq is not None:
            await self._broker.reach(room, seq)
        return seq is not None

    async def confirm(self, room: RoomId, position: Position) -> bool:
        """Make sure that the log held here may be told to a client that does not fit into it.
        Whether it was necessary. Raises Unavailable."""
        doubtful = self.timeline(room).disowns(position)
        if doubtful:
            await self._broker.confirm(room)
        return doubtful

    def timeline(self, room: RoomId) -> Timeline:
        """The log of a live room."""
        timeline = self._broker.timeline(room)
        if timeline is None:
            raise RuntimeError(f"{room} is live without a subscription")
        return timeline

    def enter(
        self,
        session: Session,
        live: LiveRoom,
        position: Position | None,
        history: int,
        *,
        announced: bool,
    ) -> tuple[Membership, Replay]:
        """Register a session and read what it has to catch up on.

        The caller sends the replay and then calls `pump`, without waiting in between.
        """
        timeline = self.timeline(live.room.id)
        replay = _replay(session, timeline, position, history)
        membership = Membership(session, live.room, replay.position, announced=announced)
        live.memberships[session.id] = membership
        session.memberships[live.room.id] = membership
        if replay.more:
            membership.entry = timeline.position
            membership.catchup = CatchUp(replay.position)
        else:
            self._fan_out.add(live, membership)
        return membership, replay

    def reread(
        self, live: LiveRoom, membership: Membership, position: Position | None, history: int
    ) -> Replay:
        """What a session gets that is already in and joins again. `pump` sends the rest.

        A live member gets what lies before its entry. One in catch-up goes on where it is, or
        starts again from `position`. Of several readings the last one asked for counts.
        """
        timeline = self.timeline(live.room.id)
        asked = position is not None or history > 0
        if membership.catchup is not None and not membership.live:
            if position is None:
                at = membership.catchup.position
                return Replay(Recovery(Outcome.NONE), [], at, not membership.catchup.done(timeline))
            replay = _replay(membership.session, timeline, position, history)
            membership.catchup = CatchUp(replay.position)
            return replay
        # What was delivered and not sent yet counts as seen at the position answered.
        self._fan_out.flush_group(live.group_of(membership))
        self._fan_out.send_held(membership)
        until = membership.entry.seq
        replay = _replay(membership.session, timeline, position, history, until)
        if asked:
            membership.catchup = CatchUp(replay.position, until) if replay.more else None
        return replay

    def pump(self, live: LiveRoom, membership: Membership) -> None:
        """Send pages to a member in catch-up while there is room; take it live at the end."""
        session = membership.session
        while membership.catchup is not None and not session.closed:
            timeline = self.timeline(live.room.id)
            if membership.catchup.done(timeline):
                membership.catchup = None
                if not membership.live:
                    self._fan_out.add(live, membership)
                return
            if not session.transport.ready:
                return  # pumped again when it drains
            if membership.catchup.lacks(timeline) is not None:
                self._request(live, membership)
                return  # pumped again when it is there
            catchup, before = membership.catchup, membership.catchup.position
            self._step(live, membership, catchup)
            if catchup.position == before and not catchup.done(timeline):
                # It would go round here for ever, and the whole node with it.
                logger.error("a reader of %s gets nowhere from %s", live.room.id, before)
                session.end(INTERNAL)

    def _step(self, live: LiveRoom, membership: Membership, catchup: CatchUp) -> None:
        session = membership.session
        replay = catchup.step(self.timeline(live.room.id), session.limits.page_bytes)
        _move_entry(membership, replay)
        if replay.recovery.outcome is Outcome.OK:
            _send_page(membership, replay.messages)
            return
        self._metrics.count("resyncs", label="catchup")
        if membership.live:
            self._fan_out.flush_group(live.group_of(membership))
            self._fan_out.send_held(membership)
            _tell_beside(membership, replay, Position.parse(*live.last))
        elif catchup.onward is not None and replay.recovery.outcome is Outcome.GAP:
            _tell_beside(membership, replay, catchup.onward)
        else:
            session.send(session.dialect.resync(live.room.id, replay))

    def _request(self, live: LiveRoom, membership: Membership) -> None:
        if membership not in self._lacking:
            self._lacking.add(membership)
            self._requests.put_nowait((live, membership))

    async def _fetch(self, live: LiveRoom, membership: Membership) -> None:
        try:
            reached = await self._reached(live, membership)
        finally:
            self._lacking.discard(membership)
        if not reached and membership.catchup is not None:
            # What cannot be had now is a gap: told, rather than waited for without an end.
            self._step(live, membership, membership.catchup)
        self.pump(live, membership)

    async def _reached(self, live: LiveRoom, membership: Membership) -> bool:
        """Whether what a member lacks is there, or it lacks nothing any more."""
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE
        while membership.catchup is not None:  # as it is now: it may have left, or begun anew
            seq = membership.catchup.lacks(self.timeline(live.room.id))
            if seq is None:
                return True
            try:
                await self._broker.reach(live.room.id, seq)
            except HubbubError as failure:
                logger.warning("room %s cannot be read now: %s", live.room.id, failure.code)
                if loop.time() >= until:
                    return False
                await asyncio.sleep(_PAUSE)
            else:
                return True
        return True

    def resync(self, live: LiveRoom) -> None:
        """Bring a room's live members from what was delivered last to the log as it is now."""
        timeline = self.timeline(live.room.id)
        log, seq = live.last
        sizes = [member.session.limits.page_bytes for member in live.memberships.values()]
        replay = timeline.recover(Position.parse(log, seq), max_bytes=min(sizes, default=0))
        self._metrics.count("resyncs", label="interrupted")
        logger.warning("room %s resynced: %s", live.room.id, replay.recovery.outcome)
        for group in list(live.groups.values()):
            self._resync_group(live, group, replay)
        live.last = (timeline.log, timeline.top)

    def _resync_group(self, live: LiveRoom, group: Group, replay: Replay) -> None:
        memberships = list(group.transports.values())
        self._fan_out.flush_group(group)
        for membership in memberships:
            self._fan_out.send_held(membership)
        # Who has no room for a page now is told the verdict, and reads on from where it stands.
        verdict = _verdict(replay)
        late = {m for m in memberships if verdict.more and not m.session.transport.ready}
        for membership in late:
            self._fan_out.remove(live, membership)
            if replay.recovery.outcome is not Outcome.OK:
                session = membership.session
                session.send(session.dialect.resync(live.room.id, verdict))
        if replay.recovery.outcome is Outcome.OK:
            _close_hole(group, replay.messages)
        else:
            frame = group.dialect.resync(live.room.id, replay)
            if frame is not None:
                group.notify(frame)
                self._fan_out.flush_group(group)
        for membership in memberships:
            told = verdict if membership in late else replay
            _move_entry(membership, told)
            if told.more:
                self._fan_out.remove(live, membership)
                if membership.catchup is None:
                    membership.catchup = CatchUp(told.position)
                else:  # it was reading what lies before its entry, and has been promised that
                    membership.catchup.then(told.position)
                self.pump(live, membership)


def _replay(
    session: Session,
    timeline: Timeline,
    position: Position | None,
    history: int,
    until: int | None = None,
) -> Replay:
    """What somebody gets who joins: what follows its position, else the newest `history` messages.

    A position of a log that is gone (RESET) falls back to the history asked for. Where there is
    no room for a page it is the verdict only: then all of it follows as the outbox drains.
    """
    replay = _found(timeline, position, history, session.limits.page_bytes)
    replay = clip(replay, until)
    return replay if session.transport.ready else _verdict(replay)


def _verdict(replay: Replay) -> Replay:
    """The same without its messages, which then follow."""
    if not replay.messages:
        return replay
    start = replay.position._replace(seq=replay.messages[0].seq - 1)
    return Replay(replay.recovery, [], start, True)


def _found(timeline: Timeline, position: Position | None, history: int, size: int) -> Replay:
    if position is None:
        return timeline.latest(history, size)
    replay = timeline.recover(position, max_bytes=size)
    if replay.recovery.outcome is Outcome.RESET and history:
        return timeline.latest(history, size)._replace(recovery=replay.recovery)
    return replay


def _tell_beside(membership: Membership, replay: Replay, position: Position) -> None:
    """Tell what the reading of the past came upon. The position is that of what the member has been
    sent, which the past leaves alone."""
    session = membership.session
    told = Replay(replay.recovery, [], position, bool(replay.messages))
    session.send(session.dialect.resync(membership.room.id, told))
    _send_page(membership, replay.messages)


def _send_page(membership: Membership, messages: list[Message]) -> None:
    session, entry = membership.session, membership.entry.seq
    # An ack stands in the place of what was published since the entry with echo: false; what lies
    # before it is the log's, whoever wrote it.
    frames = [
        session.dialect.message(m) for m in messages if m.seq <= entry or m.skip != session.id
    ]
    session.send(b"".join(frame for frame in frames if frame is not None) or None)


def _close_hole(group: Group, messages: list[Message]) -> None:
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


def _move_entry(membership: Membership, replay: Replay) -> None:
    """Note what a broken numbering means for the place at which a member entered.

    What lies before it is what joining again returns: never what a resync brought already.
    """
    match replay.recovery.outcome:
        case Outcome.RESET:
            membership.entry = replay.position
            if membership.live:
                membership.catchup = None  # what lay before its entry is gone
        case Outcome.REWOUND:
            valid_to = replay.recovery.valid_to or 0
            if membership.entry.seq > valid_to:
                membership.entry = replay.position._replace(seq=valid_to)
                if membership.catchup is not None:
                    membership.catchup.lower(valid_to)
