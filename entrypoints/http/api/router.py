"""The HTTP API, put together."""

from fastapi import APIRouter

from entrypoints.http.api.callers import Callers
from entrypoints.http.api.many_routes import several
from entrypoints.http.api.operations import Operations
from entrypoints.http.api.order_routes import managing_rooms, managing_users, revoking
from entrypoints.http.api.room_routes import looking, publishing
from entrypoints.http.api.session_routes import watching


def api_routers(operations: Operations, callers: Callers, limit: int) -> list[APIRouter]:
    """In the order of the document. `limit`: bytes of a body with one message."""
    return [
        publishing(operations, callers, limit),
        several(operations, callers, limit),
        looking(operations, callers),
        managing_rooms(operations, callers),
        managing_users(operations, callers, limit),
        revoking(operations, callers, limit),
        watching(operations, callers),
    ]
