"""Health, readiness and metrics, for whoever runs the server."""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from application.node import Node
from application.ports.metrics import Metrics


def operations_router(*, node: Node, metrics: Metrics) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get("/healthz", summary="Whether this process works at all")
    async def health() -> JSONResponse:
        """200 while the process works; 500 when it should be restarted."""
        if node.failed:
            return JSONResponse({"status": "failed"}, status_code=500)
        return JSONResponse({"status": "ok"})

    @router.get("/readyz", summary="Whether to send clients here")
    async def readiness() -> JSONResponse:
        """200 while new connections are welcome, 503 before the start and during a stop."""
        if node.draining or not node.running:
            return JSONResponse({"status": "not ready"}, status_code=503)
        return JSONResponse({"status": "ready"})

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def exposition() -> Response:
        body, content_type = metrics.render()
        return Response(body, media_type=content_type)

    return router
