"""What every WebSocket passes before its door: origin, capacity, identity."""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable
from typing import NamedTuple

from application.disconnects import OVER_CAPACITY, RESTARTING, Disconnect
from application.ports.authentication import Authenticator
from application.ports.metrics import Metrics
from application.session import Arrival
from domain.errors import BadFrame, Forbidden, TokenMissing
from domain.exclusions import Exclusions
from domain.grants import OPEN_GRANTS, Identity
from domain.identifiers import SessionId, UserId
from domain.origins import OriginPolicy
from entrypoints.logs import fields
from entrypoints.wire.inbound import Auth, decode
from entrypoints.ws.admission import Admission
from entrypoints.ws.credentials import Scope, header, token_of, whole_header
from entrypoints.ws.inbox import Inbox

logger = logging.getLogger("hubbub.gate")

_LONGEST_DOOR = 300  # characters of a path in the log; those of real doors are shorter
RETRY_AFTER = 5  # seconds a client is told to wait at least when the server is full


class HttpRefusal(NamedTuple):
    """An answer before the upgrade. `retry_after` is seconds."""

    status: int
    body: str
    retry_after: int | None = None


class Gate:
    """Decides who gets in. One for all doors."""

    def __init__(
        self,
        authenticator: Authenticator,
        origins: OriginPolicy,
        exclusions: Exclusions,
        *,
        open_mode: bool,
        admission: Admission,
        metrics: Metrics,
        welcome: Callable[[], bool],
        auth_timeout: float,
    ) -> None:
        """`welcome` is false while the node is stopping."""
        self._authenticator = authenticator
        self._origins = origins
        self._exclusions = exclusions
        self.open_mode = open_mode
        self.admission = admission
        self._metrics = metrics
        self._welcome = welcome
        self._auth_timeout = auth_timeout

    def refusal(self, scope: Scope, connection: SessionId) -> HttpRefusal | None:
        """Why this upgrade is refused, if it is."""
        origin = whole_header(scope, b"origin")
        scheme = "https" if scope.get("scheme") == "wss" else "http"
        if not self._origins.allows(origin, scheme, header(scope, b"host") or ""):
            self._metrics.count("refused_connections", label="origin")
            logger.warning(
                "refused origin %s; to allow it, add it to HUBBUB_ORIGINS",
                origin,
                extra=fields(connection=connection, cause="origin"),
            )
            return HttpRefusal(403, "this origin may not connect")
        crowded = self.crowded(scope, connection)
        if crowded is None:
            return None
        # At random, or whoever was turned away together would come back together.
        return HttpRefusal(503, crowded.reason, random.randint(RETRY_AFTER, 3 * RETRY_AFTER))

    def crowded(self, scope: Scope, connection: SessionId) -> Disconnect | None:
        """Why nobody more is let in now, if that is so. Once for each who comes."""
        if not self._welcome():
            self.refused(scope, connection, "draining")
            return RESTARTING
        full = self.admission.full(scope) or self.admission.rushed(scope)
        if full is None:
            return None
        self.refused(scope, connection, full.cause)
        return OVER_CAPACITY._replace(reason=full.reason)

    def refused(self, scope: Scope, connection: SessionId, cause: str) -> None:
        """Take note of somebody who is not let in."""
        self._metrics.count("refused_connections", label=cause)
        door = scope["path"][:_LONGEST_DOOR]
        logger.info(
            "turned away at %s: %s",
            door,
            cause,
            extra=fields(connection=connection, door=door, cause=cause),
        )

    async def identify(self, scope: Scope, inbox: Inbox, named: UserId | None) -> Identity:
        """Who this is, at any door that lets people name themselves in open mode.

        Raises Unauthenticated, and Forbidden for a blocked user, or when the token is not of the
        user named.
        """
        if self.open_mode:
            return self._admitted(Identity(named or guest(), OPEN_GRANTS))
        token = token_of(scope)
        if token is None:
            token = await self._token_frame(scope, inbox)
        identity = await self._authenticator.authenticate(token)
        if named is not None and identity.user != named:
            raise Forbidden("the token is another user's than the one in the path")
        return self._admitted(identity)

    async def identify_reader(self, scope: Scope, named: UserId | None) -> Identity:
        """As `identify`, at a door that nobody can send a frame to."""
        if self.open_mode:
            return self._admitted(Identity(named or guest(), OPEN_GRANTS))
        return await self.identify_by_token(scope)

    async def identify_by_token(self, scope: Scope) -> Identity:
        """Who this is, at a door that wants a token with the upgrade request in any mode."""
        token = token_of(scope)
        if token is None:
            raise TokenMissing("no token in subprotocol, Authorization or ?token=")
        return self._admitted(await self._authenticator.authenticate(token))

    def _admitted(self, identity: Identity) -> Identity:
        self._exclusions.check(identity, time.time())
        return identity

    async def _token_frame(self, scope: Scope, inbox: Inbox) -> str:
        try:
            with self.admission.unknown(scope):
                async with asyncio.timeout(self._auth_timeout):
                    frame = decode(await inbox.next())
        except TimeoutError:
            raise TokenMissing(f"no token within {self._auth_timeout:g} s") from None
        except BadFrame:
            raise TokenMissing("the first frame must be auth") from None
        if not isinstance(frame, Auth):
            raise TokenMissing("the first frame must be auth")
        return frame.token


def new_connection() -> SessionId:
    """A name for a connection, from before it is let in until after it is gone. It is no secret:
    logs have it, and so does the client."""
    return SessionId(secrets.token_urlsafe(12))


def guest() -> UserId:
    """A name nobody has, for somebody who gave none; it may be handed in again."""
    return UserId(f"guest-{secrets.token_hex(5)}")


def arrival(scope: Scope) -> Arrival:
    """Where somebody comes in, for whoever runs the server."""
    client = scope.get("client")
    return Arrival(scope["path"], None if client is None else str(client[0]))
