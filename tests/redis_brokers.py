"""Nodes with a broker over Redis, and somebody who reads along as a hub would."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from adapters.prometheus_metrics import PrometheusMetrics
from adapters.redis.broker import RedisBroker
from adapters.redis.channels import Channels
from adapters.redis.keyspace import Keyspace
from adapters.redis.records import Decoder, Record, kept, tail
from adapters.redis.store import Store
from application.measures import MEASURES
from domain.identifiers import RoomId
from domain.message import Message
from domain.options import Retention
from domain.position import Position
from domain.timeline import Outcome, Recovery
from tests.contract.conftest import CHAT, KEEP, BrokerNode, BrokerNotes, draft
from tests.peer import until
from tests.redis_server import RedisServer
from tests.redis_user import as_hubbub
from tests.running import running

PUBLISH = (files("adapters.redis") / "scripts" / "publish.lua").read_text()
_SENDING = "redis.call(ARGV[1], ARGV[2], record)\n"


class Follower(BrokerNotes):
    """Believes what it is told of one room, and nothing else.

    `log` is what it takes for the room's log, by seq: delivered, replayed, withdrawn again.
    `told` are the verdicts on its position at each interruption.
    """

    def __init__(self, broker: RedisBroker, room: RoomId = CHAT) -> None:
        super().__init__()
        self.log: dict[int, Message] = {}
        self.told: list[Recovery] = []
        self._broker = broker
        self._room = room
        self._at: Position | None = None

    @property
    def at(self) -> Position:
        assert self._at is not None, "it has not begun to follow"
        return self._at

    def begin(self) -> None:
        """From the end of the timeline on."""
        timeline = self._broker.timeline(self._room)
        assert timeline is not None
        self._at = timeline.position

    def deliver(self, message: Message) -> None:
        if message.seq and message.room == self._room:
            assert message.seq == self.at.seq + 1, "a hole or a duplicate"
            assert message.opens_log or message.log == self.at.log, "another log without a word"
            self._take(message)
        super().deliver(message)

    def interrupted(self, room: RoomId) -> None:
        if room == self._room:
            self._read_on()
        super().interrupted(room)

    def _read_on(self) -> None:
        timeline = self._broker.timeline(self._room)
        assert timeline is not None
        replay = timeline.recover(self.at)
        self.told.append(replay.recovery)
        match replay.recovery.outcome:
            case Outcome.RESET:
                self.log.clear()
            case Outcome.REWOUND:
                valid_to = replay.recovery.valid_to or 0
                self.log = {seq: m for seq, m in self.log.items() if seq <= valid_to}
        while True:
            for message in replay.messages:
                self._take(message)
            self._at = replay.position
            if not replay.more:
                break
            replay = timeline.recover(self._at)

    @property
    def outcomes(self) -> list[str]:
        return [verdict.outcome.value for verdict in self.told]

    def ids(self) -> dict[int, str]:
        return {seq: message.id for seq, message in self.log.items()}

    async def reaches(self, seq: int) -> None:
        await self.until(lambda: self.at.seq >= seq)

    def _take(self, message: Message) -> None:
        self.log[message.seq] = message
        self._at = Position.parse(message.log, message.seq)


class RedisBrokerNode(BrokerNode):
    """A broker with a store and channels of its own, as the user of README.md unless the URL names
    another. `notes` follow one room."""

    broker: RedisBroker
    notes: Follower

    def __init__(
        self, url: str, keyspace: Keyspace | None = None, replicas: int = 0, **options: Any
    ) -> None:
        self.store = Store(as_hubbub(url), replicas=replicas)
        self.channels = Channels(self.store)
        self.metrics = PrometheusMetrics()
        self.broker = RedisBroker(self.store, self.channels, self.metrics, keyspace, **options)
        self.notes = Follower(self.broker)
        self.broker.attach(self.notes)

    async def follow(self, room: RoomId = CHAT, keep: Retention = KEEP) -> None:
        await self.broker.subscribe(room, keep)
        if room == CHAT:
            self.notes.begin()

    def counted(self, name: str, value: str = "") -> float:
        """A counter, at this value of its label. What nobody has named fails: it is not 0."""
        labels = f'{{{MEASURES[name].label}="{value}"}}' if value else ""
        shown = f"hubbub_{name}_total{labels} "
        lines = self.metrics.render()[0].decode().splitlines()
        (line,) = (line for line in lines if line.startswith(shown))
        return float(line.removeprefix(shown))

    async def healthy(self) -> None:
        await until(lambda: self.store.healthy and self.channels.healthy)

    async def settled(self) -> None:
        """Publish, and wait until that is heard."""
        published = await self.publish("settled")
        assert published.position is not None
        await self.notes.until(lambda: published.message_id in self.notes.ids().values())


@asynccontextmanager
async def broker_at(url: str, **options: Any) -> AsyncIterator[RedisBrokerNode]:
    """A node that runs, and follows nothing yet."""
    node = RedisBrokerNode(url, **options)
    async with running(node.store, node.channels, node.broker):
        await node.healthy()
        yield node


@asynccontextmanager
async def followers_at(
    *urls: str, keep: Retention = KEEP, **options: Any
) -> AsyncIterator[list[RedisBrokerNode]]:
    """A node for each URL, all of which follow the room `chat`."""
    nodes = [RedisBrokerNode(url, **options) for url in urls]
    parts = [part for node in nodes for part in (node.store, node.channels, node.broker)]
    async with running(*parts):
        for node in nodes:
            await node.healthy()
            await node.follow(CHAT, keep)
        yield nodes


class RoomInRedis:
    """A room as it is in Redis, seen and changed behind the back of all nodes."""

    def __init__(self, server: RedisServer, room: RoomId = CHAT) -> None:
        self.server = server
        self.keys = Keyspace().room(room)
        self._room = room

    def ids(self) -> dict[int, str]:
        """Message ids by seq, of what the log keeps."""
        with self.server.client(decode_responses=False) as client:
            entries: Any = client.xrange(self.keys.log)
        records = [Decoder(self._room).decode(fields[b"m"]) for _, fields in entries]
        return {record.message.seq: record.message.id for record in records}

    def records(self) -> list[Record]:
        with self.server.client(decode_responses=False) as client:
            entries: Any = client.xrange(self.keys.log)
        return [Decoder(self._room).decode(fields[b"m"]) for _, fields in entries]

    def forget(self, *kinds: str) -> None:
        """Evict keys of the room."""
        with self.server.client() as client:
            client.delete(*(self.keys.of(kind) for kind in kinds))

    def send(self, payload: bytes) -> int:
        """Send something to the room's channel; the number of those who hear it."""
        with self.server.client() as client:
            return int(client.publish(self.keys.feed, payload))

    def append(self, payload: bytes, seq: int) -> None:
        """Put something into the log and count it."""
        with self.server.client() as client:
            client.xadd(self.keys.log, {"m": payload}, id=f"{seq}-0")
            client.hset(self.keys.meta, "seq", str(seq))

    def publish_unheard(self, data: str, keep: Retention = KEEP) -> None:
        """Number a message and lose it on the way to everybody."""
        assert PUBLISH.count(_SENDING) == 1
        deaf = PUBLISH.replace(_SENDING, "")
        said = tail(draft(data), f"unheard-{data}", 1.0, kept(keep))
        with self.server.client() as client:
            client.eval(
                deaf, 2, self.keys.meta, self.keys.log,
                "PUBLISH", self.keys.feed, said, keep.size, 600_000,
            )  # fmt: skip
