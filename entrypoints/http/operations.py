"""Health, readiness and metrics, for whoever runs the server."""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from application.node import Node
from application.ports.metrics import Metrics
from entrypoints.http.siblings import Siblings


def operations_router(*, node: Node, metrics: Metrics, name: str, siblings: Siblings) -> APIRouter:
    """`name` is the node's. `siblings` are the other workers on this machine."""
    router = APIRouter(tags=["operations"])

    @router.get("/healthz", summary="Whether this process works at all")
    async def health() -> JSONResponse:
        """200 while the process works; 500 when it should be restarted."""
        if node.failed:
            return JSONResponse({"status": "failed"}, status_code=500)
        return JSONResponse({"status": "ok"})

    @router.get("/readyz", summary="Whether to send clients here")
    async def readiness() -> JSONResponse:
        """200 while new connections are welcome; 503 before the start, during a stop, and while
        messages could not be published or would not arrive. `terms` is `guessed` where the store
        hides who it is, so that it may lose its newest messages unnoticed."""
        if not node.ready:
            return JSONResponse({"status": "not ready", "node": name}, status_code=503)
        told = {"status": "ready", "node": name}
        if not node.notices_losses:  # true since the start, as a rule: no reason to send nobody
            told["terms"] = "guessed"
        return JSONResponse(told)

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def exposition() -> Response:
        body, content_type = metrics.render(await siblings.ask("metrics"))
        return Response(body, media_type=content_type)

    return router
