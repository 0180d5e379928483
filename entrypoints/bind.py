"""The address the server listens on."""

import errno
import socket
from ipaddress import IPv6Address, ip_address, ip_network

_BACKLOG = 2048  # connections that wait to be accepted

_WORDS = {
    errno.EADDRINUSE: "is in use: stop what listens there or choose another port with {option}",
    errno.EACCES: "may not be used by this user: choose a port above 1023 with {option}",
    errno.EADDRNOTAVAIL: "is no address of this machine",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host. Names other than localhost are not looked up:
    they may lead elsewhere tomorrow."""
    if host.lower() == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def trusted(proxy: str) -> str:
    """An address or a network, as it is compared. Raises ValueError for what is none, and for the
    whole of the internet: whoever is believed may say that it speaks for anybody."""
    try:
        network = ip_network(proxy)
    except ValueError as error:
        raise ValueError(
            f"{proxy!r} is no address and no network like 10.0.0.0/8: {error}"
        ) from None
    if not network.prefixlen:
        raise ValueError(f"{proxy!r} would let everybody choose the address they count for")
    return proxy


def address(scheme: str, host: str, port: int) -> str:
    """A URL for trying from this machine. Port 0 is one that is not known yet."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    if ":" in shown:
        shown = f"[{shown}]"
    return f"{scheme}://{shown}:{port or 'PORT'}"


def listen(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for all addresses of a host, as asyncio would open them. For a port of 0
    all get the same free one. Raises OSError."""
    sockets: list[socket.socket] = []
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, where in dict.fromkeys(found):
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((where[0], port or where[1], *where[2:]))
        port = port or listener.getsockname()[1]
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        sockets.append(listener)
    return sockets


def bind_problem(
    host: str, port: int, options: tuple[str, str] = ("--host", "--port")
) -> str | None:
    """Why the server could not listen here, or None. Leaves nothing bound. `options` say where
    host and port are to be changed."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return f"{host} cannot be resolved to an address: set {options[0]} to one of this machine"
    for family, kind, protocol, _, where in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                # As asyncio does: connections that linger from the last run are no obstacle.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(where)
                probe.listen(1)
        except OSError as error:
            why = _WORDS.get(error.errno or 0, error.strerror or "cannot be listened on")
            return f"{host} port {port} {why.format(option=options[1])}"
    return None
