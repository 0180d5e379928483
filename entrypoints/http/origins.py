"""The origin policy for HTTP: the same as for WebSockets, told to browsers as CORS."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from domain.origins import OriginPolicy

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
        origin = _header(scope, b"origin") if scope["type"] == "http" else None
        if origin is None:
            await self._app(scope, receive, send)
            return
        text = origin.decode("latin-1")
        host = (_header(scope, b"host") or b"").decode("latin-1")
        if not self._policy.allows(text, scope["scheme"], host):
            logger.warning("refused origin %s; to allow it, add it to HUBBUB_ORIGINS", text)
            await _answer(send, 403, b"this origin may not make requests", [])
            return
        shared = [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]
        if scope["method"] == "OPTIONS" and _header(scope, b"access-control-request-method"):
            await _answer(send, _NO_CONTENT, b"", [*shared, *_preflight()])
            return

        async def share(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *shared]
            await send(message)

        await self._app(scope, receive, share)


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
        kind = (b"content-type", b"text/plain; charset=utf-8")
        headers = [(b"content-length", str(len(body)).encode()), kind, *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
