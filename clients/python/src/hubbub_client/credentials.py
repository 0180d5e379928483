"""The token: where it comes from, how long it lasts, when there has to be another."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

from hubbub_client.clock import Moment

Source = str | Callable[[], str | Awaitable[str]] | None
"""A token; or a function, sync or async, that fetches one; or nothing, in open mode."""

_REFRESH_AT = 0.8  # of a token's life
_PATIENCE = 30.0  # seconds to fetch one


class Credentials:
    """`renewable`: whether there is another token to be had than the one at hand."""

    def __init__(self, source: Source) -> None:
        self._fetch = source if callable(source) else None
        self._token = source if isinstance(source, str) else None
        self._life: tuple[Moment, float] | None = None  # as the server told it, and when

    @property
    def given(self) -> bool:
        """Whether there is a token at all."""
        return self._fetch is not None or self._token is not None

    @property
    def renewable(self) -> bool:
        return self._fetch is not None

    async def token(self, now: Moment) -> str | None:
        """One to connect with: the one at hand, unless it is about to run out. Raises what the
        function raises."""
        if self._token is None or self.refresh_in(now) == 0:
            await self.renew()
        return self._token

    async def renew(self) -> str | None:
        """Fetch another one, where that is possible. Raises what the function raises, and
        TimeoutError when it takes too long."""
        if self._fetch is not None:
            self.forget()
            token = self._fetch()
            self._token = await _in_time(token) if inspect.isawaitable(token) else token
        return self._token

    def forget(self) -> None:
        """The token at hand is of no use any more."""
        if self._fetch is not None:
            self._token, self._life = None, None

    def lasts(self, seconds: float | None, now: Moment) -> None:
        """The server told how long the token at hand lasts; None is for ever."""
        self._life = None if seconds is None else (now, seconds)

    def refresh_in(self, now: Moment) -> float | None:
        """Seconds until there should be another token; None for never."""
        if self._life is None or self._fetch is None:
            return None
        told_at, seconds = self._life
        return max(0.0, seconds * _REFRESH_AT - now.since(told_at))


async def _in_time(fetching: Awaitable[str]) -> str:
    try:
        async with asyncio.timeout(_PATIENCE) as patience:
            return await fetching
    except TimeoutError as error:
        if not patience.expired():  # it is one of the function's own
            raise
        raise TimeoutError(f"nothing came within {_PATIENCE:g} s") from error
