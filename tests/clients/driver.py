"""The Python client behind JSON lines: commands on stdin, events on stdout. See driving.py.

Run as `python driver.py [--token]`. The end of stdin is the end; nothing may be left by then.
"""

import asyncio
import json
import logging
import sys
from collections.abc import Coroutine
from typing import Any

from hubbub_client import (
    Disconnected,
    Event,
    Gap,
    Hub,
    HubbubError,
    Joined,
    Left,
    Message,
    Recovered,
    Removed,
    Room,
    StateChange,
    connect,
)

Fields = dict[str, Any]


def tell(event: str, **fields: object) -> None:
    told = {name: value for name, value in fields.items() if value is not None}
    sys.stdout.write(json.dumps({"event": event, **told}) + "\n")
    sys.stdout.flush()


class Driver:
    def __init__(self, asks_for_tokens: bool) -> None:
        self._asks_for_tokens = asks_for_tokens
        self._hub: Hub
        self._rooms: dict[str, Room] = {}
        self._tokens: dict[str, asyncio.Future[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def do(self, command: Fields) -> None:
        work = getattr(self, command.pop("do"))(**command)
        if work is not None:
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def connect(self, url: str, options: Fields | None = None) -> None:
        options = dict(options or {})
        token = self._fetch if self._asks_for_tokens else None
        self._hub = connect(url, token, on_state=self._state, proxy=None, **options)
        self._hub.start()

    def _state(self, change: StateChange) -> None:
        tell("state", state=change.state, code=change.code, reason=change.reason)

    async def _fetch(self) -> str:
        ref = f"token-{len(self._tokens) + 1}"
        self._tokens[ref] = asyncio.get_running_loop().create_future()
        tell("need_token", ref=ref)
        return await self._tokens[ref]

    def token(self, ref: str, token: str) -> None:
        if not self._tokens[ref].done():  # the connection it was for may be gone
            self._tokens[ref].set_result(token)

    async def join(self, room: str, history: int = 0) -> None:
        try:
            joined = await self._hub.join(room, history=history)
        except HubbubError as error:
            tell("removed", room=room, code=error.code)
            return
        self._rooms[room] = joined
        tell("joined", room=room)
        try:
            async for event in joined.events():
                tell_of(room, event)
        except Disconnected:
            return  # told as a state
        except HubbubError:
            return  # told as `removed`

    def publish(
        self, room: str, data: object, ref: str, ephemeral: bool = False
    ) -> Coroutine[Any, Any, None]:
        return self._publish(room, data, ref, ephemeral)

    async def _publish(self, room: str, data: object, ref: str, ephemeral: bool) -> None:
        try:
            if ephemeral:
                await self._hub.publish(room, data, ephemeral=True)
                tell("published", ref=ref, duplicate=False)
                return
            at = await self._hub.publish(room, data)
        except HubbubError as error:
            tell("failed", ref=ref, code=error.code)
            return
        position = {"log": at.log, "seq": at.seq}
        tell("published", ref=ref, position=position, duplicate=at.duplicate)

    async def leave(self, room: str) -> None:
        await self._rooms.pop(room).leave()

    async def history(self, room: str, ref: str, before: int | None = None) -> None:
        page = await self._rooms[room].history(before=before)
        messages = [{"seq": m.seq, "id": m.id, "data": m.data} for m in page.messages]
        tell("reply", ref=ref, value={"messages": messages, "more": page.more})

    def members(self, room: str, ref: str) -> None:
        members = self._rooms[room].members
        tell("reply", ref=ref, value=members and [{"user": m.user} for m in members])

    async def close(self) -> None:
        await self._hub.close()

    async def end(self) -> int:
        """Returns the exit code: how many tasks are left."""
        await self._hub.close()
        async with asyncio.timeout(5):
            while self._tasks:
                await asyncio.wait(self._tasks)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            sys.stderr.write(f"left behind: {task!r}\n")
        return len(left)


def tell_of(room: str, event: Event) -> None:
    match event:
        case Message():
            fields = {"seq": event.seq, "id": event.id, "from": event.sender, "data": event.data}
            tell("message", room=room, skipped=event.skipped or None, **fields)
        case Joined():
            tell("join", room=room, user=event.user)
        case Left():
            tell("leave", room=room, user=event.user)
        case Recovered():
            tell("recovered", room=room, count=event.count)
        case Gap():
            told = {"first": event.first, "valid_to": event.valid_to}
            tell("gap", room=room, outcome=event.outcome, **told)
        case Removed():
            tell("removed", room=room, code=event.code)


async def main() -> int:
    logging.basicConfig(level=logging.ERROR)  # what is expected here is worth a warning elsewhere
    lines = asyncio.StreamReader(limit=2**24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    driver = Driver("--token" in sys.argv)
    async for line in lines:
        driver.do(json.loads(line))
    return await driver.end()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
