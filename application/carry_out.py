"""Use case: this node does what it was ordered to do to its users."""

import time
from collections.abc import Callable

from application.disconnects import FORBIDDEN, UNAUTHORIZED, Disconnect, fitting
from application.hub import Hub
from application.leave_room import LeaveRoom
from application.ports.control import ControlListener
from application.ports.metrics import Metrics
from application.session import Membership, Session
from domain.errors import HubbubError, Unauthenticated
from domain.exclusions import Exclusions
from domain.orders import Enter, Kick, Order, RevokeToken, SendAway

KICKED = "kicked"  # the code told to who is taken out of a room


class CarryOut(ControlListener):
    """One for a node."""

    def __init__(
        self,
        hub: Hub,
        leave: LeaveRoom,
        exclusions: Exclusions,
        metrics: Metrics,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._hub = hub
        self._leave = leave
        self._exclusions = exclusions
        self._metrics = metrics
        self._wall = wall

    def ordered(self, order: Order, given_at: float | None) -> None:
        self._metrics.count("orders", label=order.kind)
        self._exclusions.note(order, self._wall())
        for session in self._meant(order):
            if given_at is None or session.opened_at < given_at:
                self._act(session, order)

    def _meant(self, order: Order) -> list[Session]:
        if isinstance(order, RevokeToken):
            # Nobody looks for tokens but here: an index of them would cost every connection.
            sessions = self._hub.sessions.values()
            return [s for s in sessions if s.identity.token_id == order.token_id]
        return list(self._hub.sessions_of(order.user))

    def _act(self, session: Session, order: Order) -> None:
        match order:
            case Kick(room, _, reason):
                session.invitations.discard(room)
                membership = session.memberships.get(room)
                if membership is not None:
                    self._take_out(membership, reason or f"taken out of {room}")
            case Enter(room, _):
                if session.invite is not None and room not in session.memberships:
                    session.invitations.add(room)
                    session.invite(room)
            case SendAway(_, reason):
                session.end(_leave_taking(FORBIDDEN, reason or "sent away"))
            case _:
                self._end_if_excluded(session)

    def _take_out(self, membership: Membership, reason: str) -> None:
        session, room = membership.session, membership.room.id
        self._leave(membership)
        told = session.dialect.removed(room, KICKED, reason)
        if told is not None:
            session.send(told)
        else:  # a door into this one room
            session.end(_leave_taking(FORBIDDEN, reason))

    def _end_if_excluded(self, session: Session) -> None:
        try:
            self._exclusions.check(session.identity, self._wall())
        except Unauthenticated as error:
            session.end(_leave_taking(UNAUTHORIZED, f"{error.code}: {error.message}"))
        except HubbubError as error:
            session.end(_leave_taking(FORBIDDEN, f"{error.code}: {error.message}"))


def _leave_taking(disconnect: Disconnect, reason: str) -> Disconnect:
    return disconnect._replace(reason=fitting(reason))
