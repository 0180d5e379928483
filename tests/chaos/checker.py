"""Decides from a history, room by room, whether a promise was broken.

It knows nothing of the server but what PROTOCOL.md promises: equal (log, seq) are equal messages; a
client sees consecutive seqs unless it is told; at the end everybody has what the store has.

What may be lost where is not known here: an acknowledged message that the store has no more is
`acked_lost`, which a fault may excuse. That somebody saw it and was not told is never excused.
"""

import sys
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.chaos.history import (
    Acked,
    AnyEvent,
    Delivered,
    End,
    Failed,
    Fault,
    Invoked,
    Kept,
    Told,
    Unknown,
    read,
)

KINDS = {
    "phantom": "a message that nobody had published",
    "silent_gap": "a seq was left out, and nothing was told",
    "duplicate": "a client was given a message it had",
    "reorder": "a client was given another message below one it had",
    "divergence": "one position, two messages",
    "log_hole": "the store's log leaves out a seq",
    "applied_twice": "one publish, two places",
    "failure_applied": "it was said that it was not done, and it was",
    "acked_lost": "acknowledged, and the store does not have it",
    "lost_untold": "a client has what the store lost, and was not told",
    "told_wrongly": "a client was told of a loss that was none",
    "missing": "the store has it, a client does not, and was not told",
    "stale_end": "everything was quiet, and a client was not at the end of the log",
    "real_time": "acknowledged before another was begun, and numbered after it",
}
_EXCUSABLE = "acked_lost"


class Finding(NamedTuple):
    """A broken promise. `kind` is one of KINDS."""

    kind: str
    room: str
    text: str


@dataclass
class Verdict:
    """What was found, and figures. `told` counts outcomes; `lost` are acknowledged ops that the
    store has no more, `unseen` those of them that no client had been given."""

    findings: list[Finding] = field(default_factory=list)
    published: int = 0
    acked: int = 0
    failed: int = 0
    unknown: int = 0
    unknown_applied: int = 0
    delivered: int = 0
    lost: set[str] = field(default_factory=set)
    unseen: set[str] = field(default_factory=set)
    withdrawn: set[str] = field(default_factory=set)
    told: Counter[str] = field(default_factory=Counter)
    delays: list[float] = field(default_factory=list)

    def bad(self, *, may_lose: bool = False) -> list[Finding]:
        """What counts. `may_lose`: the fault is one that acknowledged messages may be lost by."""
        return [one for one in self.findings if not (may_lose and one.kind == _EXCUSABLE)]

    def count(self, kind: str) -> int:
        return sum(one.kind == kind for one in self.findings)


def check(events: Iterable[AnyEvent]) -> Verdict:
    """Judge a whole history; its events may be in any order but that of each client's own."""
    rooms: dict[str, _Room] = {}
    publishes = _Publishes()
    faults = []
    for event in events:
        if isinstance(event, Invoked | Acked | Failed | Unknown):
            publishes.take(event)
        elif isinstance(event, Delivered | Told | End | Kept):
            rooms.setdefault(event.room, _Room(event.room)).events.append(event)
        elif isinstance(event, Fault):
            faults.append(event.t)
    verdict = Verdict()
    publishes.count(verdict)
    for name in sorted(rooms.keys() | set(publishes.rooms.values())):
        rooms.setdefault(name, _Room(name)).judge(publishes, verdict)
    verdict.delays = _delays(publishes, rooms, faults)
    return verdict


class _Publishes:
    """What was wanted, and what was answered, by op."""

    def __init__(self) -> None:
        self.rooms: dict[str, str] = {}
        self.begun: dict[str, int] = {}
        self.acked: dict[str, Acked] = {}
        self.failed: set[str] = set()
        self.unknown: set[str] = set()

    def take(self, event: Invoked | Acked | Failed | Unknown) -> None:
        if isinstance(event, Invoked):
            self.rooms[event.op] = event.room
            self.begun.setdefault(event.op, event.t)
        elif isinstance(event, Acked):
            self.acked[event.op] = event
        else:
            (self.failed if isinstance(event, Failed) else self.unknown).add(event.op)

    def count(self, verdict: Verdict) -> None:
        verdict.published = len(self.rooms)
        verdict.acked = len(self.acked)
        verdict.failed = len(self.failed)
        # What was never answered is not known either.
        verdict.unknown = verdict.published - verdict.acked - verdict.failed


