"""Keys that an issuer publishes at an address (a JWKS URL), kept fresh.

The address is the operator's and nothing in a token changes it. Whoever knows it cannot be asked
more often than the pace allows, however many tokens name keys that do not exist.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from adapters.tokens.key_set import KeySet, KeySetUnusable, read_key_set
from adapters.tokens.keys import MoreKeys, VerificationKey
from application.ports.metrics import Metrics
from domain.errors import Unavailable

_MAX_BODY = 256 * 1024  # bytes; certificates beside the keys are what makes a set large
_MAX_TOLD = 200  # characters of a reason in the log
_HEADERS = {
    "accept": "application/jwk-set+json, application/json",
    "accept-encoding": "identity",  # what unfolds is measured only after it has unfolded
}

_log = logging.getLogger("hubbub.keys")


class Pace(NamedTuple):
    """Seconds. `refresh`: between two looks when nobody asks. `cooldown`: after a look, before a
    token with an unknown key leads to another. `retry`, `retry_most`: after a failure, doubling.
    `stale`: how long keys are believed that cannot be looked up again. `timeout`: of a look."""

    refresh: float = 300.0
    cooldown: float = 10.0
    retry: float = 1.0
    retry_most: float = 60.0
    stale: float = 86_400.0
    timeout: float = 5.0


class FetchFailed(Exception):
    """The text says why, for the log."""


class RemoteKeys(MoreKeys):
    """Fetched by `run`, and by nobody else: those who ask for a fresh look wait for the same."""

    def __init__(
        self,
        url: str,
        metrics: Metrics,
        *,
        local: bool = False,
        pace: Pace = Pace(),  # noqa: B008  # immutable
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`local`: the address is on this machine, so no proxy of the environment leads to it."""
        self._url = url
        self._where = urlsplit(url)._replace(query="").geturl()  # a query may hold a key
        self._metrics = metrics
        self._environment = not local
        self._pace = pace
        self._clock = clock
        # Here, as it reads files, and the loop has not begun.
        self._tls = httpx.create_ssl_context(trust_env=self._environment)
        self._keys: KeySet | None = None
        self._fetched_at = self._tried_at = float("-inf")
        self._succeeded = False
        self._looking = False
        self._asked = asyncio.Event()
        self._answer: asyncio.Future[None] | None = None

    @property
    def usable(self) -> bool:
        """See the port of keys."""
        return self._keys is not None and self._clock() - self._fetched_at < self._pace.stale

    def find(self, algorithm: object, key_id: str | None) -> Sequence[VerificationKey]:
        """See the port of keys."""
        if self._keys is None or not self.usable:
            return ()
        return self._keys.find(algorithm, key_id)

    async def look_again(self) -> None:
        """See the port of keys."""
        rested = self._clock() - self._tried_at >= self._pace.cooldown
        if self._looking or rested:
            if not self._looking:
                self._asked.set()
            if self._answer is None:
                self._answer = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._answer}, timeout=2 * self._pace.timeout)
        if not self._succeeded:
            raise Unavailable(
                "the keys of tokens cannot be had now", retry_after=self._pace.cooldown
            )

    async def run(self) -> None:
        """Run until cancelled."""
        failures = 0
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=0)
        try:
            async with httpx.AsyncClient(
                verify=self._tls,
                trust_env=self._environment,
                timeout=self._pace.timeout,
                follow_redirects=False,
                limits=limits,
            ) as client:
                while True:
                    failures = 0 if await self._look(client, failures) else failures + 1
                    await self._rest(self._pause(failures))
        finally:
            self._succeeded = False
            self._tell()

    async def _look(self, client: httpx.AsyncClient, failures: int) -> bool:
        self._looking = True
        try:
            keys = read_key_set(await self._fetch(client))
        except (FetchFailed, KeySetUnusable) as error:
            self._failed(str(error), failures)
        else:
            self._took(keys)
        finally:
            self._looking = False
            self._tried_at = self._clock()
        self._tell()
        return self._succeeded

    async def _fetch(self, client: httpx.AsyncClient) -> bytes:
        try:
            async with (
                asyncio.timeout(self._pace.timeout),
                client.stream("GET", self._url, headers=_HEADERS) as response,
            ):
                return await _body(response)
        except TimeoutError:
            raise FetchFailed(f"no whole answer within {self._pace.timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise FetchFailed(f"{type(error).__name__}: {error}"[:_MAX_TOLD]) from None

    def _took(self, keys: KeySet) -> None:
        if self._keys is None or keys.left_out != self._keys.left_out:
            for reason in sorted(set(keys.left_out)):
                _log.warning("not used of the keys at %s: %s", self._where, reason)
        if not self._succeeded:
            _log.info("tokens are checked with the keys at %s", self._where)
        self._keys, self._fetched_at, self._succeeded = keys, self._clock(), True
        self._metrics.count("key_fetches", label="ok")

    def _failed(self, reason: str, failures: int) -> None:
        self._succeeded = False
        self._metrics.count("key_fetches", label="failed")
        consequence = (
            f"those of {self._clock() - self._fetched_at:.0f} s ago still count"
            if self.usable
            else "tokens cannot be checked, and this node is not ready"
        )
        level = logging.WARNING if self.usable or not failures else logging.ERROR
        _log.log(level, "no keys from %s: %s; %s", self._where, reason, consequence)

    def _tell(self) -> None:
        """Wake those who wait for the look that has ended."""
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(None)

    def _pause(self, failures: int) -> float:
        if not failures:
            return self._pace.refresh
        longest = min(self._pace.retry_most, self._pace.retry * 2.0 ** min(failures - 1, 16))
        return longest * random.uniform(0.5, 1.0)

    async def _rest(self, seconds: float) -> None:
        """Until the time is over or somebody needs a look."""
        self._asked.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._asked.wait()
        except TimeoutError:
            pass


async def _body(response: httpx.Response) -> bytes:
    """Raises FetchFailed for any answer but a small plain one."""
    if response.is_redirect:
        raise FetchFailed(f"the answer is {response.status_code}, and redirects are not followed")
    if response.status_code != httpx.codes.OK:
        raise FetchFailed(f"the answer is {response.status_code}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise FetchFailed("the answer is compressed, though that was declined")
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > _MAX_BODY:
            raise FetchFailed(f"the answer has over {_MAX_BODY} bytes")
    return bytes(body)
