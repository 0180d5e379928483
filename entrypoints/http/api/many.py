"""Several things in one request: a batch of operations, a message for many rooms."""

import logging
from typing import NamedTuple

from msgspec import Raw

from application.publish_message import Outcome
from domain.errors import HubbubError, Internal, MessageTooLarge
from domain.grants import Caller
from entrypoints.http.api import answers
from entrypoints.http.api.asks import (
    BatchBody,
    BroadcastBody,
    Describe,
    History,
    Members,
    Publish,
    once,
    operation,
)
from entrypoints.http.api.operations import Operations
from entrypoints.http.refusals import error_json
from entrypoints.wire.canonical import canonical

logger = logging.getLogger("hubbub.api")

MAX_READ = 1024 * 1024  # bytes of results after which a batch reads nothing more


class _Waiting(NamedTuple):
    room: str
    outcome: Outcome


class _Results:
    """One for each thing asked for, in order: its answer, or its error."""

    def __init__(self, operations: Operations, deadline: float) -> None:
        self._operations = operations
        self._deadline = deadline
        self._each: list[bytes | _Waiting] = []
        self.size = 0

    def add(self, result: bytes | _Waiting) -> None:
        if isinstance(result, bytes):
            self.size += len(result)
        self._each.append(result)

    async def settled(self) -> list[bytes]:
        """All of them, once it is known what came of the messages."""
        each: list[bytes] = []
        for result in self._each:
            if isinstance(result, bytes):
                each.append(result)
                continue
            try:
                settled = self._operations.settle(result.room, result.outcome, self._deadline)
                each.append(await settled)
            except HubbubError as error:
                each.append(error_json(error))
        self._each = [*each]
        return each


async def broadcast(
    operations: Operations, caller: Caller, body: BroadcastBody, header: str | None
) -> bytes:
    """What is wrong with a room is its result. For what is with the message raises BadFrame,
    BadName, Forbidden and KeyConflict."""
    deadline, key, data = operations.deadline(), once(body, header), canonical(body.data)
    caller.speaker(body.sender)
    results = _Results(operations, deadline)
    for room in body.rooms:
        try:
            outcome = await operations.submit(caller, room, body, data, key, deadline)
            results.add(_Waiting(room, outcome))
        except HubbubError as error:
            results.add(error_json(error))
    return answers.results(await results.settled())


async def batch(operations: Operations, caller: Caller, body: BatchBody, limit: int) -> bytes:
    """One after the other; `limit` is the bytes of one. Messages are not waited for before the
    next operation that is none, which finds them published."""
    deadline = operations.deadline()
    results = _Results(operations, deadline)
    for raw in body.operations:
        try:
            results.add(await _begin(operations, caller, raw, limit, results, deadline))
        except HubbubError as error:
            results.add(error_json(error))
        except Exception:
            logger.exception("an operation of a batch ends on an internal error")
            results.add(error_json(Internal("internal error")))
    return answers.results(await results.settled())


async def _begin(
    operations: Operations,
    caller: Caller,
    raw: Raw,
    limit: int,
    results: _Results,
    deadline: float,
) -> bytes | _Waiting:
    if len(bytes(raw)) > limit:
        raise MessageTooLarge(f"an operation may have {limit} bytes")
    ask = operation(raw)
    if isinstance(ask, Publish):
        key, data = once(ask), canonical(ask.data)
        return _Waiting(
            ask.room, await operations.submit(caller, ask.room, ask, data, key, deadline)
        )
    await results.settled()
    if isinstance(ask, (History, Members, Describe)):
        if results.size > MAX_READ:
            raise MessageTooLarge("the results before are too many bytes: ask in another request")
        return await operations.read(caller, ask, deadline)
    return await operations.order(caller, ask, deadline)
