"""The server side of one connection."""

import asyncio
from collections.abc import Callable
from math import isfinite
from typing import NamedTuple

from application.disconnects import FOREIGN, NO_PONG, RATE_LIMITED, SLOW, TOKEN_EXPIRED, Disconnect
from application.ports.encoding import Dialect
from application.ports.transport import Transport, TransportListener
from domain.catchup import CatchUp
from domain.errors import RateLimited
from domain.grants import Identity
from domain.heartbeat import Heartbeat, Verdict
from domain.identifiers import RoomId, SessionId, owner
from domain.message import Message
from domain.position import Position
from domain.room import Room
from domain.throttle import Throttle
from domain.timeline import MAX_PAGE_BYTES

EXPIRY_LEEWAY = 5.0  # seconds a session outlives its token, so that a refresh on the way arrives
MAX_HOLD = 0.5  # seconds for which a peer that is too fast is not read; under throttle.PAUSE
LATE = 1.0  # seconds after which a timer of ours counts as late


class SessionLimits(NamedTuple):
    """Per connection. Rates are per second, 0 is off; `rooms` does not count the personal one.
    `page_bytes`: of a page of history, so that one fits into an outbox that is not full.
    `outbox_bytes`: what may wait before it is cut."""

    rooms: int = 128
    page_bytes: int = MAX_PAGE_BYTES
    messages_per_second: float = 100
    messages_burst: float = 200
    commands_per_second: float = 50
    commands_burst: float = 100
    ping_interval: float = 25.0
    ping_timeout: float = 10.0
    sessions_per_user: int = 100
    outbox_bytes: int = 1_048_576


class Arrival(NamedTuple):
    """Where a session came in: the path of its door, and the address of the peer if it is known."""

    door: str = ""
    address: str | None = None


