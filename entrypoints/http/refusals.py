"""Errors as HTTP answers: one shape for all of them, `{"error": {code, message, retry, …}}`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import ceil
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from domain.errors import BadFrame, HubbubError, Unauthenticated
from entrypoints.wire.errors import wire_of
from entrypoints.wire.fragments import error_fields, quoted

JSON = "application/json"
UNPROCESSABLE = 422  # a parameter of the path or the query that is none

# What goes wrong before anything of ours is asked.
_WITHOUT_A_ROUTE = {404: "not_found", 405: "method_not_allowed"}


def error_json(error: HubbubError) -> bytes:
    """The body of an answer, and of one result in a batch."""
    return b'{"error":{%b}}' % error_fields(error)


def refusal(error: HubbubError, status: int | None = None) -> Response:
    """The answer to a request that was refused or failed."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(ceil(error.retry_after))
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    return Response(error_json(error), status or wire_of(error).status, headers, JSON)


def invalid(error: RequestValidationError) -> Response:
    """The answer to parameters that cannot be read; it repeats nothing of them."""
    told = "; ".join(f"`{_place(found)}`: {found['msg']}" for found in error.errors()[:3])
    return refusal(BadFrame(told), UNPROCESSABLE)


def _place(found: Mapping[str, Any]) -> str:
    where: Sequence[str | int] = found["loc"]
    return str(where[-1])


class NoRoute:
    """Answers where there is no such path, or nothing of that method."""

    def __init__(self, routers: Iterable[APIRouter]) -> None:
        """`routers` are those with several methods on one path."""
        routes = [route for router in routers for route in router.routes]
        self._routes = [route for route in routes if isinstance(route, APIRoute)]

    async def __call__(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = _WITHOUT_A_ROUTE.get(error.status_code, "bad_frame")
        body = b'{"error":{"code":"%b","message":%b,"retry":false}}' % (
            code.encode(),
            quoted(str(error.detail)),
        )
        headers = dict(error.headers or {})
        # The path as it was routed: that of `request.url` is put together with the Host header.
        allowed = sorted(self._methods(request.scope["path"]))
        if allowed and "Allow" in headers:  # the framework names those of one route only
            headers["Allow"] = ", ".join(allowed)
        return Response(body, error.status_code, headers, JSON)

    def _methods(self, path: str) -> Iterator[str]:
        for route in self._routes:
            if route.path_regex.match(path):
                yield from route.methods or ()
