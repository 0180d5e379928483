"""The application as ASGI: routers, doors, and the node's life inside the server's."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Route, Router, WebSocketRoute
from starlette.types import Receive, Scope, Send

from domain.origins import OriginPolicy
from entrypoints.bind import is_loopback
from entrypoints.container import Container
from entrypoints.http.api.describe import completed
from entrypoints.http.api.operations import Cases, Operations
from entrypoints.http.api.router import api_routers
from entrypoints.http.api.sessions import Sessions
from entrypoints.http.events import EventDoor
from entrypoints.http.operations import documents_router, metrics_router, probes_router
from entrypoints.http.origins import OriginGuard
from entrypoints.http.page import page_router
from entrypoints.http.refusals import NoRoute
from entrypoints.http.siblings import Siblings
from entrypoints.settings import Settings, SettingsError, load_settings
from entrypoints.wire.tutorial import Lobby, Scalable, TextRoom
from entrypoints.ws.connection import Door, Doorway, no_such_door
from entrypoints.ws.gate import Gate
from entrypoints.ws.main_door import MainDoor, UseCases
from entrypoints.ws.tutorial import (
    EVERYBODY,
    LOBBY,
    BinaryDoor,
    EchoDoor,
    HeartbeatDoor,
    RoomDoor,
    SecureDoor,
)


class Hubbub(FastAPI):
    """FastAPI for HTTP; WebSockets go straight to their doors.

    What stands around a FastAPI route (dependencies, exit stacks, error pages) is made for
    requests, and would be more than half of the cost of letting a WebSocket in.
    """

    doors: Router
    operations: FastAPI | None = None  # what has a port of its own, if anything has

    def openapi(self) -> dict[str, Any]:
        """The document of the HTTP API, made when somebody asks for it first."""
        if self.openapi_schema is None:
            self.openapi_schema = completed(super().openapi())
        return self.openapi_schema

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self.doors(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The whole server. Without settings they are read from the environment and hubbub.toml,
    so that `uvicorn --factory entrypoints.asgi:create_app` works as well.

    Raises SettingsError, also for a second port: there is nobody who would open it."""
    settings = settings or load_settings(os.environ, None, {})
    if settings.operations.port is not None:
        raise SettingsError("HUBBUB_OPERATIONS__PORT is opened by `hubbub serve` only")
    return assemble(build_container(settings))


def build_container(settings: Settings) -> Container:
    """Wire everything for these settings."""
    if settings.auth.mode == "open" and not settings.auth.has_key:
        # `/ws/secure` verifies tokens in any mode; without a key of its own nobody has one.
        settings = settings.with_hmac_secret(secrets.token_urlsafe(48))
    container = Container(settings=settings)
    container.check_dependencies()
    return container


