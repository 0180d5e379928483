"""Use case: a connection is over, whoever ended it."""

from application.disconnects import is_clean
from application.hub import Hub
from application.leave_room import LeaveRoom
from application.ports.metrics import Metrics
from application.session import Session


class CloseSession:
    """Leaves every room and forgets the session. Called once, by the session itself."""

    def __init__(self, hub: Hub, leave: LeaveRoom, metrics: Metrics) -> None:
        self._hub = hub
        self._leave = leave
        self._metrics = metrics

    def __call__(self, session: Session, code: int) -> None:
        """`code` is the close code; it decides between leaving at once and the leave grace."""
        clean = is_clean(code)
        for membership in list(session.memberships.values()):
            self._leave(membership, clean=clean)
        self._hub.forget(session)
        self._metrics.count("disconnects", label=_label(code))


def _label(code: int) -> str:
    # A client may close with any code from 3000 on: only those with a meaning get their own line.
    return str(code) if 1000 <= code < 1016 or 4000 <= code < 4300 else "other"
