"""Publishing from a terminal, each message once however often it has to be sent."""

import random
import secrets
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from entrypoints.remote.problems import Exit, Problem
from entrypoints.remote.server import Server, path

MAX_KEY = 128  # characters
_PATIENCE = 30.0  # seconds for one message to get through, after the first one did
_LONGEST_PAUSE = 5.0


class Wish(NamedTuple):
    """How to publish. `text`: what is given is a text instead of JSON."""

    room: str
    text: bool = False
    key: str | None = None
    ephemeral: bool = False
    sender: str | None = None


class Done(msgspec.Struct, omit_defaults=True):
    """What the server answers: `seq` is None for an ephemeral message."""

    room: str
    seq: int | None = None
    log: str | None = None
    message_id: str | None = None
    duplicate: bool = False
    ephemeral: bool = False


def checked(wish: Wish) -> Wish:
    """Raises Problem for what cannot go together."""
    if wish.key is None:
        return wish
    if wish.ephemeral:
        raise Problem("--key and --ephemeral exclude each other: nothing is stored", Exit.USAGE)
    if not (wish.key.isascii() and wish.key.isprintable() and 0 < len(wish.key) <= MAX_KEY):
        raise Problem(f"--key takes 1 to {MAX_KEY} printable ASCII characters", Exit.USAGE)
    return wish


def body_of(wish: Wish, given: str, where: str) -> dict[str, Any]:
    """The body of a request, but for its key. `where` is what was given where, for people. Raises
    Problem for what is no JSON."""
    try:
        given.encode()
    except UnicodeEncodeError:
        raise Problem(f"{where} is not UTF-8 text", Exit.USAGE) from None
    body: dict[str, Any] = {"data": {"text": given} if wish.text else _json(given, where)}
    if wish.ephemeral:
        body["ephemeral"] = True
    if wish.sender is not None:
        body["from"] = wish.sender
    return body


def _json(given: str, where: str) -> msgspec.Raw:
    """As it was written: whether it may be passed on is the server's business."""
    try:
        msgspec.json.decode(given)
        return msgspec.Raw(given.encode())
    except (msgspec.DecodeError, RecursionError) as error:
        text = f"{where} is not JSON ({error}): quote it, or pass --text for plain text"
        raise Problem(text, Exit.USAGE) from None


class Publisher:
    """Sends one message after the other."""

    def __init__(
        self,
        server: Server,
        wish: Wish,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._path = path("rooms", wish.room, "messages")
        self._wish = wish
        self._sleep = sleep
        self._clock = clock
        self._reached = False

    def __call__(self, body: dict[str, Any], key: str | None = None) -> Done:
        """Tries again what may succeed yet; with the same key, so that it happens once. Raises
        Problem."""
        if not self._wish.ephemeral:
            body = {**body, "key": key or secrets.token_hex(12)}
        content = msgspec.json.encode(body)
        until, pause = self._clock() + _PATIENCE, 0.1
        while True:
            try:
                answer = self._server.ask("POST", self._path, Done, content=content)
            except Problem as problem:
                wait = max(problem.retry or 0, pause * random.uniform(0.5, 1))
                if not self._may_repeat(problem) or self._clock() + wait > until:
                    raise
                self._sleep(wait)
                pause = min(_LONGEST_PAUSE, pause * 2)
            else:
                self._reached = True
                return answer

    def _may_repeat(self, problem: Problem) -> bool:
        if problem.code is Exit.UNREACHABLE:
            # Without an answer an ephemeral message may have gone out; and where there was none
            # yet, most likely the address is wrong.
            return self._reached and not self._wish.ephemeral
        return problem.retry is not None
