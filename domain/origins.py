"""Which web pages may talk to us.

A browser lets any page open a WebSocket to any server and tells the server whose page it was.
Origins are compared whole, never by prefix or suffix: `https://example.com.evil.example` begins
and `https://evil-example.com` ends like a good one.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv6Address
from typing import NamedTuple
from urllib.parse import urlsplit

_HOST = r"(?P<host>(?:[A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+\.?|\[[0-9A-Fa-f:.]+\])"
_PORT = r"(?::(?P<port>[1-9][0-9]{0,4}))?"
_ORIGIN = re.compile(rf"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://{_HOST}{_PORT}")
_AUTHORITY = re.compile(_HOST + _PORT)

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HTTP_SCHEMES = {"ws": "http", "wss": "https"}
_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1"})
_OWN_NAMES = _LOOPBACK_HOSTS | {"[::1]"}
_ADDRESS = re.compile(r"[0-9.]+|\[[0-9A-Fa-f:.]+\]")
_MAX_PORT = 65535
_FORM = "scheme://host or scheme://host:port, like https://example.com"


class _Origin(NamedTuple):
    """Lower case; `port` is None for the default one of a scheme we do not know."""

    scheme: str
    host: str
    port: int | None


class OriginPolicy:
    """One decision for WebSocket, event streams and CORS."""

    __slots__ = ("_any", "_listed", "_local", "_loopback", "_null")

    def __init__(self, allowed: Sequence[str], *, loopback: bool, local: bool = False) -> None:
        """`allowed` holds origins, `null` for pages without one, `*` for every origin but `null`.
        `loopback` also lets in pages served over http from this machine, at any port. `local`: we
        can be reached from this machine only, so a page is of the same origin only when it names
        us by a loopback name; any other name that leads here was made to (DNS rebinding).

        Raises ValueError for anything that could never match, saying what to write instead.
        """
        self._any = "*" in allowed
        self._null = "null" in allowed
        self._listed = frozenset(_listed(text) for text in allowed if text not in ("*", "null"))
        self._loopback = loopback
        self._local = local

    def allows(self, origin: str | None, scheme: str, host: str) -> bool:
        """Whether a page of this origin may talk to us.

        `origin` and `host` are the headers as received (None: no Origin header, so no browser; of
        several Origin headers hand in all, joined by a comma), `scheme` is how we were reached:
        http, https, ws or wss.
        """
        if origin is None:
            return True
        if origin == "null":
            return self._null
        page = _parse(origin)
        if page is None:
            return False
        return (
            self._any
            or page in self._listed
            or (self._loopback and page.scheme == "http" and page.host in _LOOPBACK_HOSTS)
            or (
                (not self._local or page.host in _OWN_NAMES)
                and _is_same(page, _HTTP_SCHEMES.get(scheme, scheme), host)
            )
        )

    def knows(self, host: str | None) -> bool:
        """Whether a request with this Host header (None: without one, so from no browser) may be
        answered although it names no origin, as those do by which a page reads its own server.

        Where only this machine reaches us, a name that is neither a loopback one nor of a listed
        origin was made to lead here. An address leads to nobody else, whoever writes it.
        """
        if not self._local or self._any or host is None:
            return True
        match = _AUTHORITY.fullmatch(host)
        name = match["host"].lower() if match else ""
        return (
            name in _OWN_NAMES
            or _ADDRESS.fullmatch(name) is not None
            or any(name == origin.host for origin in self._listed)
        )


def _is_same(page: _Origin, scheme: str, host: str) -> bool:
    # https at a server that was reached by http: a proxy in front of us took the TLS off. The
    # other way round it is a page somebody on the network may have written.
    if page.scheme != "https" and not page.scheme == scheme == "http":
        return False
    # The browser wrote the Host header too, so it left out the default port of its own scheme.
    match = _AUTHORITY.fullmatch(host)
    return match is not None and page == _origin(page.scheme, match)


def _parse(text: str) -> _Origin | None:
    match = _ORIGIN.fullmatch(text)
    return match and _origin(match["scheme"].lower(), match)


def _origin(scheme: str, match: re.Match[str]) -> _Origin:
    port = int(match["port"]) if match["port"] else _DEFAULT_PORTS.get(scheme)
    return _Origin(scheme, match["host"].lower(), port)


def _listed(text: str) -> _Origin:
    origin = _parse(text)
    if origin is None or not _is_ever_sent(origin):
        raise ValueError(f"{text!r} is no origin: {_advice(text)}")
    return origin


def _is_ever_sent(origin: _Origin) -> bool:
    if origin.scheme in _HTTP_SCHEMES or (origin.port or 0) > _MAX_PORT:
        return False
    try:
        return origin.host[0] != "[" or origin.host == _canonical(origin.host[1:-1])
    except ValueError:
        return False


def _canonical(host: str) -> str:
    """A host as browsers write it. Raises ValueError."""
    return f"[{IPv6Address(host)}]" if ":" in host else host.encode("idna").decode().lower()


def _advice(text: str) -> str:
    if "*" in text:
        return "a * stands alone, for every origin; otherwise list each one in full"
    if text.strip().lower() == "null":
        return "write null"
    bare = text.strip()
    if "://" not in bare:
        bare = f"{'http' if bare.startswith(tuple(_LOOPBACK_HOSTS)) else 'https'}://{bare}"
    try:
        parts = urlsplit(bare)
        host = _canonical(parts.hostname or "")
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return f"write {_FORM}"
    origin = f"{_HTTP_SCHEMES.get(parts.scheme, parts.scheme)}://{host}{port}"
    return f"write {origin if _parse(origin) else _FORM}"