class _View:
    """A room as one client knows it. `unasked` is the seq its first message came after."""

    def __init__(self, who: str) -> None:
        self.who = who
        self.log = ""
        self.seq = 0
        self.unasked = 0
        self.messages: dict[int, Delivered] = {}
        self.ids: dict[str, int] = {}
        self.gaps: list[range] = []
        self.withdrawn: list[Delivered] = []
        self.end: End | None = None

    def forget(self, above: int) -> None:
        for seq in [seq for seq in self.messages if seq > above]:
            gone = self.messages.pop(seq)
            self.ids.pop(gone.id, None)
            self.withdrawn.append(gone)

    def owes(self, seq: int) -> bool:
        """Whether it should have this one."""
        return seq > self.unasked and not any(seq in gap for gap in self.gaps)


class _Room:
    """The events of one room, and what follows from them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.events: list[Delivered | Told | End | Kept] = []
        self._views: dict[str, _View] = {}
        self._kept: dict[int, Kept] = {}
        self._places: dict[tuple[str, int], str] = {}  # the id at each position
        self._found: list[Finding] = []

    def judge(self, publishes: _Publishes, verdict: Verdict) -> None:
        for event in self.events:
            if isinstance(event, Kept):
                self._keep(event)
        for event in self.events:
            if isinstance(event, Delivered):
                self._deliver(self._view(event.who), event, publishes)
                verdict.delivered += 1
            elif isinstance(event, Told):
                self._tell(self._view(event.who), event)
                verdict.told[event.outcome] += 1
            elif isinstance(event, End):
                self._view(event.who).end = event
        self._judge_store(publishes)
        self._judge_acks(publishes, verdict)
        for view in self._views.values():
            self._judge_end(view)
            verdict.withdrawn |= {gone.op for gone in view.withdrawn}
        applied = {kept.op for kept in self._kept.values()}
        verdict.unknown_applied += len(applied - publishes.acked.keys())
        verdict.findings += self._found

    def _find(self, kind: str, text: str) -> None:
        assert kind in KINDS
        self._found.append(Finding(kind, self.name, text))

    def _view(self, who: str) -> _View:
        return self._views.setdefault(who, _View(who))

    # As it went

    def _keep(self, kept: Kept) -> None:
        self._place(kept.log, kept.seq, kept.id, "the store")
        self._kept[kept.seq] = kept

    def _place(self, log: str, seq: int, id_: str, whose: str) -> None:
        known = self._places.setdefault((log, seq), id_)
        if known != id_:
            self._find("divergence", f"{log}/{seq} is {known}, and {id_} for {whose}")

    def _deliver(self, view: _View, got: Delivered, publishes: _Publishes) -> None:
        where = f"{got.who} at {view.seq} got {got.seq} ({got.op})"
        begun = publishes.begun.get(got.op)
        if publishes.rooms.get(got.op) != self.name or begun is None or got.t < begun:
            self._find("phantom", where)
        if got.op in publishes.failed:
            self._find("failure_applied", where)
        self._place(got.log, got.seq, got.id, got.who)
        view.log = got.log
        if got.id in view.ids:
            self._find("duplicate", f"{where}, which it had as {view.ids[got.id]}")
            return
        if got.seq <= view.seq:
            self._find("reorder", where)
        elif got.seq > view.seq + 1:
            self._find("silent_gap", where)
        view.seq = max(view.seq, got.seq)
        view.messages[got.seq] = got
        view.ids[got.id] = got.seq

    def _tell(self, view: _View, told: Told) -> None:
        if told.outcome == "reset":
            view.forget(above=0)
            view.gaps.clear()
            view.unasked = told.seq
        elif told.outcome == "rewound":
            view.forget(above=told.seq if told.valid_to is None else told.valid_to)
        elif told.outcome == "gap":
            view.gaps.append(range(view.seq + 1, told.seq + 1))
        elif told.outcome == "none":
            view.unasked = told.seq
            view.messages.clear()
            view.ids.clear()
        elif told.seq > view.seq:
            self._find("silent_gap", f"{told.who} at {view.seq} goes on after {told.seq}")
        elif told.seq < view.seq:
            self._find("reorder", f"{told.who} at {view.seq} goes on after {told.seq}")
        view.seq, view.log = told.seq, told.log

    # In the end

    @property
    def _floor(self) -> int:
        """The store keeps nothing up to this seq."""
        return min(self._kept, default=1) - 1

    @property
    def _top(self) -> int:
        return max(self._kept, default=0)

    def _judge_store(self, publishes: _Publishes) -> None:
        ops: dict[str, int] = {}
        finish = float("inf")  # of anything numbered later
        for seq in range(self._top, self._floor, -1):
            kept = self._kept.get(seq)
            if kept is None:
                self._find("log_hole", f"{seq} of {self._floor + 1} to {self._top}")
                continue
            if publishes.rooms.get(kept.op) != self.name:
                self._find("phantom", f"the store has {kept.op} at {seq}")
                continue
            if kept.op in ops:
                self._find("applied_twice", f"{kept.op} is at {seq} and at {ops[kept.op]}")
            if kept.op in publishes.failed:
                self._find("failure_applied", f"the store has {kept.op} at {seq}")
            ops[kept.op] = seq
            if finish < publishes.begun[kept.op]:
                self._find("real_time", f"{kept.op} at {seq} was begun after a later one was done")
            acked = publishes.acked.get(kept.op)
            if acked is not None:
                finish = min(finish, acked.t)

    def _judge_acks(self, publishes: _Publishes, verdict: Verdict) -> None:
        stored = {kept.id for kept in self._kept.values()}
        seen: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for view in self._views.values():
            for message in (*view.messages.values(), *view.withdrawn):
                seen[message.id].append((message.seq, view.who))
        for op, acked in publishes.acked.items():
            if publishes.rooms.get(op) != self.name:
                continue
            self._place(acked.log, acked.seq, acked.id, acked.who)
            if acked.id in stored or acked.seq <= self._floor:
                continue
            verdict.lost.add(op)
            if acked.id not in seen:
                verdict.unseen.add(op)
            self._find("acked_lost", f"{op} had {acked.log}/{acked.seq}")

    def _judge_end(self, view: _View) -> None:
        ids = {kept.id: seq for seq, kept in self._kept.items()}
        for gone in view.withdrawn:
            if gone.id in ids and not self._was_repeated(gone, self._kept[ids[gone.id]]):
                self._find("told_wrongly", f"{view.who} was to forget {gone.seq} ({gone.op})")
        for seq, message in view.messages.items():
            self._compare(view, seq, message, ids)
        for gap in view.gaps:
            if any(seq in self._kept for seq in gap):
                self._find("told_wrongly", f"{view.who} was told that {gap} is not kept")
        if view.end is None:
            return
        if self._kept and view.end.seq != self._top:
            self._find("stale_end", f"{view.who} is at {view.end.seq}, the log at {self._top}")
        for seq in range(self._floor + 1, self._top + 1):
            if seq in self._kept and seq not in view.messages and view.owes(seq):
                self._find("missing", f"{view.who} does not have {seq} ({self._kept[seq].op})")

    def _was_repeated(self, gone: Delivered, kept: Kept) -> bool:
        """A publish without an answer is repeated, perhaps to another reign of the store: then it
        is a message of that one, although it looks the same."""
        begins = [one.log for _, one in sorted(self._kept.items())]
        return gone.log != kept.log and (
            gone.log not in begins or begins.index(gone.log) < begins.index(kept.log)
        )

    def _compare(self, view: _View, seq: int, has: Delivered, ids: dict[str, int]) -> None:
        kept = self._kept.get(seq)
        if seq <= self._floor or (kept is not None and kept.id == has.id):
            return
        if has.id in ids:
            text = f"{view.who} has {has.op} at {seq}, the store at {ids[has.id]}"
            self._find("divergence", text)
        else:
            self._find("lost_untold", f"{view.who} still has {has.op} at {seq}")

    def deliveries(self) -> Iterator[Delivered]:
        return (event for event in self.events if isinstance(event, Delivered))


def _delays(publishes: _Publishes, rooms: dict[str, _Room], faults: list[int]) -> list[float]:
    """How long the slowest message took to a client, from the first try to publish it: in seconds,
    one for each fault and client that was given anything published from then on."""
    begins = sorted(faults)
    worst: dict[tuple[int, str], float] = {}
    for room in rooms.values():
        for got in room.deliveries():
            begun = publishes.begun.get(got.op, 0)
            fault = bisect_right(begins, begun)
            if begun and (fault or not begins):
                place = (fault, got.who)
                worst[place] = max(worst.get(place, 0.0), (got.t - begun) / 1e9)
    return sorted(worst.values())


def main(paths: Sequence[str]) -> int:
    """Judge histories in files and print what was found. 1 when there is anything."""
    found = 0
    for path in paths:
        verdict = check(read(Path(path)))
        found += len(verdict.findings)
        for finding in verdict.findings:
            sys.stdout.write(f"{finding.kind} ({KINDS[finding.kind]})\n")
            sys.stdout.write(f"    {finding.room}: {finding.text}\n")
        sys.stdout.write(
            f"{path}: {len(verdict.findings)} findings, {verdict.acked} of {verdict.published} "
            f"acknowledged, {verdict.delivered} delivered, told {dict(verdict.told)}\n"
        )
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
