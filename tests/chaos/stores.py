"""The Redis that the nodes of a run share, of one of three kinds, and its logs read directly."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal

import msgspec
import redis

from adapters.redis.keyspace import Keyspace
from adapters.redis.records import Decoder
from domain.identifiers import RoomId
from tests.chaos.history import Kept
from tests.chaos.notebook import op_of
from tests.redis_groups import RedisCluster, RedisSentinels
from tests.redis_server import RedisServer

Kind = Literal["standalone", "sentinel", "cluster"]
_DEADLINE = 20.0  # seconds until it can be read
_NAMES = Keyspace()

Group = RedisServer | RedisSentinels | RedisCluster


def make(kind: Kind, *config: str) -> Group:
    """Not started: it is a context manager. `config` are lines of redis.conf."""
    if kind == "standalone":
        return RedisServer(*config)
    if kind == "sentinel":
        return RedisSentinels(2, *config)
    return RedisCluster()


def keys(room: str) -> Any:
    """The names of a room in Redis."""
    return _NAMES.room(RoomId(room))


def server_of(group: Group, room: str) -> RedisServer:
    """Who numbers this room now."""
    if isinstance(group, RedisServer):
        return group
    if isinstance(group, RedisSentinels):
        return group.master()
    return group.owner(keys(room).log)


def read(group: Group, room: str) -> list[Kept]:
    """The whole log, oldest first. Waits for a store that is still coming back."""
    end = time.monotonic() + _DEADLINE
    while True:
        try:
            with _bytes_client(group, room) as client:
                return list(_entries(room, client.xrange(keys(room).log)))
        except redis.RedisError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def _bytes_client(group: Group, room: str) -> AbstractContextManager[redis.Redis]:
    return server_of(group, room).client(decode_responses=False)


def _entries(room: str, found: Any) -> Iterator[Kept]:
    decode = Decoder(RoomId(room)).decode
    for _, fields in found:
        record = decode(fields[b"m"])
        message = record.message
        op = op_of(msgspec.json.decode(message.data))
        yield Kept(room, message.log, message.seq, message.id, op)


def redis_reads(server: RedisServer) -> int:
    """How often the log of a room was read so far: calls of scripts that publish nothing."""
    with server.client() as client:
        stats: Any = client.info("commandstats")
    return int(stats.get("cmdstat_xrange", {}).get("calls", 0))
