"""The address the server listens on."""

import errno
import socket
from ipaddress import IPv6Address, ip_address

_WORDS = {
    errno.EADDRINUSE: "is in use: stop what listens there or choose another port with --port",
    errno.EACCES: "may not be used by this user: choose a port above 1023 with --port",
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


def address(scheme: str, host: str, port: int) -> str:
    """A URL for trying from this machine. Port 0 is one that is not known yet."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    if ":" in shown:
        shown = f"[{shown}]"
    return f"{scheme}://{shown}:{port or 'PORT'}"


def bind_problem(host: str, port: int) -> str | None:
    """Why the server could not listen here, or None. Leaves nothing bound."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return f"{host} cannot be resolved to an address: set --host to one of this machine"
    for family, kind, protocol, _, where in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                # As asyncio does: connections that linger from the last run are no obstacle.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(where)
                probe.listen(1)
        except OSError as error:
            return f"{host} port {port} {_WORDS.get(error.errno or 0, error.strerror)}"
    return None
