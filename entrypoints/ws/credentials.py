"""Where a WebSocket client may put its token."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

SUBPROTOCOL = "hubbub.v1"
_BEARER = "bearer."

Scope = Mapping[str, Any]


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of that (lower-case) name."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return None


def whole_header(scope: Scope, name: bytes) -> str | None:
    """All headers of that (lower-case) name as one, joined by commas (RFC 9110, 5.3)."""
    values = [value.decode("latin-1") for key, value in scope["headers"] if key == name]
    return ", ".join(values) if values else None


def query(scope: Scope, name: str) -> str | None:
    """The first query parameter of that name."""
    text = scope["query_string"].decode("latin-1")
    if name not in text:
        return None
    values = parse_qs(text, keep_blank_values=True).get(name)
    return values[0] if values else None


def token_of(scope: Scope) -> str | None:
    """The token: subprotocol `bearer.<jwt>`, else `Authorization`, else `?token=`."""
    for offered in scope.get("subprotocols") or ():
        if offered.startswith(_BEARER):
            return str(offered[len(_BEARER) :])
    kind, _, credential = (header(scope, b"authorization") or "").partition(" ")
    if kind.lower() == "bearer" and credential:
        return credential.strip()
    return query(scope, "token")


def selected_subprotocol(scope: Scope) -> str | None:
    """The subprotocol to answer with: ours, when it was offered."""
    return SUBPROTOCOL if SUBPROTOCOL in (scope.get("subprotocols") or ()) else None