class Session(TransportListener):
    """Who is at the other end, how to write to it, which rooms it is in, and when it ends.

    Made by OpenSession. Everything here is synchronous: the timers of the loop call in, and the
    end of a session (`end` or `lost`, whichever comes first) happens in one step.
    """

    __slots__ = (
        "_answers",
        "_asks_in_frames",
        "_closed",
        "_commands",
        "_expiry",
        "_heard",
        "_heartbeat",
        "_loop",
        "_on_close",
        "_on_drained",
        "_on_limited",
        "_publishes",
        "_pulse",
        "_waiting",
        "_wall",
        "arrival",
        "close_code",
        "dialect",
        "id",
        "identity",
        "invitations",
        "invite",
        "limits",
        "memberships",
        "opened_at",
        "transport",
    )

    def __init__(
        self,
        session: SessionId,
        identity: Identity,
        transport: Transport,
        dialect: Dialect,
        limits: SessionLimits,
        *,
        arrival: Arrival,
        heartbeat: Heartbeat,
        heard: Callable[[], bool] | None,
        wall: Callable[[], float],
        on_close: Callable[["Session", int], None],
        on_drained: Callable[["Session"], None],
        on_limited: Callable[[str], None],
    ) -> None:
        """`on_limited` is told which limit somebody too fast has hit."""
        self.id = session
        self.identity = identity
        self.transport = transport
        self.dialect = dialect
        self.limits = limits
        self.arrival = arrival
        self.memberships: dict[RoomId, Membership] = {}
        # Rooms it is about to be put into by somebody else, and how that is begun; None at doors
        # that lead into one room or none.
        self.invitations: set[RoomId] = set()
        self.invite: Callable[[RoomId], None] | None = None
        self._publishes = Throttle(limits.messages_per_second, limits.messages_burst)
        self._commands = Throttle(limits.commands_per_second, limits.commands_burst)
        self._heartbeat = heartbeat
        self._heard = heard or transport.heard
        self._asks_in_frames = heard is not None  # and so needs no ping that a server may lack
        self._wall = wall
        self.opened_at = wall()
        self._on_close = on_close
        self._on_drained = on_drained
        self._on_limited = on_limited
        self._closed = False
        self._waiting: asyncio.Future[None] | None = None
        self.close_code: int | None = None  # there once the session begins to end
        self._loop = asyncio.get_running_loop()
        self._answers = True
        self._pulse = self._next_beat()
        self._expiry: asyncio.TimerHandle | None = None
        self.expect_expiry()

    @property
    def principal(self) -> str:
        """The scope of this session's publish keys."""
        return self.identity.principal

    @property
    def closed(self) -> bool:
        return self._closed

    def counted_rooms(self) -> int:
        """Rooms that count against the limit: all but personal ones."""
        return sum(owner(room) is None for room in self.memberships)

    def send(self, frame: bytes | None) -> None:
        """Push a frame, unless this door does not show it or the session is over."""
        if frame is not None and not self._closed:
            self.transport.push(frame)

    def admit_publish(self) -> None:
        """Count a message. Raises RateLimited; ends the session of a client that goes on."""
        now = self._loop.time()
        wait = self._publishes.take(now)
        if wait:
            self._too_fast(self._publishes, "messages", now, wait)

    def admit_command(self) -> None:
        """Count anything else a client asks for. Like `admit_publish`."""
        now = self._loop.time()
        wait = self._commands.take(now)
        if wait:
            self._too_fast(self._commands, "commands", now, wait)

    def _too_fast(self, throttle: Throttle, limit: str, now: float, wait: float) -> None:
        self._on_limited(limit)
        if throttle.refused(now):
            self.end(RATE_LIMITED)
        # Refusing costs as much as serving: whoever is too fast waits, not we.
        self.transport.hold(min(wait, MAX_HOLD))
        raise RateLimited("too fast", retry_after=wait)

    def expect_expiry(self) -> None:
        """Set the end of the session to that of the identity it has now."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if self.identity.expires_at is not None:
            left = self.identity.expires_at + EXPIRY_LEEWAY - self._wall()
            self._expiry = self._loop.call_later(max(0.0, left), self.end, TOKEN_EXPIRED)

    def end(self, disconnect: Disconnect, *, discard: bool = False) -> None:
        """End the session from our side: leave every room, say why, close. `discard` drops what
        is queued for the peer."""
        if self._close(disconnect.code):
            self.transport.close(disconnect, self.dialect.disconnect(disconnect), discard=discard)

    def lost(self, code: int) -> None:
        """The connection is over; `code` is the close code received, 1006 for none."""
        self._close(min(code, FOREIGN))

    def overflowed(self) -> None:
        self.end(SLOW, discard=True)

    def drained(self) -> None:
        if not self._closed:
            self._on_drained(self)
        self._tell_waiting()

    async def room_for_a_page(self) -> None:
        """Wait until the transport takes a page of history, or the session is over. For one
        caller at a time."""
        while not self._closed and not self.transport.ready:
            self._waiting = self._loop.create_future()
            await self._waiting

    def _tell_waiting(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _close(self, code: int) -> bool:
        if self._closed:
            return False
        if self._pulse is not None:
            self._pulse.cancel()
        if self._expiry is not None:
            self._expiry.cancel()
        self.close_code = code
        self._tell_waiting()
        self._on_close(self, code)
        self._closed = True
        return True

    def _next_beat(self) -> asyncio.TimerHandle | None:
        at = self._heartbeat.next_at
        return self._loop.call_at(at, self._beat) if isfinite(at) else None

    def _beat(self) -> None:
        now = self._loop.time()
        # A late look (a stalled process) says nothing about the peer: its answer may lie unread.
        late = now - self._heartbeat.next_at > LATE
        match self._heartbeat.tick(now, self._heard() or late, self._answers):
            case Verdict.DEAD:
                self.end(NO_PONG)
                return
            case Verdict.PING:
                self.send(self.dialect.ping())
                self._answers = self.transport.ping() or self._asks_in_frames
        self._pulse = self._next_beat()


class Membership:
    """One session's place in one room.

    `entry` is the position at which it went in. `announced`: the room's presence knows of it.
    `invited`: somebody else put it in, so that it is no matter of its grants. `speaks_as` is the
    identity with which it was let publish, once it was.
    `live` members get messages as they are delivered; the others read the log by `catchup`.
    From a live member that cannot keep up a conflating room holds messages back: `held` is the
    newest of them, `missed` their number.
    """

    __slots__ = (
        "announced",
        "catchup",
        "entry",
        "held",
        "invited",
        "live",
        "missed",
        "room",
        "session",
        "speaks_as",
    )

    def __init__(self, session: Session, room: Room, entry: Position, *, announced: bool) -> None:
        self.session = session
        self.room = room
        self.entry = entry
        self.announced = announced
        self.invited = False
        self.speaks_as: Identity | None = None
        self.catchup: CatchUp | None = None
        self.live = False
        self.held: Message | None = None
        self.missed = 0

    def hold_back(self, message: Message) -> None:
        """Keep a message in the place of those before it."""
        if self.held is not None and self.held.opens_log:
            message = message._replace(opens_log=True)  # or nobody would name the new log
        self.held = message
        self.missed += 1

    def take_held(self) -> tuple[Message, int] | None:
        """The message held back, if any, and how many before it were; none are from then on."""
        if self.held is None:
            return None
        held, skipped = self.held, self.missed - 1
        self.held, self.missed = None, 0
        return held, skipped
