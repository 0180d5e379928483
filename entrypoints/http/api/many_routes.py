"""Routes that do several things in one request."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from domain.grants import Caller
from entrypoints.http.api import describe, examples, shapes
from entrypoints.http.api.asks import BATCH, BROADCAST, BatchBody, BroadcastBody
from entrypoints.http.api.callers import Callers
from entrypoints.http.api.many import batch, broadcast
from entrypoints.http.api.operations import Operations
from entrypoints.http.api.parameters import IdempotencyKey
from entrypoints.http.api.requests import Answer, ApiRoute, body_of

BATCH_FRAMES = 4  # bytes of the body of a batch, in bodies with one message


def several(operations: Operations, callers: Callers, limit: int) -> APIRouter:
    """`limit`: bytes of a body with one message."""
    router = APIRouter(route_class=ApiRoute, tags=["several at once"])

    @router.post(
        "/v1/broadcast",
        summary="Publish one message to many rooms",
        openapi_extra=describe.body(BroadcastBody, examples.BROADCAST),
        responses=describe.answers(
            examples.BROADCAST_RESULTS, shapes.BroadcastResults, refused=describe.BROADCASTING
        ),
    )
    async def to_many(
        request: Request,
        caller: Annotated[Caller, Depends(callers)],
        idempotency_key: IdempotencyKey = None,
    ) -> Answer:
        """At most 100 rooms. What goes wrong with one of them is its result."""
        body = await body_of(request, BROADCAST, limit, operations.deadline())
        return Answer(await broadcast(operations, caller, body, idempotency_key))

    @router.post(
        "/v1/batch",
        summary="Several operations, one result each",
        openapi_extra=describe.body(BatchBody, examples.BATCH),
        responses=describe.answers(
            examples.BATCH_RESULTS, shapes.BatchResults, refused=describe.WITH_BODY
        ),
    )
    async def operate(request: Request, caller: Annotated[Caller, Depends(callers)]) -> Answer:
        """At most 100, one after the other, each as by its own route; the body may have four
        times the bytes of one message. What goes wrong with one of them is its result."""
        body = await body_of(request, BATCH, BATCH_FRAMES * limit, operations.deadline())
        return Answer(await batch(operations, caller, body, limit))

    return router
