"""A room as WebSocket tutorials write it: a loop of sends."""

from collections import defaultdict

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

app = FastAPI()
rooms: defaultdict[str, dict[str, WebSocket]] = defaultdict(dict)


async def broadcast(room: str, data: object) -> None:
    dead = []
    for user, ws in list(rooms[room].items()):
        try:
            await ws.send_json(data)
        except Exception:
            dead.append(user)
    for user in dead:
        rooms[room].pop(user, None)


@app.websocket("/ws/rooms/{room}/{user}")
async def member(room: str, user: str, ws: WebSocket) -> None:
    await ws.accept()
    rooms[room][user] = ws
    try:
        while True:
            data = await ws.receive_json()
            await broadcast(room, {"type": "message", "from": user, "text": data.get("text")})
    except WebSocketDisconnect:
        rooms[room].pop(user, None)
