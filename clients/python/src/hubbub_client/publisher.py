"""Publishing from a backend, over HTTP: no connection to keep, no room to join.

    publisher = Publisher("https://rooms.example.com", api_key)
    publisher.publish("@ann", {"text": "your invoice is ready"})

AsyncPublisher is the same with `await`. Make one for the whole process: it is safe to use from
several threads (tasks), and keeps its connections.
"""

import asyncio
import time
from types import TracebackType
from typing import Any, Literal, Self, overload

from hubbub_client.messages import Published

try:
    import httpx

    from hubbub_client.errand import Errand
except ImportError as missing:
    raise ImportError("publishing over HTTP needs httpx: install hubbub-client[http]") from missing


class Publisher:
    """Publishes from sync code."""

    def __init__(
        self,
        url: str,
        credential: str | None = None,
        *,
        timeout: float = 10.0,
        client: httpx.Client | None = None,
    ) -> None:
        """`url` is that of the server, `http(s)://host[:port]`. `credential`: an API key, or a
        user's token; none where the server asks for none. `timeout`: seconds for one message, all
        tries together. `client`: one of your own, for proxies, certificates and limits."""
        self._client = client or httpx.Client()
        self._url, self._headers = url.rstrip("/"), _headers(credential)
        self._timeout = timeout

    @overload
    def publish(
        self,
        room: str,
        data: Any,
        *,
        key: str | None = None,
        sender: str | None = None,
        ephemeral: Literal[False] = False,
    ) -> Published: ...

    @overload
    def publish(
        self, room: str, data: Any, *, sender: str | None = None, ephemeral: Literal[True]
    ) -> bool: ...

    def publish(
        self,
        room: str,
        data: Any,
        *,
        key: str | None = None,
        sender: str | None = None,
        ephemeral: bool = False,
    ) -> Published | bool:
        """Publish any JSON value, once, and return its position.

        What fails for a while is tried again, with the same key. Give a `key` of your own (the id
        of a task, say) where you may be called again for the same message within five minutes.
        `sender` is the user in whose name it goes out, which takes an API key. Raises Refused,
        OutcomeUnknown, and TypeError or ValueError for what is no JSON.
        """
        errand = Errand(room, data, key, sender, ephemeral, self._timeout)
        while True:
            try:
                outcome = errand.answered(
                    self._client.post(
                        self._url + errand.path,
                        content=errand.body,
                        headers=self._headers,
                        timeout=errand.time_left,
                    )
                )
            except httpx.TransportError as failure:
                outcome = errand.failed(failure)
            if not isinstance(outcome, float):
                return outcome
            time.sleep(outcome)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncPublisher:
    """Publishes from async code; all as Publisher. Once cancelled, a message may be there or not:
    with a `key` of your own you can tell by publishing it again."""

    def __init__(
        self,
        url: str,
        credential: str | None = None,
        *,
        timeout: float = 10.0,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self._client = client or httpx.AsyncClient()
        self._url, self._headers = url.rstrip("/"), _headers(credential)
        self._timeout = timeout

    @overload
    async def publish(
        self,
        room: str,
        data: Any,
        *,
        key: str | None = None,
        sender: str | None = None,
        ephemeral: Literal[False] = False,
    ) -> Published: ...

    @overload
    async def publish(
        self, room: str, data: Any, *, sender: str | None = None, ephemeral: Literal[True]
    ) -> bool: ...

    async def publish(
        self,
        room: str,
        data: Any,
        *,
        key: str | None = None,
        sender: str | None = None,
        ephemeral: bool = False,
    ) -> Published | bool:
        """As Publisher.publish."""
        errand = Errand(room, data, key, sender, ephemeral, self._timeout)
        while True:
            try:
                outcome = errand.answered(
                    await self._client.post(
                        self._url + errand.path,
                        content=errand.body,
                        headers=self._headers,
                        timeout=errand.time_left,
                    )
                )
            except httpx.TransportError as failure:
                outcome = errand.failed(failure)
            if not isinstance(outcome, float):
                return outcome
            await asyncio.sleep(outcome)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _headers(credential: str | None) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if credential is not None:
        headers["Authorization"] = f"Bearer {credential}"
    return headers
