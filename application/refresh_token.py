"""Use case: a connected client hands in a newer token."""

import time
from collections.abc import Callable

from application.leave_room import LeaveRoom
from application.ports.authentication import Authenticator
from application.ports.presence import Presence
from application.session import Membership, Session
from domain.errors import Forbidden, NotGranted
from domain.exclusions import Exclusions
from domain.grants import Action


class RefreshToken:
    """Extends a session and applies the grants of the new token at once."""

    def __init__(
        self,
        authenticator: Authenticator,
        presence: Presence,
        leave: LeaveRoom,
        exclusions: Exclusions,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._authenticator = authenticator
        self._presence = presence
        self._leave = leave
        self._exclusions = exclusions
        self._wall = wall

    async def __call__(self, session: Session, token: str) -> float | None:
        """Returns the seconds until the new token expires, None for never.

        Rooms that the new grants do not open any more are left and told as removed, but for those
        that somebody else put the session into. Raises
        TokenInvalid, TokenExpired, TokenRevoked, Unavailable, and Forbidden for another user's
        token; the session stays as it was then.
        """
        identity = await self._authenticator.authenticate(token)
        if identity.user != session.identity.user:
            raise Forbidden("this token is another user's")
        self._exclusions.check(identity, self._wall())
        if session.closed:
            return None
        session.identity = identity
        session.expect_expiry()
        self._leave_what_is_closed(session)
        for membership in list(session.memberships.values()):
            if membership.announced:
                await self._show_info(membership)
        if identity.expires_at is None:
            return None
        return max(0.0, identity.expires_at - self._wall())

    def _leave_what_is_closed(self, session: Session) -> None:
        for membership in list(session.memberships.values()):
            room = membership.room.id
            if not membership.invited and not session.identity.may(Action.JOIN, room):
                self._leave(membership)
                reason = f"the new token does not grant joining {room}"
                session.send(session.dialect.removed(room, NotGranted.code, reason))

    async def _show_info(self, membership: Membership) -> None:
        session, room = membership.session, membership.room
        if session.memberships.get(room.id) is not membership:
            return  # left while others were shown it
        identity = session.identity
        # Entering twice is entering once, with the info of the last time.
        await self._presence.enter(
            room.id, session.id, identity.user, identity.info, max_members=None, list_limit=0
        )
        if session.memberships.get(room.id) is not membership:  # left while we waited
            self._presence.leave(room.id, session.id, identity.user, clean=True)
