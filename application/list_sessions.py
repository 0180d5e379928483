"""Use case: whoever runs the server asks who is connected, and for whom most is waiting."""

import time
from collections.abc import Callable
from heapq import nlargest
from typing import NamedTuple

from application.hub import Hub
from application.session import Session
from domain.errors import NotGranted
from domain.grants import Action, Caller
from domain.identifiers import SessionId, UserId

PAGE = 100


class SessionInfo(NamedTuple):
    """`waiting` is bytes that the peer has not taken, `age` seconds, `address` where it comes
    from, None where the server does not know."""

    id: SessionId
    user: UserId
    door: str
    address: str | None
    rooms: int
    waiting: int
    age: float


class SessionList(NamedTuple):
    """`total` is all there are, of the user asked for; `sessions` begins with those for whom most
    is waiting."""

    sessions: list[SessionInfo]
    total: int


class ListSessions:
    """Sessions of this node. Looked at when somebody asks; nothing is kept for it."""

    def __init__(self, hub: Hub, wall: Callable[[], float] = time.time) -> None:
        self._hub = hub
        self._wall = wall

    def allow(self, caller: Caller) -> None:
        """Raises NotGranted for whoever may not manage everything."""
        if not caller.grants.allows_everywhere(Action.MANAGE):
            raise NotGranted("listing sessions takes the grant to manage everything: `*` and `@*`")

    def __call__(self, user: str | None = None, limit: int = PAGE) -> SessionList:
        """At most `limit`; those of one user, if one is named. For whom `allow` lets pass."""
        found = self._hub.sessions.values() if user is None else self._of(user)
        slowest = nlargest(min(limit, PAGE), found, key=_waiting)
        now = self._wall()
        return SessionList([_info(session, now) for session in slowest], len(found))

    def _of(self, user: str) -> list[Session]:
        return list(self._hub.sessions_of(UserId(user)))


def _waiting(session: Session) -> int:
    return session.transport.backlog


def _info(session: Session, now: float) -> SessionInfo:
    return SessionInfo(
        session.id,
        session.identity.user,
        session.arrival.door,
        session.arrival.address,
        len(session.memberships),
        session.transport.backlog,
        max(0.0, now - session.opened_at),
    )
