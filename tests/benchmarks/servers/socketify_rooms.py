"""Rooms with uWebSockets, driven from Python by socketify. The path names the room."""

import sys
from typing import Any

import orjson
from socketify import App, CompressOptions, OpCode

app = App()


def upgrade(response: Any, request: Any, context: Any) -> None:
    key = request.get_header("sec-websocket-key")
    room = request.get_url()
    response.upgrade(key, "", "", context, room)


def opened(ws: Any) -> None:
    ws.subscribe(ws.get_user_data())


def message(ws: Any, text: str | bytes, opcode: Any) -> None:
    data = orjson.loads(text)
    frame = orjson.dumps({"type": "message", "from": "u", "text": data.get("text")})
    app.publish(ws.get_user_data(), frame, OpCode.TEXT)


app.ws(
    "/*",
    {
        "compression": CompressOptions.DISABLED,
        "max_backpressure": 64 * 1024 * 1024,
        "upgrade": upgrade,
        "open": opened,
        "message": message,
    },
)
app.listen({"port": int(sys.argv[1]), "host": "127.0.0.1"}, lambda _: None)
app.run()