def assemble(container: Container, folder: Path | None = None) -> Hubbub:
    """The application around a wired container. `folder` is where workers find each other."""
    node, settings, metrics = container.node(), container.settings(), container.metrics()
    siblings = Siblings(folder, container.node_name())
    sessions = Sessions(container.list_sessions(), siblings, container.node_name())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        telling = siblings.telling(
            {"metrics": lambda _: metrics.render()[0], "sessions": sessions.tell}
        )
        async with telling, asyncio.TaskGroup() as tasks:
            running = tasks.create_task(node.run(), name="node")
            yield
            running.cancel()

    on_one_port = settings.operations.port is None
    app = Hubbub(
        title="hubbub",
        version=version("hubbub"),
        summary="Real-time rooms over WebSocket",
        openapi_url="/openapi.json" if on_one_port else None,
        docs_url="/docs" if settings.show_pages and on_one_port else None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.add_middleware(OriginGuard, policy=container.origins())
    probes = probes_router(node=node, name=container.node_name())
    watching = [metrics_router(metrics=metrics, siblings=siblings), documents_router()]
    app.include_router(probes)
    if on_one_port:
        for router in watching:
            app.include_router(router)
    else:
        app.operations = _operations(container, app, [probes, *watching])
    operations = Operations(_api_cases(container, sessions))
    api = api_routers(operations, container.callers(), settings.limits.frame_bytes)
    for router in api:
        app.include_router(router)
    app.add_exception_handler(HTTPException, NoRoute(api))
    if settings.show_pages:
        app.include_router(page_router(documents=on_one_port))
    gate = _gate(container)
    events = Route("/v1/events", _event_door(container, gate), methods=["GET"])
    app.router.routes.append(events)
    app.doors = Router(_doors(container, gate), default=partial(no_such_door, gate))
    return app


def _operations(container: Container, app: Hubbub, routers: Sequence[APIRouter]) -> FastAPI:
    """What is not for clients, as an application of its own. It has the documents of `app`."""
    found = FastAPI(openapi_url=None, redirect_slashes=False)
    for router in routers:
        found.include_router(router)

    @found.get("/openapi.json")
    async def document() -> JSONResponse:
        return JSONResponse(app.openapi())

    settings = container.settings()
    local = is_loopback(settings.operations.host)
    policy = OriginPolicy((), loopback=False, local=local)  # no page of clients belongs here
    found.add_middleware(OriginGuard, policy=policy)
    found.add_exception_handler(HTTPException, NoRoute([]))
    return found


def _gate(container: Container) -> Gate:
    settings, node = container.settings(), container.node()
    return Gate(
        container.authenticator(),
        container.origins(),
        container.exclusions(),
        open_mode=settings.auth.mode == "open",
        admission=container.admission(),
        metrics=container.metrics(),
        welcome=lambda: not node.draining,
        auth_timeout=settings.limits.auth_timeout,
    )


def _event_door(container: Container, gate: Gate) -> EventDoor:
    return EventDoor(
        gate,
        container.key_ring(),
        container.open_session(),
        container.join_room(),
        container.open_stream(),
    )


def _doors(container: Container, gate: Gate) -> list[WebSocketRoute]:
    settings = container.settings()

    def route(path: str, door: Door) -> WebSocketRoute:
        doorway = Doorway(
            door,
            gate,
            container.open_session(),
            container.open_transport(),
            settings.limits.frame_bytes,
        )
        return WebSocketRoute(path, doorway)

    join, publish = container.join_room(), container.publish_message()
    lobby = RoomDoor(
        gate,
        join,
        publish,
        dialect=Lobby(),
        user_field="client_id",
        room=LOBBY,
        any_json=True,
        greet=True,
    )
    room = RoomDoor(gate, join, publish, dialect=TextRoom(), user_field="user_id")
    scalable = RoomDoor(
        gate, join, publish, dialect=Scalable(), user_field="client_id", room=EVERYBODY
    )
    return [
        route(
            "/v1/ws",
            MainDoor(gate, _use_cases(container), container.metrics(), _told_limits(settings)),
        ),
        route("/ws", EchoDoor(gate)),
        route("/ws/binary", BinaryDoor(gate)),
        route("/ws/secure", SecureDoor(gate)),
        route("/ws/rooms/{room_id}/{user_id}", room),
        route("/ws/scalable/{client_id}", scalable),
        route("/ws/heartbeat/{client_id}", HeartbeatDoor(gate)),
        route("/ws/{client_id}", lobby),  # last, or it would swallow the fixed paths
    ]


def _use_cases(container: Container) -> UseCases:
    open_mode = container.settings().auth.mode == "open"
    return UseCases(
        join=container.join_room(),
        leave=container.leave_room(),
        publish=container.publish_message(),
        history=container.read_history(),
        members=container.list_members(),
        refresh=None if open_mode else container.refresh_token(),
    )


def _api_cases(container: Container, sessions: Sessions) -> Cases:
    return Cases(
        publish=container.publish_message(),
        history=container.read_history(),
        members=container.list_members(),
        rooms=container.list_rooms(),
        describe=container.describe_room(),
        order=container.give_order(),
        sessions=sessions,
        rates=container.request_rates(),
    )


def _told_limits(settings: Settings) -> dict[str, float]:
    limits = settings.limits
    return {
        "frame_bytes": limits.frame_bytes,
        "rooms": limits.rooms_per_connection,
        "messages_per_second": limits.messages_per_second,
        "messages_burst": limits.messages_burst,
        "commands_per_second": limits.commands_per_second,
        "commands_burst": limits.commands_burst,
    }
