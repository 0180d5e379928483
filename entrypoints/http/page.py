"""The first page: a room to try in the browser, served from the package's own files.

The page is read once, when the router is made. Nothing of a request reaches a file system path.
"""

import hashlib
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import NamedTuple

from fastapi import APIRouter, Request, Response

_FILES = (
    ("/", "index.html", "text/html; charset=utf-8"),
    ("/page/page.js", "page.js", "text/javascript; charset=utf-8"),
    ("/page/rooms.js", "rooms.js", "text/javascript; charset=utf-8"),
    ("/page/style.css", "style.css", "text/css; charset=utf-8"),
)

# `ws:` and `wss:` because some browsers do not count a WebSocket to the same host as 'self'.
_CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self' ws: wss:",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)


class _Asset(NamedTuple):
    body: bytes
    headers: dict[str, str]


def page_router() -> APIRouter:
    """Routes for `/` and `/page/…`, GET and HEAD. Not part of the OpenAPI document.

    Raises FileNotFoundError when the package was built without its page.
    """
    router = APIRouter(include_in_schema=False)
    for path, name, media_type in _FILES:
        endpoint = _serve(_load(name, media_type))
        router.add_api_route(path, endpoint, methods=["GET", "HEAD"], response_class=Response)
    return router


def _load(name: str, media_type: str) -> _Asset:
    body = (resources.files("entrypoints") / "web" / name).read_bytes()
    headers = {
        "Content-Type": media_type,
        "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
        "ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"',
    }
    return _Asset(body, headers)


def _serve(asset: _Asset) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        if _is_known(request.headers.get("If-None-Match", ""), asset.headers["ETag"]):
            return Response(status_code=304, headers=asset.headers)
        if request.method == "HEAD":
            length = str(len(asset.body))
            return Response(headers={**asset.headers, "Content-Length": length})
        return Response(asset.body, headers=asset.headers)

    return serve


def _is_known(if_none_match: str, etag: str) -> bool:
    """Whether the client has this version; proxies may have made its tag a weak one."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or tags == ["*"]
