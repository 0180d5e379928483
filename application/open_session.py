"""Use case: somebody is let in."""

import random
import time
from collections.abc import Callable
from functools import partial

from application.close_session import CloseSession
from application.hub import Hub
from application.ports.encoding import Dialect
from application.ports.metrics import Metrics
from application.ports.transport import Transport
from application.session import Arrival, Session, SessionLimits
from domain.errors import OverCapacity
from domain.grants import Identity
from domain.heartbeat import Heartbeat
from domain.identifiers import SessionId

_UNKNOWN = Arrival()


class OpenSession:
    """Makes the session of an authenticated connection and sets its timers."""

    def __init__(
        self,
        hub: Hub,
        close: CloseSession,
        metrics: Metrics,
        limits: SessionLimits,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._hub = hub
        self._close = close
        self._metrics = metrics
        self._limits = limits
        self._wall = wall
        self._limited = partial(metrics.count, "rate_limited", 1)

    def __call__(
        self,
        connection: SessionId,
        identity: Identity,
        transport: Transport,
        dialect: Dialect,
        now: float,
        heard: Callable[[], bool] | None = None,
        arrival: Arrival = _UNKNOWN,
    ) -> Session:
        """Raises OverCapacity when the user has as many connections as one may have.

        `connection` is a name that no other has. `now` is the loop's time. `heard` replaces the
        transport's idea of a sign of life."""
        limits = self._limits
        if len(self._hub.sessions_of(identity.user)) >= limits.sessions_per_user:
            raise OverCapacity(f"a user may have {limits.sessions_per_user} connections")
        fraction = random.uniform(0.5, 1)
        session = Session(
            connection,
            identity,
            transport,
            dialect,
            limits,
            arrival=arrival,
            heartbeat=Heartbeat(limits.ping_interval, limits.ping_timeout, now, fraction),
            heard=heard,
            wall=self._wall,
            on_close=self._close,
            on_drained=self._hub.drained,
            on_limited=self._limited,
        )
        transport.attach(session)
        self._hub.register(session)
        self._metrics.count("sessions_opened")
        return session
