"""Examples in the OpenAPI document. A test sends and checks them."""

from typing import Any

MESSAGE: dict[str, Any] = {"data": {"text": "hello"}, "from": "ann", "key": "order-4711"}
BROADCAST = {"rooms": ["chat:tea", "staff"], **MESSAGE}
BATCH = {
    "operations": [
        {"op": "publish", "room": "chat:tea", "data": {"text": "hello"}},
        {"op": "history", "room": "chat:tea", "limit": 10},
        {"op": "kick", "room": "chat:tea", "user": "bob", "reason": "be nice"},
    ]
}
REASON = {"reason": "be nice"}
BLOCK = {"until": 1767312000, "reason": "be nice"}
REVOKE_TOKEN = {"token_id": "f3b0", "expires_at": 1767312000}
REVOKE_TOKENS = {"issued_before": 1767225600}

PUBLISHED = {
    "room": "chat:tea",
    "seq": 43,
    "log": "9f1c33.5be0",
    "message_id": "b2c3d4e7",
    "duplicate": False,
}
HISTORY = {
    "room": "chat:tea",
    "log": "9f1c33.5be0",
    "messages": [
        {
            "seq": 43,
            "id": "b2c3d4e7",
            "from": "ann",
            "data": {"text": "hello"},
            "ts": 1767225602.5,
        }
    ],
    "more": False,
}
MEMBERS = {
    "room": "chat:tea",
    "members": [{"user": "ann", "info": {"name": "Ann"}, "sessions": 2}],
    "count": 1,
    "version": 7,
    "more": False,
}
ROOMS = {"rooms": [{"room": "chat:tea", "count": 1}], "more": False}
OPTIONS = {
    "room": "chat:tea",
    "options": {
        "history_size": 100,
        "history_ttl": 600.0,
        "presence": "list",
        "presence_limit": 200,
        "publish": "granted",
        "max_members": None,
        "rate": None,
        "conflate": False,
    },
}
SESSIONS = {
    "node": "rooms-1-5be09f1c",
    "count": 812,
    "sessions": [
        {
            "session_id": "kq3V0m9w1ZpT4x7c",
            "user": "bob",
            "door": "/v1/ws",
            "address": "203.0.113.7",
            "rooms": 2,
            "waiting": 734003,
            "age": 61.25,
            "node": "rooms-1-5be09f1c",
        }
    ],
}
REFUSED = {
    "error": {"code": "not_granted", "message": "no grant to publish to staff", "retry": False}
}
BROADCAST_RESULTS = {"results": [PUBLISHED, REFUSED]}
BATCH_RESULTS = {"results": [PUBLISHED, HISTORY, {"ordered": "kick"}]}
