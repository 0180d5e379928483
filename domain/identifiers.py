"""Names of rooms, users and sessions.

Names are refused, never repaired: two spellings of one room would be two rooms with one look.
"""

import re
from typing import NewType

from domain.errors import BadName

RoomId = NewType("RoomId", str)
UserId = NewType("UserId", str)
SessionId = NewType("SessionId", str)

MAX_NAME = 128
_NAME = re.compile(r"[A-Za-z0-9_.:@~-]{1,128}\Z")
_ALLOWED = "1 to 128 of A-Z a-z 0-9 _ . : @ ~ -"


def user_id(text: str) -> UserId:
    """Check a user name. Raises BadName."""
    if not _NAME.match(text):
        raise BadName(f"a user name is {_ALLOWED}")
    return UserId(text)


def room_id(text: str) -> RoomId:
    """Check a room name. Raises BadName.

    A name beginning with `@` is the personal room of the user named behind it, so it may be one
    character longer than others and must hold a user name.
    """
    name = text[1:] if text[:1] == "@" else text
    if not _NAME.match(name):
        raise BadName(f"a room name is {_ALLOWED}")
    return RoomId(text)


def personal_room(user: UserId) -> RoomId:
    """The room that only `user` may join, read and list."""
    return RoomId(f"@{user}")


def owner(room: RoomId) -> UserId | None:
    """The user a personal room belongs to, or None for any other room."""
    return UserId(room[1:]) if room[0] == "@" else None
