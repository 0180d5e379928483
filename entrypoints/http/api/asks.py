"""What a backend may ask for: bodies of requests, and operations of a batch.

Checked here is the shape, as told in the OpenAPI document; names, grants and rules are the use
cases' business. A field nobody knows is refused: a typo must not leave an option unset.
"""

from typing import Annotated, Any

from msgspec import Meta, Raw, Struct, field
from msgspec.json import Decoder

from domain.errors import BadFrame, KeyConflict
from domain.timeline import MAX_PAGE_MESSAGES
from entrypoints.wire.canonical import decode
from entrypoints.wire.inbound import Seq
from entrypoints.wire.shapes import Room, User

MAX_OPERATIONS = 100  # of a batch
MAX_ROOMS = 100  # of a broadcast
MAX_KEY = 128  # characters
MAX_REASON = 200  # characters
MAX_INTEGER = 2**53  # every integer up to here is a double, so that no client rounds it
_MAX_SECONDS = 1e11  # beyond that somebody counts milliseconds
PRINTABLE = r"^[ -~]+$"

Key = Annotated[
    str, Meta(min_length=1, max_length=MAX_KEY, extra_json_schema={"pattern": PRINTABLE})
]
Limit = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
Reason = Annotated[str, Meta(max_length=MAX_REASON)]
UnixSeconds = Annotated[float, Meta(ge=0, le=_MAX_SECONDS)]

_ONE_OF = (
    "Of the shapes Publish, History, Members, Describe, Enter, Kick, Disconnect, Block, Unblock, "
    "RevokeToken, RevokeTokens, as `op` says. What is wrong with one is its result."
)


def reference(shape: type[Struct]) -> dict[str, str]:
    """How the OpenAPI document names a shape."""
    return {"$ref": f"#/components/schemas/{shape.__name__}"}


class _Body(Struct, kw_only=True, forbid_unknown_fields=True):
    pass


class _Operation(_Body, tag_field="op"):
    pass


class PublishBody(_Body):
    """A message. `key` makes it happen once, and is not for `ephemeral` ones; `from` is the user
    in whose name it goes out."""

    data: Any
    key: Key | None = None
    sender: User | None = field(name="from", default=None)
    ephemeral: bool = False


class BroadcastBody(PublishBody, kw_only=True):
    """The same message for many rooms, each with the same key."""

    # A name that is none is the matter of one result.
    rooms: Annotated[list[str], Meta(min_length=1, max_length=MAX_ROOMS)]


class ReasonBody(_Body):
    """`reason` is told to the user."""

    reason: Reason = ""


class BlockBody(ReasonBody, kw_only=True):
    until: UnixSeconds


class RevokeTokenBody(_Body):
    """`token_id` is the claim `jti`, `expires_at` the claim `exp`."""

    token_id: Annotated[str, Meta(min_length=1, max_length=256)]
    expires_at: UnixSeconds | None = None


class RevokeTokensBody(_Body):
    """Without `issued_before` it is all tokens until now."""

    issued_before: UnixSeconds | None = None


class Publish(PublishBody, kw_only=True, tag_field="op", tag="publish"):
    room: Room


class History(_Operation, tag="history"):
    """With both `before` and `after`, what lies between."""

    room: Room
    before: Seq | None = None
    after: Seq | None = None
    log: str | None = None
    limit: Limit = MAX_PAGE_MESSAGES


class Members(_Operation, tag="members"):
    room: Room
    after: str | None = None
    limit: Limit = MAX_PAGE_MESSAGES


class Describe(_Operation, tag="room"):
    room: Room


class Enter(_Operation, tag="enter"):
    room: Room
    user: User


class Kick(_Operation, tag="kick"):
    room: Room
    user: User
    reason: Reason = ""


class Disconnect(_Operation, tag="disconnect"):
    user: User
    reason: Reason = ""


class Block(_Operation, tag="block"):
    user: User
    until: UnixSeconds
    reason: Reason = ""


class Unblock(_Operation, tag="unblock"):
    user: User


class RevokeToken(RevokeTokenBody, tag_field="op", tag="revoke_token"):
    pass


class RevokeTokens(RevokeTokensBody, kw_only=True, tag_field="op", tag="revoke_tokens"):
    user: User


OrderAsk = Enter | Kick | Disconnect | Block | Unblock | RevokeToken | RevokeTokens


class BatchBody(_Body):
    """`operations` are carried out one after the other."""

    operations: Annotated[
        list[Annotated[Raw, Meta(description=_ONE_OF)]],
        Meta(min_length=1, max_length=MAX_OPERATIONS),
    ]


ReadAsk = History | Members | Describe
Ask = Publish | ReadAsk | OrderAsk

PUBLISH, BROADCAST, BATCH = Decoder(PublishBody), Decoder(BroadcastBody), Decoder(BatchBody)
REASON, BLOCK = Decoder(ReasonBody), Decoder(BlockBody)
REVOKE_TOKEN, REVOKE_TOKENS = Decoder(RevokeTokenBody), Decoder(RevokeTokensBody)
_OPERATION: Decoder[Ask] = Decoder(Ask)


def operation(raw: Raw) -> Ask:
    """One operation of a batch. Raises BadFrame."""
    return decode(_OPERATION, bytes(raw), "op")


def once(message: PublishBody, header: str | None = None) -> str | None:
    """The key of a message, from its field or the header Idempotency-Key; the header is of no
    matter to an ephemeral one, of which nothing is stored. Raises BadFrame, and KeyConflict for
    two different keys."""
    key = message.key
    for given in (key, header):
        if given is not None and not _is_key(given):
            raise BadFrame(f"a key is 1 to {MAX_KEY} printable ASCII characters")
    if message.ephemeral:
        if key is not None:
            raise BadFrame("`key` and `ephemeral` exclude each other: nothing is stored")
        return None
    if key is not None and header not in (None, key):
        raise KeyConflict("`key` and Idempotency-Key are two different keys")
    return header if key is None else key


def _is_key(text: str) -> bool:
    return text.isascii() and text.isprintable() and 0 < len(text) <= MAX_KEY
