"""Rooms of a hubbub server: join, read, publish; nothing lost and nothing twice.

async with connect("ws://127.0.0.1:8000", user="ann") as hub:
    room = await hub.join("chat:lobby", history=20)
    await room.publish({"text": "hello"})
    async for message in room:
        print(message.sender, message.data)
"""

from hubbub_client.errors import (
    ConnectTimeout,
    Disconnected,
    HubbubError,
    OutcomeUnknown,
    Refused,
    RemovedFromRoom,
)
from hubbub_client.hub import Hub, connect
from hubbub_client.messages import (
    Event,
    Gap,
    Joined,
    Left,
    Member,
    Message,
    Page,
    Position,
    Published,
    Recovered,
    Removed,
)
from hubbub_client.room import Room
from hubbub_client.state import State, StateChange

__version__ = "0.1.0"

__all__ = [
    "ConnectTimeout",
    "Disconnected",
    "Event",
    "Gap",
    "Hub",
    "HubbubError",
    "Joined",
    "Left",
    "Member",
    "Message",
    "OutcomeUnknown",
    "Page",
    "Position",
    "Published",
    "Recovered",
    "Refused",
    "Removed",
    "RemovedFromRoom",
    "Room",
    "State",
    "StateChange",
    "connect",
]
