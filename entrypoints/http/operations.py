"""Health, readiness and metrics, for whoever runs the server."""

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from application.node import Node
from application.ports.metrics import Metrics
from entrypoints.http.asyncapi import asyncapi
from entrypoints.http.siblings import Siblings

_UNWELL: dict[int | str, dict[str, Any]] = {
    500: {"description": "A part of this process has failed: it is to be restarted"},
}
_NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {
        "description": "`why`: `failed`, `starting`, `draining`, `store` while messages get lost, "
        "or `keys` while tokens cannot be checked"
    },
}


def probes_router(*, node: Node, name: str) -> APIRouter:
    """What may be asked by anybody: balancers ask where clients come. `name` is the node's."""
    router = APIRouter(tags=["operations"])

    @router.get("/healthz", summary="Whether this process works at all", responses=_UNWELL)
    async def health() -> JSONResponse:
        """200 while the process works; 500 when it should be restarted."""
        if node.failed:
            return JSONResponse({"status": "failed"}, status_code=500)
        return JSONResponse({"status": "ok"})

    @router.get("/readyz", summary="Whether to send clients here", responses=_NOT_READY)
    async def readiness() -> JSONResponse:
        """200 while new connections are welcome; 503 before the start, during a stop, and while
        messages could not be published or would not arrive. `terms` is `guessed` where the store
        hides who it is, so that it may lose its newest messages unnoticed."""
        why = node.trouble
        if why is not None:
            told = {"status": "not ready", "node": name, "why": why}
            return JSONResponse(told, status_code=503)
        told = {"status": "ready", "node": name}
        if not node.notices_losses:  # true since the start, as a rule: no reason to send nobody
            told["terms"] = "guessed"
        return JSONResponse(told)

    return router


def documents_router() -> APIRouter:
    """What can be said here, for programs. The OpenAPI document belongs to the application."""
    router = APIRouter(tags=["operations"])

    @router.get("/asyncapi.json", summary="The WebSocket doors, as an AsyncAPI document")
    async def doors() -> JSONResponse:
        return JSONResponse(asyncapi())

    return router


def metrics_router(*, metrics: Metrics, siblings: Siblings) -> APIRouter:
    """`siblings` are the other workers on this machine."""
    router = APIRouter(tags=["operations"])

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def exposition() -> Response:
        body, content_type = metrics.render(await siblings.ask("metrics"))
        return Response(body, media_type=content_type)

    return router
