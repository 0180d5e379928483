"""One server that holds data, and the one link to it that all commands take."""

import asyncio
import logging
import random
import re
import time
from collections.abc import Callable, Iterator
from hashlib import sha1
from importlib.resources import files
from typing import Any

from adapters.redis.addresses import Address
from adapters.redis.link import OPEN_DEADLINE, Command, Link, LinkLost, ReplyError
from adapters.redis.replication import Replication

STALL = 1.5  # seconds without a sign of life, while a reply is due, that end a link
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between attempts to connect
_RUN_ID = re.compile(rb"run_id:(\w+)")
_BOUNDED = re.compile(rb"maxmemory:[1-9]")
_EVICTING = re.compile(rb"maxmemory_policy:(?!noeviction)(\S+)")
_SEEN = re.compile(rb" addr=(\S+)")
_HIDDEN = {"NOPERM", "ERR"}  # INFO is not for this user, or for nobody: a command that is unknown

logger = logging.getLogger("hubbub.redis")


class Script:
    """A Lua script. Without a source it is scripts/NAME.lua of this package."""

    def __init__(self, name: str, source: str | None = None) -> None:
        if source is None:
            source = (files("adapters.redis") / "scripts" / f"{name}.lua").read_text()
        self.name = name
        self.source = source
        self.sha = sha1(source.encode(), usedforsecurity=False).hexdigest().encode()

    def __repr__(self) -> str:
        return f"<Script {self.name}>"


async def _about(link: Link) -> bytes:
    """What the server tells of itself; empty when it does not tell."""
    try:
        told: bytes = await link.call("INFO", "server", "memory")
    except ReplyError as error:
        if error.code not in _HIDDEN:
            raise
        return b""
    return told


def _first(found: re.Match[bytes] | None) -> str:
    return found[1].decode() if found else ""


async def _address_at(link: Link) -> str:
    """Where the server sees the link coming from; empty when it does not tell."""
    try:
        found = _SEEN.search(await link.call("CLIENT", "INFO"))
    except ReplyError as error:
        if error.code not in _HIDDEN:
            raise
        return ""
    return _first(found)


def pauses() -> Iterator[float]:
    """Seconds to wait after each failure in a row: longer and longer, never in step with others."""
    pause = FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(pause * 2, LONGEST_PAUSE)


class Shard:
    """Keeps a link to a server: `run` until cancelled.

    `link` is there only while the server is known to be a master that takes commands. `ready` is
    called when there is one, `trouble` when it is lost and after every vain attempt. By the time
    of `ready`, what was given to the former link has been answered with LinkLost, and the server
    can no longer do it.
    """

    def __init__(
        self,
        address: Address,
        ready: Callable[["Shard"], None],
        trouble: Callable[["Shard"], None],
        replicas: int = 0,
    ) -> None:
        self.address = address
        self.link: Link | None = None
        self.is_other = False  # it may be another process that answers now than before
        self.loaded: set[bytes] = set()  # scripts that the server has been given
        self.replication: Replication | None = None  # of the link, where replicas are asked for
        self._ready = ready
        self._trouble = trouble
        self._replicas = replicas
        self._run_id: str | None = None  # of the process; empty when it does not tell
        self._former_id = 0  # what the last link was called there
        self._former_address = ""  # and where it came from, if it takes that to be sure
        self._evicts = ""  # the policy by which it drops keys, if it does
        self._silent = False  # in the log, one line says that it is gone, and one that it is back
        self._heard_at = 0.0

    def __repr__(self) -> str:
        return f"<Shard {self.address}>"

    @property
    def is_ready(self) -> bool:
        return self.link is not None and self.link.is_open

    async def run(self) -> None:
        """Raises what a callback of the link raised."""
        pause = pauses()
        while True:
            began = time.monotonic()
            try:
                why = await self._live()
            except (LinkLost, ReplyError) as error:
                why = error
            if not isinstance(why, LinkLost | ReplyError):
                raise why
            self._note(why)
            self._trouble(self)
            if time.monotonic() - began > LONGEST_PAUSE + OPEN_DEADLINE:
                pause = pauses()
            await asyncio.sleep(next(pause))

    def load(self, script: Script) -> None:
        """Give a script to the server, ahead of what is sent next."""
        assert self.link is not None
        self.loaded.add(script.sha)
        self.link.send(("SCRIPT", "LOAD", script.source), self._not_loaded)

    def watch(self, now: float) -> None:
        """End a link that owes a reply and has been silent for too long. Call it often."""
        link = self.link
        if link is None:
            return
        if link.heard or not link.in_flight:
            link.heard = False
            self._heard_at = now
        elif now - self._heard_at > STALL:
            link.close()

    async def _live(self) -> Exception:
        """Connect, and return why the link ended."""
        ended: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        link = await Link.open(
            self.address, lost=lambda why: None if ended.done() else ended.set_result(why)
        )
        try:
            await self._prepare(link)
            self.link = link
            self.replication = Replication(link, self._replicas) if self._replicas else None
            self._heard_at = time.monotonic()
            if self._silent:
                logger.info("redis at %s is back", self.address)
                self._silent = False
            self._ready(self)
            return await ended
        finally:
            self.link = None
            link.close()

    async def _prepare(self, link: Link) -> None:
        if link.role not in {"", "master"}:
            raise LinkLost(f"it is a {link.role}, not a master")
        try:
            async with asyncio.timeout(OPEN_DEADLINE):
                await link.call("PING")  # refused while it loads its data
                about = await _about(link)
                run_id = _first(_RUN_ID.search(about))
                address = "" if run_id else await _address_at(link)
                if run_id == self._run_id:
                    await self._end_former(link)
        except TimeoutError:
            raise LinkLost("no answer in time") from None
        self.is_other = self._run_id is not None and (run_id != self._run_id or not run_id)
        self._run_id, self._former_id, self._former_address = run_id, link.client_id, address
        self.loaded.clear()
        self._mind_eviction(about)

    def _mind_eviction(self, about: bytes) -> None:
        policy = _first(_EVICTING.search(about)) if _BOUNDED.search(about) else ""
        if policy and policy != self._evicts:
            logger.warning(
                "redis at %s drops keys when it is full (maxmemory-policy %s), and with them logs, "
                "publish keys and presence; give it noeviction",
                self.address,
                policy,
            )
        self._evicts = policy

    async def _end_former(self, link: Link) -> None:
        # What the former link was given may lie unread at the server still: done after it was
        # sent again here, a message would be there twice.
        which: Command = ("CLIENT", "KILL", "ID", self._former_id)
        if not self._run_id:  # it may be another server, where somebody else is called so
            if not self._former_address:
                return
            which += ("ADDR", self._former_address)
        try:
            await link.call(*which)
        except ReplyError as error:
            logger.warning("redis at %s: cannot end a former connection: %s", self.address, error)

    def _not_loaded(self, reply: Any) -> None:
        if isinstance(reply, ReplyError):
            self.loaded.clear()
            logger.error("redis at %s refuses a script: %s", self.address, reply)

    def _note(self, why: Exception) -> None:
        if not self._silent:
            logger.warning("no connection to redis at %s: %s; trying on", self.address, why)
            self._silent = True
