"""What somebody asks for who opens an event stream."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import parse_qs

from domain.errors import BadFrame, TooManyRooms
from domain.identifiers import RoomId, UserId, room_id, user_id
from entrypoints.wire.event_ids import OUT, read_id
from entrypoints.ws.credentials import Scope, header

MAX_ROOMS = 16  # of one stream
_MAX_FIELDS = 64  # of an address; every room is one
_MAX_DIGITS = 9

_Fields = Mapping[str, Sequence[str]]


class EventRequest(NamedTuple):
    """`marks` say where to go on, one for each room. `over`: a browser came back that was told to
    stay away. `history`: messages to begin with in rooms where no mark leads on."""

    rooms: tuple[RoomId, ...]
    marks: tuple[bytes, ...]
    over: bool
    presence: bool
    history: int
    user: UserId | None


def read_request(scope: Scope) -> EventRequest:
    """Raises BadFrame, BadName, TooManyRooms."""
    fields = _fields(scope)
    rooms = _rooms(fields)
    returned = header(scope, b"last-event-id")
    resume = read_id(returned or _one(fields, "last_event_id") or "", len(rooms))
    name = _one(fields, "user")
    return EventRequest(
        rooms,
        resume.marks,
        bool(returned) and (resume.over or set(resume.marks) == {OUT}),
        _flag(fields, "presence"),
        _count(fields, "history"),
        None if name is None else user_id(name),
    )


def _fields(scope: Scope) -> _Fields:
    try:
        text = scope["query_string"].decode("latin-1")
        return parse_qs(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise BadFrame(f"an address may have {_MAX_FIELDS} fields") from None


def _rooms(fields: _Fields) -> tuple[RoomId, ...]:
    rooms = tuple(dict.fromkeys(map(room_id, fields.get("room", ()))))
    if not rooms:
        raise BadFrame("which rooms? Name each as `room`")
    if len(rooms) > MAX_ROOMS:
        raise TooManyRooms(f"a stream may have {MAX_ROOMS} rooms")
    return rooms


def _one(fields: _Fields, name: str) -> str | None:
    values = fields.get(name)
    return values[0] if values else None


def _flag(fields: _Fields, name: str) -> bool:
    value = _one(fields, name) or "0"
    if value not in ("0", "1"):
        raise BadFrame(f"`{name}` is 0 or 1")
    return value == "1"


def _count(fields: _Fields, name: str) -> int:
    value = _one(fields, name) or "0"
    if not (value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS):
        raise BadFrame(f"`{name}` is a number of messages")
    return int(value)
