"""Clients of `/v1/ws` that write down what they are told, come back after every cut, and notice
when a promise is broken."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.peer import Frame, Peer, until

_PAUSE = 0.05  # seconds before another try to connect


class RoomLog:
    """One room as one client knows it. `told` are the outcomes that were not `ok`."""

    def __init__(self, room: str) -> None:
        self.room = room
        self.log = ""
        self.seq = 0
        self.ids: dict[int, str] = {}
        self.data: dict[int, Any] = {}
        self.told: list[str] = []
        self.joined = False

    @property
    def position(self) -> dict[str, object] | None:
        return {"log": self.log, "seq": self.seq} if self.log else None

    def standing(self, frame: Frame) -> None:
        """A `joined` or a `resync`."""
        recovery = frame["recovery"]
        outcome = recovery["outcome"]
        if outcome not in ("none", "ok"):
            self.told.append(outcome)
        if outcome == "reset":
            self._forget(above=0)
            self.seq = frame["position"]["seq"] - len(frame["messages"])
        elif outcome == "rewound":
            self._forget(above=recovery["valid_to"])
            self.seq = recovery["valid_to"]
        elif outcome == "gap":
            self.seq = recovery["first"] - 1
        elif outcome == "none":
            self.seq = frame["position"]["seq"] - len(frame["messages"])
        for message in frame["messages"]:
            self._take(message)
        assert self.seq == frame["position"]["seq"], (self.room, self.seq, frame)
        self.log = frame["position"]["log"]
        self.joined = True

    def message(self, frame: Frame) -> None:
        self._take(frame)
        self.log = frame.get("log", self.log)

    def _take(self, message: Frame) -> None:
        assert message["seq"] == self.seq + 1, (self.room, self.seq, message)
        self.seq += 1
        self.ids[self.seq] = message["id"]
        self.data[self.seq] = message["data"]

    def _forget(self, above: int) -> None:
        for seq in [seq for seq in self.ids if seq > above]:
            del self.ids[seq], self.data[seq]


class LogKeeper:
    """One user in some rooms, until `close`. `failure` is the first promise that was broken."""

    def __init__(self, user: str, rooms: list[str], where: Callable[[], str]) -> None:
        """`where` names the server (`ws://host:port`) for the next connection."""
        self.rooms = {room: RoomLog(room) for room in rooms}
        self.user = user
        self.connections = 0
        self._where = where
        self._over = False
        self._peer: Peer | None = None
        self._answers: dict[str, asyncio.Future[Frame]] = {}
        self._running = asyncio.create_task(self._run())

    @property
    def failure(self) -> BaseException | None:
        return self._running.exception() if self._running.done() else None

    def has(self, room: str, data: object) -> bool:
        """Whether a message was received; raises what went wrong, if anything did."""
        if self.failure is not None:
            raise self.failure
        return data in self.rooms[room].data.values()

    async def has_everywhere(self, data: object) -> None:
        """Wait until a message was received in every room."""
        await until(lambda: all(self.has(room, data) for room in self.rooms))

    async def in_all_rooms(self) -> None:
        await until(lambda: self._check() and all(log.joined for log in self.rooms.values()))

    async def publish(self, room: str, data: object, key: str) -> Frame:
        """The ack, asked for with the same key until there is one."""
        while True:
            with suppress(ConnectionClosed):
                if self._peer is not None:
                    reply = await self._ask(self._peer, room, data, key)
                    if reply["type"] == "ack":
                        return reply
                    assert reply["retry"], reply
            self._check()
            await asyncio.sleep(_PAUSE)

    def cut(self) -> None:
        """Lose the connection."""
        if self._peer is not None:
            self._peer.vanish()

    async def close(self) -> None:
        self._over = True
        if self._peer is not None:
            await self._peer.close()
        await self._running

    def _check(self) -> bool:
        if self.failure is not None:
            raise self.failure
        return True

    async def _ask(self, peer: Peer, room: str, data: object, key: str) -> Frame:
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._answers[key] = answer
        await peer.send({"type": "publish", "id": key, "room": room, "data": data, "key": key})
        return await answer

    async def _run(self) -> None:
        while not self._over:
            try:
                peer = await Peer.connect(f"{self._where()}/v1/ws?user={self.user}")
            except (OSError, InvalidHandshake, TimeoutError):
                await asyncio.sleep(_PAUSE)
                continue
            self.connections += 1
            with suppress(ConnectionClosed):
                await self._converse(peer)
            self._end_of_connection()

    def _end_of_connection(self) -> None:
        self._peer = None
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result({"type": "error", "code": "unknown", "retry": True})
        self._answers.clear()

    async def _converse(self, peer: Peer) -> None:
        for log in self.rooms.values():
            asked: dict[str, object] = {"type": "join", "id": log.room, "room": log.room}
            await peer.send(asked | ({"position": log.position} if log.position else {}))
        self._peer = peer
        while True:
            await self._take(peer, await peer.receive(within=60.0))

    async def _take(self, peer: Peer, frame: Frame) -> None:
        log = self.rooms.get(frame.get("room", ""))
        match frame["type"]:
            case "joined" | "resync" if log is not None:
                log.standing(frame)
            case "message" if log is not None and "seq" in frame:
                log.message(frame)
            case "ack" | "error":
                await self._answer(peer, frame)

    async def _answer(self, peer: Peer, frame: Frame) -> None:
        request = frame.get("id")
        if request in self._answers:
            self._answers.pop(request).set_result(frame)
        elif request in self.rooms and frame["type"] == "error":
            assert frame["retry"], frame
            await asyncio.sleep(_PAUSE)
            log = self.rooms[request]
            again: dict[str, object] = {"type": "join", "id": request, "room": request}
            await peer.send(again | ({"position": log.position} if log.position else {}))


def same(logs: list[RoomLog]) -> None:
    """Assert that all who know a seq of a log know the same message, without a hole."""
    truth: dict[int, str] = {}
    for log in logs:
        for seq, message_id in log.ids.items():
            assert truth.setdefault(seq, message_id) == message_id, (log.room, seq)
    ids = list(truth.values())
    assert len(ids) == len(set(ids)), "one message under two numbers"
    assert json.dumps(sorted(truth)) == json.dumps(list(range(min(truth), max(truth) + 1)))
