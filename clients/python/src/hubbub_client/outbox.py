"""Frames of ours whose replies are waited for, over as many connections as that takes."""

import heapq
import itertools
from collections.abc import Collection

from hubbub_client.backoff import Backoff
from hubbub_client.clock import Moment
from hubbub_client.command import Command, Kind, Lost, Outcome
from hubbub_client.errors import HubbubError, OutcomeUnknown, Refused
from hubbub_client.messages import Frame
from hubbub_client.pace import Pace

KEY_LIFE = 290.0  # seconds; the server remembers a key for 300, and a frame takes its time
_WINDOW = 128  # frames of a connection that wait for their replies at a time
_STALE = 64  # withdrawn commands that a queue may hold, and twice as many as there are others
_NOT_DONE = {"rate_limited", "unavailable", "over_capacity"}  # whatever else may be tried again


class Outbox:
    """Commands by their numbers, which are the ids of their frames."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._commands: dict[int, Command] = {}
        self._queues: dict[Kind, list[tuple[tuple[bool, int], Command]]] = {k: [] for k in Kind}
        self._paces = {kind: Pace() for kind in Kind}
        self._underway: dict[int, Command] = {}  # in the order sent
        self._numbers = itertools.count(1)
        self.frame_limit: float | None = None  # bytes

    def number(self) -> int:
        """A fresh id for a frame."""
        return next(self._numbers)

    def pace(self, kind: Kind, rate: float, burst: float) -> None:
        """Obey the limits of a new connection."""
        self._paces[kind] = Pace(rate, burst)

    def add(self, command: Command) -> None:
        self._commands[command.id] = command
        self._queue(command)

    def withdraw(self, command: Command) -> None:
        """Forget it: it is not sent (again), and its reply is nobody's business."""
        self._commands.pop(command.id, None)
        self._underway.pop(command.id, None)
        command.text = ""
        queue = self._queues[command.kind]
        if len(queue) > _STALE + 2 * len(self._commands):
            queue[:] = [item for item in queue if item[1].id in self._commands]
            heapq.heapify(queue)

    def takes(self, kind: Kind, now: Moment) -> bool:
        """Whether an urgent command goes out now, and not when there is room for it."""
        queue = self._queues[kind]
        urgent = bool(queue) and queue[0][1].urgent
        ahead = sum(command.urgent for _, command in queue) if urgent else 0
        full = len(self._underway) + ahead >= _WINDOW
        return not full and not self._paces[kind].wait(now.steady, ahead)

    @property
    def waiting_since(self) -> Moment | None:
        """When the oldest of those frames was sent that wait for their reply."""
        for command in self._underway.values():
            return command.sent_at
        return None

    def next(self, now: Moment, blocked: Collection[str]) -> tuple[Command | None, float | None]:
        """The next frame to send, marked as sent; or else the seconds until there may be one,
        None if something has to happen first. Rooms in `blocked` have to wait."""
        if len(self._underway) >= _WINDOW:
            return None, None
        soonest: float | None = None
        for kind in Kind:
            wait: float | None = self._paces[kind].wait(now.steady)
            if not wait:
                command, wait = self._pop(kind, now, blocked)
                if command is not None:
                    return command, None
            elif not self._queues[kind]:
                continue
            if wait is not None:
                soonest = wait if soonest is None else min(soonest, wait)
        return None, soonest

    def _pop(
        self, kind: Kind, now: Moment, blocked: Collection[str]
    ) -> tuple[Command | None, float | None]:
        queue, passed_over = self._queues[kind], []
        found, soonest = None, None
        while queue and found is None:
            rank, command = heapq.heappop(queue)
            if command.id not in self._commands:
                continue
            if (fault := self.fault(command, now)) is not None:
                self._settle(command, fault)
            elif command.room in blocked and not command.urgent:
                passed_over.append((rank, command))
            elif command.not_before > now.steady:
                passed_over.append((rank, command))
                wait = command.not_before - now.steady
                soonest = wait if soonest is None else min(soonest, wait)
            else:
                found = command
        for item in passed_over:
            heapq.heappush(queue, item)
        if found is not None:
            self._mark_sent(found, now)
        return found, soonest

    def _mark_sent(self, command: Command, now: Moment) -> None:
        command.sent_at = now
        self._underway[command.id] = command
        self._paces[command.kind].sent(now.steady)

    def replied(self, frame: Frame, now: Moment) -> None:
        """Hand a reply to whoever waits for it. Others are ignored: their sender has given up."""
        command = self._underway.pop(frame.get("id", 0), None)
        if command is None:
            return
        if frame["type"] != "error":
            self._settle(command, frame)
            return
        self._refused(command, frame, now)

    def _refused(self, command: Command, frame: Frame, now: Moment) -> None:
        error = Refused(frame["code"], frame.get("message", ""), retry=frame["retry"])
        delay = frame.get("retry_after")
        if error.code == "rate_limited" and delay is not None:
            self._paces[command.kind].hold(now.steady + delay)
        if not error.retry or (command.kind is Kind.PUBLISH and not command.lasting):
            self._settle(command, error)
            return
        if error.code not in _NOT_DONE:
            self._uncertain(command)
        wait = self._backoff.wait(command.tries) if delay is None else delay
        command.not_before = now.steady + wait
        command.tries += 1
        self._queue(command)

    def lost(self) -> None:
        """The connection is gone: what lasts is sent again on the next one, in the old order."""
        underway, self._underway = self._underway, {}
        for command in underway.values():
            self._uncertain(command)
            self._queue(command)
        for command in [c for c in self._commands.values() if not c.lasting]:
            self._settle(command, Lost())

    def keys_forgotten(self, room: str) -> None:
        """The room's log is another one: what may be in the old one is not for us to repeat."""
        for command in list(self._commands.values()):
            if (
                command.room == room
                and command.uncertain_since is not None
                and command.kind is Kind.PUBLISH
            ):
                self._underway.pop(command.id, None)
                self._settle(command, OutcomeUnknown("the room has another log by now"))

    def end(self, error: HubbubError) -> None:
        """Nothing is sent any more; to be called after `lost`."""
        for command in list(self._commands.values()):
            sent = command.kind is Kind.PUBLISH and command.uncertain_since is not None
            self._settle(command, OutcomeUnknown(str(error)) if sent else error)

    def _settle(self, command: Command, outcome: Outcome) -> None:
        del self._commands[command.id]
        command.reply(outcome)

    def _queue(self, command: Command) -> None:
        heapq.heappush(self._queues[command.kind], (command.rank, command))

    def _uncertain(self, command: Command) -> None:
        if command.uncertain_since is None:
            command.uncertain_since = command.sent_at

    def fault(self, command: Command, now: Moment) -> HubbubError | None:
        """Why a command cannot be sent (again)."""
        limit, since = self.frame_limit, command.uncertain_since
        if limit is not None and command.size > limit:
            # The server would not read it, and so not say which one it was.
            return Refused("message_too_large", f"{command.size} bytes; a frame may have {limit}")
        if command.kind is Kind.PUBLISH and since is not None and now.since(since) > KEY_LIFE:
            return OutcomeUnknown("no answer within five minutes of the first try")
        return None
