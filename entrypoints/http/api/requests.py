"""Requests as they come in: bodies within their bounds, and answers to whatever goes wrong."""

import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from msgspec.json import Decoder
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from domain.errors import BadFrame, HubbubError, Internal, MessageTooLarge, Unavailable
from entrypoints.http.api.operations import in_time
from entrypoints.http.refusals import JSON, invalid, refusal
from entrypoints.wire.canonical import decode

logger = logging.getLogger("hubbub.api")

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_MAX_DIGITS = 15  # of a length that is worth reading

T = TypeVar("T")


class Answer(Response):
    """JSON that is bytes already."""

    media_type = JSON

    def __init__(self, body: bytes, status_code: int = 200) -> None:
        super().__init__(body, status_code, _HEADERS)


class ApiRoute(APIRoute):
    """Answers errors of ours in our shape, and a bug as one, for this request only."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except HubbubError as error:
                return refusal(error)
            except RequestValidationError as error:
                return invalid(error)
            except ClientDisconnect:
                return refusal(BadFrame("the request ended early"))  # nobody reads it
            except HTTPException:
                raise
            except Exception:
                logger.exception("a request to %s ends on an internal error", self.path)
                return refusal(Internal("internal error"))

        return answer


async def body_of(
    request: Request, decoder: Decoder[T], limit: int, deadline: float, default: T | None = None
) -> T:
    """The body, decoded; where there is none, `default` if that is given. Raises MessageTooLarge
    over `limit` bytes, unread as far as it can be; BadFrame for what is not of that shape;
    Unavailable when it does not come in time."""
    declared = request.headers.get("content-length", "0")
    if len(declared) > _MAX_DIGITS or (declared.isdecimal() and int(declared) > limit):
        raise _too_large(limit)
    late = Unavailable("the body did not come in time")
    body = await in_time(_read(request, limit), deadline, late)
    return default if default is not None and not body else decode(decoder, body)


async def _read(request: Request, limit: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


def _too_large(limit: int) -> MessageTooLarge:
    return MessageTooLarge(f"a body may have {limit} bytes here")
