"""The OpenAPI document: shapes from the types that decode, examples that are tried by a test."""

from collections.abc import Sequence
from typing import Any, TypedDict

from msgspec import Struct
from msgspec.json import schema_components

from domain import errors
from domain.errors import HubbubError
from entrypoints.http.api import asks, shapes
from entrypoints.http.api.asks import reference
from entrypoints.http.refusals import JSON, UNPROCESSABLE
from entrypoints.wire.errors import wire_of

_REQUESTS: Sequence[type[Struct]] = (
    asks.PublishBody,
    asks.BroadcastBody,
    asks.ReasonBody,
    asks.BlockBody,
    asks.RevokeTokenBody,
    asks.RevokeTokensBody,
    asks.BatchBody,
    asks.Publish,
    asks.History,
    asks.Members,
    asks.Describe,
    asks.Enter,
    asks.Kick,
    asks.Disconnect,
    asks.Block,
    asks.Unblock,
    asks.RevokeToken,
    asks.RevokeTokens,
)
_ANSWERS: Sequence[type[Struct]] = (
    shapes.Refused,
    shapes.Published,
    shapes.Sent,
    shapes.HistoryPage,
    shapes.MembersPage,
    shapes.RoomsPage,
    shapes.RoomOptions,
    shapes.SessionsPage,
    shapes.Ordered,
    shapes.BroadcastResults,
    shapes.BatchResults,
)
_ALWAYS: Sequence[type[HubbubError]] = (
    errors.BadFrame,
    errors.TokenMissing,
    errors.TokenInvalid,
    errors.TokenExpired,
    errors.TokenRevoked,
    errors.Forbidden,
    errors.RateLimited,
    errors.Internal,
    errors.Unavailable,
)
NAMED: Sequence[type[HubbubError]] = (errors.BadName, errors.NotGranted)
WITH_BODY: Sequence[type[HubbubError]] = (errors.MessageTooLarge,)
BROADCASTING: Sequence[type[HubbubError]] = (*WITH_BODY, errors.BadName, errors.KeyConflict)
PUBLISHING: Sequence[type[HubbubError]] = (
    *NAMED,
    *WITH_BODY,
    errors.NotJoined,
    errors.KeyConflict,
    errors.OutcomeUnknown,
)
ORDERING: Sequence[type[HubbubError]] = (*NAMED, *WITH_BODY, errors.OutcomeUnknown)

_SCHEME = "key"
_WITH_A_KEY = (asks.PublishBody, asks.BroadcastBody, asks.Publish)
_EPHEMERAL_WITH_A_KEY = {
    "required": ["key", "ephemeral"],
    "properties": {"key": {"type": "string"}, "ephemeral": {"const": True}},
}


class Documented(TypedDict):
    """Arguments of a route."""

    status_code: int
    responses: dict[int | str, dict[str, Any]]


def body(shape: type[Struct], example: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """What a route says of the body it takes."""
    content = {JSON: {"schema": reference(shape), "example": example}}
    return {"requestBody": {"required": required, "content": content}}


def answers(
    example: dict[str, Any],
    *shape: type[Struct],
    refused: Sequence[type[HubbubError]],
    status: int = 200,
) -> dict[int | str, dict[str, Any]]:
    """What a route says of its answers: one of these shapes, or an error."""
    told = [reference(each) for each in shape]
    schema = told[0] if len(told) == 1 else {"anyOf": told}
    good = {"description": "Done", "content": {JSON: {"schema": schema, "example": example}}}
    found: dict[int, list[type[HubbubError]]] = {UNPROCESSABLE: [errors.BadFrame]}
    for error in (*_ALWAYS, *refused):
        found.setdefault(wire_of(error("")).status, []).append(error)
    return {status: good, **{each: _refused(found[each]) for each in sorted(found)}}


def _refused(found: Sequence[type[HubbubError]]) -> dict[str, Any]:
    first = found[0]
    example = {"code": first.code, "message": "what is wrong, for people", "retry": first.retry}
    content = {"schema": reference(shapes.Refused), "example": {"error": example}}
    codes = dict.fromkeys(f"`{error.code}`" for error in found)
    return {"description": ", ".join(codes), "content": {JSON: content}}


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's document with the shapes that are named in it, and how to show a key."""
    _, schemas = schema_components(
        [*_REQUESTS, *_ANSWERS], ref_template="#/components/schemas/{name}"
    )
    for shape in _WITH_A_KEY:
        schemas[shape.__name__]["not"] = _EPHEMERAL_WITH_A_KEY
    components = document.setdefault("components", {})
    components["schemas"] = schemas
    components["securitySchemes"] = {
        _SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key, or the token of a user.",
        }
    }
    for path, operations in document["paths"].items():
        if path.startswith("/v1/"):
            for operation in operations.values():
                operation["security"] = [{_SCHEME: []}]
    return document
