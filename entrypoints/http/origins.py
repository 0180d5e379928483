"""The origin policy for HTTP: the same as for WebSockets, told to browsers as CORS."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from domain.errors import Forbidden
from domain.origins import OriginPolicy
from entrypoints.http.refusals import error_json

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

logger = logging.getLogger("hubbub.gate")

_METHODS = b"GET, POST, PUT, PATCH, DELETE, OPTIONS"
_HEADERS = b"authorization, content-type, idempotency-key, last-event-id"
_PREFLIGHT_AGE = b"600"  # seconds
_NO_CONTENT = 204  # no body, and no header about one


class OriginGuard:
    """Refuses requests from pages that may not be here, and lets the others read the answers."""

    def __init__(self, app: App, policy: OriginPolicy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin = _header(scope, b"origin")
        refusal = self._refusal(origin, scope)
        if refusal is not None:
            await _answer(send, 403, error_json(Forbidden(refusal)), [])
            return
        if origin is None:
            await self._app(scope, receive, send)
            return
        shared = [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", b"Retry-After"),
            (b"vary", b"Origin"),
        ]
        if scope["method"] == "OPTIONS" and _header(scope, b"access-control-request-method"):
            await _answer(send, _NO_CONTENT, b"", [*shared, *_preflight()])
            return

        async def share(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *shared]
            await send(message)

        await self._app(scope, receive, share)

    def _refusal(self, origin: bytes | None, scope: MutableMapping[str, Any]) -> str | None:
        found = _header(scope, b"host")
        host = None if found is None else found.decode("latin-1")
        if origin is None:
            if self._policy.knows(host):
                return None
            logger.warning("refused host %s; to allow it, add its origin to HUBBUB_ORIGINS", host)
            return "this server is not reached by that name"
        text = origin.decode("latin-1")
        if self._policy.allows(text, scope["scheme"], host or ""):
            return None
        logger.warning("refused origin %s; to allow it, add it to HUBBUB_ORIGINS", text)
        return "this origin may not make requests"


def _preflight() -> list[tuple[bytes, bytes]]:
    return [
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", _HEADERS),
        (b"access-control-max-age", _PREFLIGHT_AGE),
    ]


def _header(scope: MutableMapping[str, Any], name: bytes) -> bytes | None:
    """All headers of that name as one, joined by commas (RFC 9110, 5.3)."""
    values = [value for key, value in scope["headers"] if key == name]
    return b", ".join(values) if values else None


async def _answer(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    if status != _NO_CONTENT:
        kind = (b"content-type", b"application/json")
        headers = [(b"content-length", str(len(body)).encode()), kind, *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
