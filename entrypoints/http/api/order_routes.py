"""Routes of orders: what is done to users, on every node."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from domain.grants import Caller
from entrypoints.http.api import asks, describe, examples, shapes
from entrypoints.http.api.callers import Callers
from entrypoints.http.api.operations import Operations
from entrypoints.http.api.parameters import Reason, RoomName, UserName
from entrypoints.http.api.requests import Answer, ApiRoute, body_of

_ORDERED = 202  # on record, and carried out within a second


def managing_rooms(operations: Operations, callers: Callers) -> APIRouter:
    """Putting users into rooms, and taking them out."""
    router = APIRouter(route_class=ApiRoute, tags=["rooms"])

    @router.put(
        "/v1/rooms/{room}/members/{user}",
        summary="Put a user into a room",
        **_describing("enter"),
    )
    async def enter(
        room: RoomName, user: UserName, caller: Annotated[Caller, Depends(callers)]
    ) -> Answer:
        """The connections to `/v1/ws` that the user has now, whatever their grants. Takes `manage`
        on the room."""
        ask = asks.Enter(room=room, user=user)
        return Answer(await operations.order(caller, ask, operations.deadline()), _ORDERED)

    @router.delete(
        "/v1/rooms/{room}/members/{user}",
        summary="Take a user out of a room (kick)",
        **_describing("kick"),
    )
    async def kick(
        room: RoomName,
        user: UserName,
        caller: Annotated[Caller, Depends(callers)],
        reason: Reason = "",
    ) -> Answer:
        """All connections of the user; doors that are only this room are closed. The user may come
        back as far as grants allow it. Takes `manage` on the room."""
        ask = asks.Kick(room=room, user=user, reason=reason)
        return Answer(await operations.order(caller, ask, operations.deadline()), _ORDERED)

    return router


def managing_users(operations: Operations, callers: Callers, limit: int) -> APIRouter:
    """What is done to a user everywhere. `limit`: bytes of a body."""
    router = APIRouter(route_class=ApiRoute, tags=["users"])

    @router.post(
        "/v1/users/{user}/disconnect",
        summary="Disconnect a user everywhere",
        openapi_extra=describe.body(asks.ReasonBody, examples.REASON, required=False),
        **_describing("send_away"),
    )
    async def disconnect(
        request: Request, user: UserName, caller: Annotated[Caller, Depends(callers)]
    ) -> Answer:
        """Closed with 4003, so that clients stay away; the user may come back. Takes `manage` on
        the personal room of the user."""
        deadline = operations.deadline()
        body = await body_of(request, asks.REASON, limit, deadline, asks.ReasonBody())
        ask = asks.Disconnect(user=user, reason=body.reason)
        return Answer(await operations.order(caller, ask, deadline), _ORDERED)

    @router.put(
        "/v1/users/{user}/block",
        summary="Block a user until a time",
        openapi_extra=describe.body(asks.BlockBody, examples.BLOCK),
        **_describing("block"),
    )
    async def block(
        request: Request, user: UserName, caller: Annotated[Caller, Depends(callers)]
    ) -> Answer:
        """Disconnected, and let in again only after `until` (unix seconds). Takes `manage` on the
        personal room of the user."""
        deadline = operations.deadline()
        body = await body_of(request, asks.BLOCK, limit, deadline)
        ask = asks.Block(user=user, until=body.until, reason=body.reason)
        return Answer(await operations.order(caller, ask, deadline), _ORDERED)

    @router.delete("/v1/users/{user}/block", summary="Lift a block", **_describing("unblock"))
    async def unblock(user: UserName, caller: Annotated[Caller, Depends(callers)]) -> Answer:
        """Takes `manage` on the personal room of the user."""
        ask = asks.Unblock(user=user)
        return Answer(await operations.order(caller, ask, operations.deadline()), _ORDERED)

    return router


def revoking(operations: Operations, callers: Callers, limit: int) -> APIRouter:
    """`limit`: bytes of a body."""
    router = APIRouter(route_class=ApiRoute, tags=["users"])

    @router.post(
        "/v1/users/{user}/revoke-tokens",
        summary="Revoke the tokens of a user",
        openapi_extra=describe.body(asks.RevokeTokensBody, examples.REVOKE_TOKENS, required=False),
        **_describing("revoke_tokens"),
    )
    async def revoke_tokens(
        request: Request, user: UserName, caller: Annotated[Caller, Depends(callers)]
    ) -> Answer:
        """Those issued (`iat`) before a time, now unless said otherwise: tokens of the same second
        among them. Takes `manage` on the personal room of the user."""
        deadline = operations.deadline()
        body = await body_of(request, asks.REVOKE_TOKENS, limit, deadline, asks.RevokeTokensBody())
        ask = asks.RevokeTokens(user=user, issued_before=body.issued_before)
        return Answer(await operations.order(caller, ask, deadline), _ORDERED)

    @router.post(
        "/v1/tokens/revoke",
        summary="Revoke one token",
        openapi_extra=describe.body(asks.RevokeTokenBody, examples.REVOKE_TOKEN),
        **_describing("revoke_token"),
    )
    async def revoke_token(request: Request, caller: Annotated[Caller, Depends(callers)]) -> Answer:
        """By its `jti`. Takes `manage` on `@*`: nobody knows whose it is."""
        deadline = operations.deadline()
        body = await body_of(request, asks.REVOKE_TOKEN, limit, deadline)
        ask = asks.RevokeToken(token_id=body.token_id, expires_at=body.expires_at)
        return Answer(await operations.order(caller, ask, deadline), _ORDERED)

    return router


def _describing(kind: str) -> describe.Documented:
    responses = describe.answers(
        {"ordered": kind}, shapes.Ordered, refused=describe.ORDERING, status=_ORDERED
    )
    return {"status_code": _ORDERED, "responses": responses}
