"""The HTTP API as a backend uses it."""

import json
from dataclasses import dataclass
from typing import Any

import httpx

from tests.running_server import RunningServer

KEY = "a-key-that-opens-everything-here"
WITH_A_KEY: dict[str, Any] = {"api_key": KEY}
"""Settings of a server with one API key."""


@dataclass
class Api:
    """A caller; without a credential nobody in particular."""

    server: RunningServer
    credential: str | None = KEY

    async def answer(
        self, method: str, path: str, body: object = ..., **options: Any
    ) -> httpx.Response:
        """`body` is sent as JSON, bytes as they are."""
        headers = httpx.Headers(options.pop("headers", {}))
        if self.credential is not None:
            headers.setdefault("Authorization", f"Bearer {self.credential}")
        if isinstance(body, bytes):
            options["content"] = body
        elif body is not ...:
            options["content"] = json.dumps(body)
        return await self.server.request(method, path, headers=headers, **options)

    async def __call__(self, method: str, path: str, body: object = ..., **options: Any) -> Any:
        """The JSON of an answer that must be a good one."""
        answer = await self.answer(method, path, body, **options)
        assert answer.is_success, answer.text
        assert answer.headers["content-type"] == "application/json"
        return answer.json()

    async def refusal(
        self, method: str, path: str, body: object = ..., **options: Any
    ) -> tuple[int, str]:
        """Status and code of an answer that must be an error of the one shape."""
        answer = await self.answer(method, path, body, **options)
        return answer.status_code, refused(answer)["code"]


def refused(answer: httpx.Response) -> dict[str, Any]:
    """The error of an answer. Checks its shape."""
    assert answer.headers["content-type"] == "application/json", answer.text
    body = answer.json()
    assert list(body) == ["error"]
    error: dict[str, Any] = body["error"]
    assert set(error) - {"retry_after"} == {"code", "message", "retry"}
    assert isinstance(error["code"], str)
    assert isinstance(error["message"], str)
    assert isinstance(error["retry"], bool)
    assert ("retry_after" in error) == ("retry-after" in answer.headers)
    assert (answer.status_code == 401) == ("www-authenticate" in answer.headers)
    return error
