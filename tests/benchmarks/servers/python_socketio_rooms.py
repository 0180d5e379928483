"""Rooms with python-socketio, under uvicorn. The query of the handshake names the room."""

from typing import Any
from urllib.parse import parse_qs

import socketio

sio = socketio.AsyncServer(async_mode="asgi")
app = socketio.ASGIApp(sio)
rooms: dict[str, str] = {}


async def connect(sid: str, environ: dict[str, str]) -> None:
    rooms[sid] = parse_qs(environ["QUERY_STRING"])["room"][0]
    await sio.enter_room(sid, rooms[sid])


async def message(sid: str, data: dict[str, Any]) -> None:
    frame = {"from": "u", "text": data.get("text")}
    await sio.emit("message", frame, room=rooms[sid])


async def disconnect(sid: str, reason: str) -> None:
    rooms.pop(sid, None)


sio.on("connect", connect)
sio.on("message", message)
sio.on("disconnect", disconnect)
