"""The pages: hubbub to try in the browser, served from the package's own files.

Every page is one layout around its own part. All are read once, when the router is made. Nothing of
a request reaches a file system path.
"""

import hashlib
from collections.abc import Awaitable, Callable, Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NamedTuple

from fastapi import APIRouter, Request, Response


class Page(NamedTuple):
    """`name` is that of its files; `path` is below the address of the server."""

    path: str
    name: str
    title: str
    about: str


START = Page("", "start", "hubbub", "Rooms, members and messages in real time, to try here.")
PAGES = (
    Page("chat", "chat", "Chat", "Rooms, who is there, and a resume that loses nothing."),
    Page("dashboard", "dashboard", "Dashboard", "What this server does, second by second."),
    Page("editor", "editor", "Editor", "One text that several people write at once."),
    Page("notifications", "notifications", "Notifications", "Reach one person, asleep or not."),
    Page("explorer", "explorer", "Explorer", "Every door of this server, frame by frame."),
)
CLIENT = "hubbub.js"  # served beside the pages, so that its address is easy to remember

_DOCUMENTS = (
    'This server also answers at <a href="docs">docs</a> (its HTTP API) and '
    '<a href="metrics">metrics</a>. '
)

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# `ws:` and `wss:` because some browsers do not count a WebSocket to the same host as 'self'.
_CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self' ws: wss:",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)


class _Asset(NamedTuple):
    body: bytes
    headers: dict[str, str]


def page_router(*, documents: bool = True) -> APIRouter:
    """Routes for the pages, their files and the client, GET and HEAD. Not part of the OpenAPI
    document. `documents`: whether the documents of the API and the metrics are at the same port.
    Raises FileNotFoundError when the package was built without its pages."""
    router = APIRouter(include_in_schema=False)
    for path, asset in _assets(resources.files("entrypoints") / "web", documents):
        router.add_api_route(path, _serve(asset), methods=["GET", "HEAD"], response_class=Response)
    return router


def _assets(web: Traversable, documents: bool) -> Iterator[tuple[str, _Asset]]:
    layout = (web / "layout.html").read_text("utf-8")
    for page in (START, *PAGES):
        part = (web / f"{page.name}.html").read_text("utf-8")
        yield (
            f"/{page.path}",
            _asset(compose(layout, page, part, documents=documents).encode(), ".html"),
        )
    for file in sorted(web.iterdir(), key=lambda found: found.name):
        suffix = file.name[file.name.rfind(".") :]
        if suffix in _TYPES and suffix != ".html":
            folder = "" if file.name == CLIENT else "page/"
            yield f"/{folder}{file.name}", _asset(file.read_bytes(), suffix)


def compose(layout: str, page: Page, part: str, *, documents: bool = True) -> str:
    """The whole page. Its own part goes in last, and is not searched for places to fill."""
    title = page.title if page is START else f"{page.title} · hubbub"
    filled = {"title": title, "about": page.about, "name": page.name, "links": _links(page)}
    filled["documents"] = _DOCUMENTS if documents else ""
    for place, text in filled.items():
        layout = layout.replace(f"{{{{{place}}}}}", text)
    return layout.replace("{{part}}", part.rstrip())


def _links(here: Page) -> str:
    current = ' aria-current="page"'
    return "\n".join(
        f'      <a href="{page.path}"{current if page is here else ""}>{page.title}</a>'
        for page in PAGES
    ).lstrip()


def _asset(body: bytes, suffix: str) -> _Asset:
    headers = {
        "Content-Type": _TYPES[suffix],
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
