"""One message on its way over HTTP: what to ask, and what to make of the answers."""

import json
import random
import time
import uuid
from typing import Any
from urllib.parse import quote

import httpx

from hubbub_client.errors import HubbubError, OutcomeUnknown, Refused
from hubbub_client.messages import Published
from hubbub_client.outbox import KEY_LIFE

_FIRST_WAIT, _LONGEST_WAIT = 0.2, 5.0  # seconds between tries: full jitter, doubled with each
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_NOT_DONE = {"rate_limited", "unavailable", "over_capacity"}


class Errand:
    """One message on its way, over as many tries as `most` seconds allow."""

    def __init__(
        self,
        room: str,
        data: Any,
        key: str | None,
        sender: str | None,
        ephemeral: bool,
        most: float,
    ) -> None:
        fields: dict[str, Any] = {"data": data}
        if ephemeral:
            fields["ephemeral"] = True
        else:
            fields["key"] = key or uuid.uuid4().hex
        if sender is not None:
            fields["from"] = sender
        self.path = f"/v1/rooms/{quote(room, safe='')}/messages"
        self.body = json.dumps(fields, ensure_ascii=False, allow_nan=False).encode()
        self._repeatable = not ephemeral
        self._began_at = _now()  # the try at hand, or earlier
        self._ends_at = self._began_at + most
        self._tries = 0
        self._uncertain = False  # whether a try may have got through

    @property
    def time_left(self) -> float:
        """Seconds for the next try."""
        return max(0.1, self._ends_at - _now())

    def failed(self, failure: httpx.TransportError) -> float:
        """There was no answer. The seconds until the next try; raises when there is none."""
        if isinstance(failure, _NOT_SENT):
            error: HubbubError = Refused("unavailable", _text(failure), retry=True)
        else:
            error = OutcomeUnknown(_text(failure))
        return self._wait(error, None)

    def answered(self, response: httpx.Response) -> Published | bool | float:
        """The result, or the seconds until the next try. Raises HubbubError."""
        answer = _decoded(response)
        if response.is_success and "seq" in answer:
            return Published(*(answer[name] for name in ("log", "seq", "message_id", "duplicate")))
        if response.is_success and answer.get("ephemeral"):
            return True
        told = answer.get("error")
        if not isinstance(told, dict):  # of something between us and the server
            told = {"code": f"http_{response.status_code}", "retry": response.is_server_error}
        code, text = told["code"], told.get("message", "")
        if not told.get("retry"):
            raise Refused(code, text)
        done = code in _NOT_DONE
        error = Refused(code, text, retry=True) if done else OutcomeUnknown(f"{code}: {text}")
        return self._wait(error, told.get("retry_after"))

    def _wait(self, error: HubbubError, advised: float | None) -> float:
        if isinstance(error, OutcomeUnknown) and not self._uncertain:
            self._uncertain = True
            # Later the server may have forgotten the key, and store the message again.
            self._ends_at = min(self._ends_at, self._began_at + KEY_LIFE)
        longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** min(self._tries, 16))
        wait = random.uniform(_FIRST_WAIT / 2, longest) if advised is None else float(advised)
        self._tries += 1
        lost = self._uncertain and not self._repeatable
        if lost or _now() + wait >= self._ends_at:
            if self._uncertain and not isinstance(error, OutcomeUnknown):
                raise OutcomeUnknown(str(error))
            raise error
        self._began_at = _now() + wait
        return wait


def _decoded(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _text(failure: httpx.TransportError) -> str:
    return str(failure) or type(failure).__name__


def _now() -> float:
    return time.monotonic()
