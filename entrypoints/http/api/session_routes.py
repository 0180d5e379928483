"""The route for whoever runs the server: who is connected, and for whom most is waiting."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from domain.grants import Caller
from domain.timeline import MAX_PAGE_MESSAGES
from entrypoints.http.api import describe, examples, shapes
from entrypoints.http.api.callers import Callers
from entrypoints.http.api.operations import Operations
from entrypoints.http.api.parameters import Limit
from entrypoints.http.api.requests import Answer, ApiRoute
from entrypoints.wire.shapes import USER


def watching(operations: Operations, callers: Callers) -> APIRouter:
    router = APIRouter(route_class=ApiRoute, tags=["sessions"])

    @router.get(
        "/v1/sessions",
        summary="Sessions, the slowest first",
        responses=describe.answers(examples.SESSIONS, shapes.SessionsPage, refused=describe.NAMED),
    )
    async def sessions(
        caller: Annotated[Caller, Depends(callers)],
        user: Annotated[
            str | None,
            Query(json_schema_extra={"pattern": USER}, description="only those of this user"),
        ] = None,
        limit: Limit = MAX_PAGE_MESSAGES,
    ) -> Answer:
        """Connections to the node that answers, those first for which most bytes wait; with several
        workers on its machine, to all of them. `count` is all there are. `session_id` is what the
        client was told, and what the log calls the connection. Takes `manage` on `*` and `@*`."""
        deadline = operations.deadline()
        return Answer(await operations.sessions(caller, user, limit, deadline))

    return router
