"""Routes under `/v1/rooms`: publishing, and what there is to read."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from domain.grants import Caller
from domain.timeline import MAX_PAGE_MESSAGES
from entrypoints.http.api import describe, examples, shapes
from entrypoints.http.api.asks import PUBLISH, Describe, History, Members, PublishBody, once
from entrypoints.http.api.callers import Callers
from entrypoints.http.api.operations import Operations
from entrypoints.http.api.parameters import IdempotencyKey, Limit, RoomName, Seq
from entrypoints.http.api.requests import Answer, ApiRoute, body_of
from entrypoints.wire.canonical import canonical


def publishing(operations: Operations, callers: Callers, limit: int) -> APIRouter:
    """`limit`: bytes of a body."""
    router = APIRouter(route_class=ApiRoute, tags=["messages"])

    @router.post(
        "/v1/rooms/{room}/messages",
        summary="Publish a message",
        openapi_extra=describe.body(PublishBody, examples.MESSAGE),
        responses=describe.answers(
            examples.PUBLISHED, shapes.Published, shapes.Sent, refused=describe.PUBLISHING
        ),
    )
    async def publish(
        request: Request,
        room: RoomName,
        caller: Annotated[Caller, Depends(callers)],
        idempotency_key: IdempotencyKey = None,
    ) -> Answer:
        """With a `key`, or the header `Idempotency-Key`, it happens once, however often it is
        repeated within five minutes: do so after any error with `retry`. A token speaks as its
        user; with an API key, `from` is any user or nobody. Ephemeral messages take no key."""
        deadline = operations.deadline()
        message = await body_of(request, PUBLISH, limit, deadline)
        key, data = once(message, idempotency_key), canonical(message.data)
        outcome = await operations.submit(caller, room, message, data, key, deadline)
        return Answer(await operations.settle(room, outcome, deadline))

    @router.get(
        "/v1/rooms/{room}/messages",
        summary="History, both ways",
        responses=describe.answers(examples.HISTORY, shapes.HistoryPage, refused=describe.NAMED),
    )
    async def history(
        room: RoomName,
        caller: Annotated[Caller, Depends(callers)],
        before: Seq = None,
        after: Seq = None,
        log: str | None = None,
        limit: Limit = MAX_PAGE_MESSAGES,
    ) -> Answer:
        """The newest messages, or those `before` a seq, or `after` one (then the oldest of them
        first, and with both those between). Name the `log` your seqs are of: if the room has
        another one by now, the page is empty."""
        ask = History(room=room, before=before, after=after, log=log, limit=limit)
        return Answer(await operations.read(caller, ask, operations.deadline()))

    return router


def looking(operations: Operations, callers: Callers) -> APIRouter:
    """What rooms there are, how they are set, and who is in them."""
    router = APIRouter(route_class=ApiRoute, tags=["rooms"])

    @router.get(
        "/v1/rooms",
        summary="Rooms",
        responses=describe.answers(examples.ROOMS, shapes.RoomsPage, refused=()),
    )
    async def rooms(
        caller: Annotated[Caller, Depends(callers)],
        prefix: str = "",
        after: str = "",
        limit: Limit = MAX_PAGE_MESSAGES,
    ) -> Answer:
        """Rooms with somebody connected to any node, by name, of those whose members the caller
        may list. `count` is users on all nodes. With `more`, ask again `after` the last name."""
        deadline = operations.deadline()
        return Answer(await operations.rooms(caller, prefix, after, limit, deadline))

    @router.get(
        "/v1/rooms/{room}",
        summary="Options in force for a room",
        responses=describe.answers(examples.OPTIONS, shapes.RoomOptions, refused=describe.NAMED),
    )
    async def options(room: RoomName, caller: Annotated[Caller, Depends(callers)]) -> Answer:
        """For whoever may do anything in the room, whether somebody is in it or not."""
        return Answer(await operations.read(caller, Describe(room=room), operations.deadline()))

    @router.get(
        "/v1/rooms/{room}/members",
        summary="Members and their number",
        responses=describe.answers(examples.MEMBERS, shapes.MembersPage, refused=describe.NAMED),
    )
    async def members(
        room: RoomName,
        caller: Annotated[Caller, Depends(callers)],
        after: str | None = None,
        limit: Limit = MAX_PAGE_MESSAGES,
    ) -> Answer:
        """By name. With `more`, ask again `after` the last one."""
        ask = Members(room=room, after=after, limit=limit)
        return Answer(await operations.read(caller, ask, operations.deadline()))

    return router
