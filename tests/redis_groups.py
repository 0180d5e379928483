"""Several redis-server processes that belong together, for tests."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from tests.redis_server import RedisServer

_DEADLINE = 30.0
_PROBE = "probe"  # a key
MASTER = "main"
_QUICKLY = ("info-period", 100, "ping-period", 100, "ask-period", 100)  # of a Sentinel, ms
_PUBLISH = ("publish-period", 100), ("publish-period", 2000)  # while they get to know each other


class _Group:
    """Servers that are ended together."""

    def __init__(self) -> None:
        self._started = ExitStack()

    def _start(self, *config: str, sentinel: bool = False) -> RedisServer:
        return self._started.enter_context(RedisServer(*config, sentinel=sentinel))

    def _set_up(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        with self._started:  # ended when the rest fails
            self._set_up()
            self._started = self._started.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._started.close()


class RedisSentinels(_Group):
    """A master with replicas and three Sentinels that watch it under the name `main`."""

    def __init__(self, replicas: int = 1, *config: str) -> None:
        super().__init__()
        self.servers: list[RedisServer] = []  # the first master in front
        self.sentinels: list[RedisServer] = []
        self._replicas = replicas
        self._config = config

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(s.address for s in self.sentinels)}/{MASTER}"

    def master(self) -> RedisServer:
        """Whom the Sentinels name now."""
        port = int(self.sentinels[0].command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)[1])
        return next(server for server in self.servers if server.port == port)

    def config_epoch(self) -> int:
        """Of the failover that made the master what it is."""
        with self.sentinels[0].client() as client:
            known: Any = client.sentinel_master(MASTER)
        return int(known["config-epoch"])

    def fail_over(self) -> RedisServer:
        """Let another one be the master, orderly, and return it. The former takes some seconds
        until it follows: see `settle`."""
        former = self.master()
        self.sentinels[0].command("SENTINEL", "FAILOVER", MASTER)
        _until(lambda: self.master() is not former, "no failover")
        return self.master()

    def settle(self) -> None:
        """Wait until all the others have what the master has by now; a Sentinel chooses no other
        before."""
        _until(self._is_replicated, "the replicas do not follow the new master")

    def _set_up(self) -> None:
        quick = ("repl-diskless-sync-delay 0", "repl-ping-replica-period 1")
        master = self._start(*quick, *self._config)
        self.servers.append(master)
        for _ in range(self._replicas):
            of = f"replicaof 127.0.0.1 {master.port}"
            self.servers.append(self._start(*quick, of, *self._config))
        for _ in range(3):
            self.sentinels.append(self._sentinel(master))
        _until(self._is_complete, "the Sentinels do not know each other")
        for sentinel in self.sentinels:  # four of these is how soon they undo what another began
            sentinel.command("SENTINEL", "DEBUG", *_PUBLISH[1])

    def _sentinel(self, master: RedisServer) -> RedisServer:
        sentinel = self._start(
            f"sentinel monitor {MASTER} 127.0.0.1 {master.port} 2",
            f"sentinel down-after-milliseconds {MASTER} 500",
            f"sentinel failover-timeout {MASTER} 3000",
            sentinel=True,
        )
        sentinel.command("SENTINEL", "DEBUG", *_QUICKLY, *_PUBLISH[0])
        return sentinel

    def _is_complete(self) -> bool:
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                known: Any = client.sentinel_master(MASTER)
                if known["num-slaves"] < self._replicas or known["num-other-sentinels"] < 2:
                    return False
        return self._is_replicated()

    def _is_replicated(self) -> bool:
        """Whether the replicas have what the master has. `connected_slaves` alone counts those
        that are still to get all of it, and that would begin with nothing as masters."""
        with self.master().client() as master:
            replication: Any = master.info("replication")
            if replication["connected_slaves"] != self._replicas:
                return False
            master.set(_PROBE, "")
            master.delete(_PROBE)
            return int(master.wait(self._replicas, 5000)) >= self._replicas


class RedisCluster(_Group):
    """Masters without replicas, the slots divided among them."""

    def __init__(self, masters: int = 3) -> None:
        super().__init__()
        self.nodes: list[RedisServer] = []
        self._masters = masters
        self._ids: dict[RedisServer, str] = {}

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(node.address for node in self.nodes)}"

    def settle(self) -> None:
        """Wait until every node knows and serves its slots."""
        for node in self.nodes:
            _until(partial(self._is_complete, node), "the cluster does not come about")

    def owner(self, key: str) -> RedisServer:
        slot = key_slot(key.encode())
        with self.nodes[0].client() as client:
            slots: Any = client.execute_command("CLUSTER SLOTS")
        port = next(where[1] for (first, last), where in _ranges(slots) if first <= slot <= last)
        return next(node for node in self.nodes if node.port == port)

    def flush(self) -> None:
        for node in self.nodes:
            node.command("FLUSHALL")

    def begin_move(self, key: str, to: RedisServer) -> None:
        """Begin to move the slot of a key: both servers answer for a part of its keys."""
        slot, source = key_slot(key.encode()), self.owner(key)
        to.command("CLUSTER", "SETSLOT", slot, "IMPORTING", self._ids[source])
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", self._ids[to])

    def move_keys(self, key: str, to: RedisServer) -> None:
        """Move what the slot holds."""
        slot, source = key_slot(key.encode()), self.owner(key)
        while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.command(
                *("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "REPLACE", "KEYS", *keys)
            )

    def end_move(self, key: str, to: RedisServer) -> None:
        slot, source = key_slot(key.encode()), self.owner(key)
        # Once each: the second time, the owner would end the subscriptions it has by then.
        for node in dict.fromkeys((to, source, *self.nodes)):
            node.command("CLUSTER", "SETSLOT", slot, "NODE", self._ids[to])

    def end_subscriptions(self, key: str) -> None:
        """Let the owner of a slot end the subscriptions to its channels, as if it had moved."""
        owner = self.owner(key)
        owner.command("CLUSTER", "SETSLOT", key_slot(key.encode()), "NODE", self._ids[owner])

    def move(self, key: str, to: RedisServer) -> None:
        """Move the slot of a key, with what it holds, while it is used."""
        self.begin_move(key, to)
        self.move_keys(key, to)
        self.end_move(key, to)

    def _set_up(self) -> None:
        share = REDIS_CLUSTER_HASH_SLOTS // self._masters
        for number in range(self._masters):
            node = self._start(
                "cluster-enabled yes",
                "cluster-node-timeout 2000",
                "cluster-require-full-coverage no",
            )
            last = REDIS_CLUSTER_HASH_SLOTS if number == self._masters - 1 else share * (number + 1)
            node.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.command("CLUSTER", "ADDSLOTSRANGE", share * number, last - 1)
            node.command("CLUSTER", "MEET", "127.0.0.1", (self.nodes or [node])[0].port)
            self.nodes.append(node)
            self._ids[node] = node.command("CLUSTER", "MYID")
        self.settle()

    def _is_complete(self, node: RedisServer) -> bool:
        with node.client() as client:
            info: Any = client.execute_command("CLUSTER INFO")
        return info["cluster_state"] == "ok" and int(info["cluster_size"]) == self._masters


def _ranges(slots: Any) -> Any:
    """redis-py makes a dict of the reply, or leaves it a list."""
    if isinstance(slots, dict):
        return [(span, found["primary"]) for span, found in slots.items()]
    return [((first, last), found) for first, last, found, *_ in slots]


def _until(condition: Callable[[], bool], failure: str) -> None:
    end = time.monotonic() + _DEADLINE
    while True:
        try:
            if condition():
                return
        except redis.RedisError:
            pass  # it is in the middle of something; asked again below
        if time.monotonic() > end:
            raise AssertionError(failure)
        time.sleep(0.02)
