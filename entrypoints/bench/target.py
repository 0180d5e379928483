"""Where the load goes, and how it is spoken to there."""

import base64
import json
import secrets
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from entrypoints.bench.plan import MARKER, Step

_PORTS = {"ws": 80, "http": 80, "wss": 443, "https": 443}
_ERROR = '"type":"error"'


class BadTarget(Exception):
    """The address or the token is of no use; the text says what to change."""


class Target(NamedTuple):
    """A server. `prefix` comes before the path of every door."""

    host: str
    port: int
    tls: bool
    host_header: str
    prefix: str = ""


def read_url(url: str) -> Target:
    """Read `ws://127.0.0.1:8000`. Raises BadTarget."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        raise BadTarget(f"--url {url}: the port is no number up to 65535") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise BadTarget(f"--url {url}: write it like ws://127.0.0.1:8000")
    if parts.query or parts.fragment or parts.username or "%" in parts.path:
        raise BadTarget(f"--url {url}: only scheme, host, port and a path may be given")
    return Target(
        host=parts.hostname,
        port=port or _PORTS[parts.scheme],
        tls=parts.scheme in {"wss", "https"},
        host_header=parts.netloc,
        prefix=parts.path.rstrip("/"),
    )


def subject(token: str) -> str:
    """The user a token is for, unverified: the server does that. Raises BadTarget."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return str(claims["sub"])
    except (IndexError, ValueError, KeyError, TypeError):
        raise BadTarget("--token is no JWT that names a user (`hubbub token` makes one)") from None


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one kind of server is entered and spoken to, in the texts of a Plan.

    `arrive` is `enter` with a proof at its end that the connection is in its room.
    """

    path: str
    publish: str
    enter: tuple[Step, ...] = ()
    arrive: tuple[Step, ...] = ()
    again: tuple[Step, ...] = ()
    refusal: str | None = _ERROR


def tutorial_door(prefix: str, user: str | None, text_bytes: int = 0) -> Dialect:
    """`/ws/rooms/…`. `user` None: everybody has a name of their own. `text_bytes`: the least
    length of the texts."""
    # Nobody is told that they are in: who hears themselves is.
    proof = (Step("say", '{"text":"here %d"}'), Step("await", '"text":"here %d"'))
    return Dialect(
        path=f"{prefix}/ws/rooms/{_new_room()}-%r/{user or 'bench-%d'}",
        publish=f'{{"text":"{_text(text_bytes)}"}}',
        arrive=proof,
    )


def main_door(prefix: str, user: str | None, text_bytes: int = 0) -> Dialect:
    """`/v1/ws`, see `tutorial_door`. The only one that knows positions."""
    room = f"{_new_room()}-%r"
    connected = Step("await", '"type":"connected"')
    joined = Step("await", '"type":"joined","id":1,')
    enter = (connected, Step("say", f'{{"type":"join","id":1,"room":"{room}"}}'), joined)
    return Dialect(
        path=f"{prefix}/v1/ws" + ("" if user else "?user=bench-%d"),
        publish=f'{{"type":"publish","room":"{room}","data":{{"text":"{_text(text_bytes)}"}}}}',
        enter=enter,
        arrive=enter,
        again=(
            connected,
            Step("say", f'{{"type":"join","id":1,"room":"{room}","position":%p}}'),
            joined,
        ),
    )


def _new_room() -> str:
    """A room nobody else is in."""
    return f"bench-{secrets.token_hex(5)}"


def _text(least: int) -> str:
    return "%m" + "." * max(0, least - MARKER)
