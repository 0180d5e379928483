"""The name of the store's reign where Redis may not be asked for it.

Some operators hide INFO. Then the nodes agree on a name of their own, kept in Redis, and on
another one whenever it looks to one of them as if another store had taken over. The names are
numbered: under an older one nothing new begins. This is weaker: a store that lost its newest
messages and was not seen to change goes on under the old name.
"""

import asyncio
import logging
import secrets

from adapters.redis.store import DEADLINE, Script, Store
from domain.errors import HubbubError, Unavailable

PAUSE = 1.0  # seconds before Redis is asked again
LOOK = 1.0  # seconds between two looks for a name that another node made up

logger = logging.getLogger("hubbub.redis")


class Terms:
    """`made_up` is the name to number under, empty where Redis tells its own."""

    def __init__(self, store: Store, key: str) -> None:
        self.made_up = ""
        self._store = store
        self._key = key
        self._script = Script("term")
        self._known = asyncio.Event()
        self._doubt = asyncio.Event()
        self._doubt.set()
        store.on_store_changed(self.doubt)

    @property
    def known(self) -> bool:
        """Whether it is known by now if a name has to be made up, and which."""
        return self._known.is_set()

    async def wait(self) -> None:
        """Return once it is known. Raises Unavailable when that takes too long."""
        if self._known.is_set():
            return
        try:
            async with asyncio.timeout(DEADLINE):
                await self._known.wait()
        except TimeoutError:
            raise Unavailable("the store has not said who it is") from None

    def doubt(self) -> None:
        """Another store may have taken over."""
        self._doubt.set()

    async def run(self) -> None:
        """Agree with the other nodes whenever there is a doubt, until cancelled."""
        while True:
            doubted = await self._doubted()
            self._doubt.clear()
            try:
                if doubted or await self._is_over():
                    await self.agree()
            except HubbubError:
                if doubted:
                    self._doubt.set()
                await asyncio.sleep(PAUSE)

    async def _doubted(self) -> bool:
        """Wait for a doubt, or until it is time to look."""
        try:
            async with asyncio.timeout(LOOK if self.made_up else None):
                await self._doubt.wait()
        except TimeoutError:
            return False
        return True

    async def _is_over(self) -> bool:
        """Whether the nodes have agreed on another name. Raises Unavailable and OutcomeUnknown."""
        found = await self._store.command(self._key, "GET", self._key)
        return bool(found != self.made_up.encode())

    async def agree(self) -> None:
        """The term in force until now is over, for everybody. Raises Unavailable."""
        arguments = (self.made_up, secrets.token_hex(8))
        agreed: bytes = await self._store.run_script(self._script, [self._key], arguments)
        if agreed and not self.made_up:
            logger.warning("redis does not tell INFO: a lost tail may go unnoticed")
        self.made_up = agreed.decode()
        self._known.set()
