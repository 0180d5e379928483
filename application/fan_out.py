"""Frames from one message to every member of a room: the hot path.

Its rules:
- a frame is encoded once per dialect, and the same bytes go to every member who speaks it;
- nothing is awaited, created or looked up per recipient;
- frames of one loop turn are joined once per group, and each member gets them in one push;
- before a member enters or leaves a group, the group is flushed: a member sees exactly the
  messages delivered between its entry and its exit.
"""

import asyncio
import time
from collections.abc import Callable

from application.live_room import Group, LiveRoom
from application.ports.encoding import Dialect
from application.ports.metrics import Metrics
from application.sampling import Sampling
from application.session import Membership
from domain.message import Message


class FanOut:
    """Sends to the live members of rooms. One for a hub."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.perf_counter) -> None:
        """`clock`: seconds, finer than the loop's."""
        self._metrics = metrics
        self._clock = clock
        self._dirty: list[Group] = []
        self._began = 0.0  # when the first of them got something in this turn
        self._sampling = Sampling()

    def add(self, live: LiveRoom, membership: Membership) -> None:
        """Take a member live: it gets what is delivered from now on."""
        session = membership.session
        group = live.groups.get(session.dialect)
        if group is None:
            group = live.groups[session.dialect] = Group(session.dialect)
        self.flush_group(group)
        group.transports[session.transport] = membership
        membership.live = True

    def remove(self, live: LiveRoom, membership: Membership) -> None:
        """Deliver no more to a member. What was delivered before is still sent to it."""
        if not membership.live:
            return
        group = live.group_of(membership)
        self.flush_group(group)
        self.send_held(membership)
        del group.transports[membership.session.transport]
        if not group.transports:
            del live.groups[group.dialect]
        membership.live = False

    def deliver(self, live: LiveRoom, message: Message) -> None:
        """Send a message to every live member but the one it skips."""
        if live.room.options.conflate:
            self._conflate(live, message)
            return
        skipped = None if message.skip is None else live.memberships.get(message.skip)
        for group in live.groups.values():
            frame = group.dialect.message(message)
            if frame is None:
                continue
            if skipped is not None and skipped.session.transport in group.transports:
                self._send_to_others(group, frame, skipped)
            elif group.queue(frame):
                self._mark(group)

    def broadcast(self, live: LiveRoom, frame_of: Callable[[Dialect], bytes | None]) -> None:
        """Send every live member what `frame_of` makes of its dialect."""
        for group in live.groups.values():
            frame = frame_of(group.dialect)
            if frame is not None and group.notify(frame):
                self._mark(group)

    def send_held(self, membership: Membership) -> None:
        """Send a member of a conflating room the newest message that is held back from it."""
        taken = membership.take_held()
        if taken is None:
            return
        message, skipped = taken
        self._metrics.count("conflated", skipped)
        self._metrics.count("deliveries", label="message")
        membership.session.send(membership.session.dialect.message(message, skipped))

    def flush(self) -> None:
        """Send what was delivered in this loop turn."""
        dirty, self._dirty = self._dirty, []
        for group in dirty:
            self.flush_group(group)
        if self._sampling.due(self._began):
            # Behind the writing, which the transports have put off until after this.
            asyncio.get_running_loop().call_soon(self._written, self._began)

    def _written(self, began: float) -> None:
        self._metrics.observe("fan_out_seconds", self._clock() - began)

    def flush_group(self, group: Group) -> None:
        sent = group.flush()
        if sent:
            self._metrics.count("deliveries", sent, "message")
        if group.told:
            self._metrics.count("deliveries", group.told, "notice")
            group.told = 0

    def _mark(self, group: Group) -> None:
        self._dirty.append(group)
        if len(self._dirty) == 1:
            self._began = self._clock()
            asyncio.get_running_loop().call_soon(self.flush)

    def _send_to_others(self, group: Group, frame: bytes, skipped: Membership) -> None:
        self.flush_group(group)
        for transport, membership in group.transports.items():
            if membership is not skipped:
                transport.push(frame)
        self._metrics.count("deliveries", len(group.transports) - 1, "message")

    def _conflate(self, live: LiveRoom, message: Message) -> None:
        """Members who keep up get every message; the others the newest once they can take it, and
        no ephemeral ones, which are delivered now or never."""
        for group in live.groups.values():
            frame = group.dialect.message(message)
            if frame is None:
                continue
            self.flush_group(group)
            sent = 0
            for transport, membership in group.transports.items():
                if message.skip == membership.session.id:
                    continue
                if membership.held is None and transport.idle:
                    transport.push(frame)
                    sent += 1
                elif message.seq:
                    membership.hold_back(message)
            self._metrics.count("deliveries", sent, "message")
