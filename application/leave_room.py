"""Use case: a session leaves a room."""

from application.hub import Hub
from application.ports.presence import Presence
from application.session import Membership


class LeaveRoom:
    """Synchronous: what is delivered after it returns is not sent to the session."""

    def __init__(self, hub: Hub, presence: Presence) -> None:
        self._hub = hub
        self._presence = presence

    def __call__(self, membership: Membership, *, clean: bool = True) -> None:
        """A clean leave is told at once, any other keeps the member for the grace."""
        session, room = membership.session, membership.room.id
        self._hub.leave(membership)
        if membership.announced:
            self._presence.leave(room, session.id, session.identity.user, clean=clean)
