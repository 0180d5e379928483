"""Where a Redis is and how it wants to be spoken to, as its URL says.

    redis://[user:password@]host[:port][/db]          rediss:// with TLS
    unix://[user:password@]/path/of/socket[?db=0]
    redis+sentinel://[user:password@]host[:port],host[:port]/MASTER[/db]
    redis+cluster://[user:password@]host[:port],host[:port]
    rediss+sentinel:// and rediss+cluster:// with TLS to all of them

Options in the query: `db`; with TLS `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile` (paths),
`ssl_cert_reqs` (`required`, `none`), `ssl_check_hostname`; with Sentinel `sentinel_username` and
`sentinel_password`, which are not those of the servers it watches.
"""

import ssl
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from redis.connection import parse_url

DEFAULT_PORT = 6379
SENTINEL_PORT = 26379
_TLS_OPTIONS = {
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_cert_reqs",
    "ssl_check_hostname",
}
_FALSE = {"0", "false", "no", "off"}
_SENTINEL_OPTIONS = {"sentinel_username", "sentinel_password"}


class BadUrl(ValueError):
    """Not a URL we understand. The text never repeats the URL: it may hold a password."""


class Topology(StrEnum):
    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Address:
    """One server. A `path` is that of a unix socket, and then host and port mean nothing."""

    host: str = "localhost"
    port: int = DEFAULT_PORT
    path: str = ""
    db: int = 0
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    def at(self, host: str, port: int) -> "Address":
        """Another server that wants the same."""
        return replace(self, host=host, port=port)


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL names. `seeds`: the server; or the Sentinels; or some nodes of the cluster.
    `server` has what the servers that hold the data want; with Sentinel, `master` names them."""

    topology: Topology
    seeds: tuple[Address, ...]
    server: Address
    master: str = ""


def parse(url: str) -> Target:
    """Raises BadUrl."""
    scheme, _, rest = url.partition("://")
    base, _, kind = scheme.partition("+")
    if kind == "" and base in {"redis", "rediss", "unix"}:
        server = _address(base, rest)
        return Target(Topology.SINGLE, (server,), server)
    if kind not in {"sentinel", "cluster"} or base not in {"redis", "rediss"}:
        raise BadUrl(
            "a Redis URL begins with redis://, rediss://, unix://, redis+sentinel://, "
            "rediss+sentinel://, redis+cluster:// or rediss+cluster://"
        )
    return _sentinel(base, rest) if kind == "sentinel" else _cluster(base, rest)


def _sentinel(base: str, rest: str) -> Target:
    authority, path, query = _split(rest)
    user, hosts = _hosts(authority, SENTINEL_PORT)
    master, _, db = path.strip("/").partition("/")
    if not master:
        raise BadUrl("a Sentinel URL ends in /NAME, the name of the master it watches")
    options = dict(parse_qsl(query))
    kept = "&".join(f"{n}={quote(v)}" for n, v in options.items() if n not in _SENTINEL_OPTIONS)
    server = _address(base, f"{user}unnamed/{db}?{kept}")
    watcher = replace(
        server,
        db=0,
        username=options.get("sentinel_username", ""),
        password=options.get("sentinel_password", ""),
    )
    seeds = tuple(watcher.at(host, port) for host, port in hosts)
    return Target(Topology.SENTINEL, seeds, server, master)


def _cluster(base: str, rest: str) -> Target:
    authority, path, query = _split(rest)
    user, hosts = _hosts(authority, DEFAULT_PORT)
    server = _address(base, f"{user}unnamed{path}?{query}")
    if server.db:
        raise BadUrl("a Redis Cluster has no database but 0")
    seeds = tuple(server.at(host, port) for host, port in hosts)
    return Target(Topology.CLUSTER, seeds, server)


def _split(rest: str) -> tuple[str, str, str]:
    try:
        parts = urlsplit(f"redis://{rest}")
    except ValueError:
        raise BadUrl("the Redis URL cannot be read") from None
    return parts.netloc, parts.path, parts.query


def _hosts(authority: str, port: int) -> tuple[str, list[tuple[str, int]]]:
    """The part up to the `@` as it stands, and each host with its port."""
    user, at, listed = authority.rpartition("@")
    hosts = []
    for host in listed.split(","):
        server = _address("redis", f"{host}/0")
        hosts.append((server.host, server.port if _port_given(host) else port))
    return user + at, hosts


def _port_given(host: str) -> bool:
    return ":" in host.rpartition("]")[2]


def _address(base: str, rest: str) -> Address:
    try:
        options: dict[str, Any] = parse_url(f"{base}://{rest}")  # type: ignore[no-untyped-call]
    except ValueError:
        # Its own words may hold what stands behind a stray `:`, which may be a password.
        raise BadUrl(
            "the Redis URL cannot be read; is a character to be percent-encoded?"
        ) from None
    options.pop("connection_class", None)
    tls = _tls({name: options.pop(name) for name in _TLS_OPTIONS & options.keys()}, base)
    known = {"host", "port", "path", "db", "username", "password"}
    if unknown := options.keys() - known:
        raise BadUrl(f"the Redis URL has options unknown here: {', '.join(sorted(unknown))}")
    return Address(**{**options, "tls": tls})


def _tls(options: dict[str, Any], base: str) -> ssl.SSLContext | None:
    if base != "rediss":
        if options:
            raise BadUrl(f"{min(options)} needs a rediss:// URL")
        return None
    demand = options.get("ssl_cert_reqs", "required")
    if demand not in {"required", "none"}:
        raise BadUrl("ssl_cert_reqs is `required` or `none`")
    try:
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
        if "ssl_certfile" in options:
            context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    except OSError as error:
        raise BadUrl(
            f"the certificates of the Redis URL cannot be used: {error.strerror}"
        ) from None
    if demand == "none" or str(options.get("ssl_check_hostname", True)).lower() in _FALSE:
        context.check_hostname = False
    if demand == "none":
        context.verify_mode = ssl.CERT_NONE
    return context
