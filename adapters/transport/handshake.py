"""The opening handshake of a WebSocket, on a request that is parsed already (RFC 6455, 4.2)."""

from base64 import b64decode, b64encode
from hashlib import sha1
from http import HTTPStatus

Headers = list[tuple[bytes, bytes]]
"""Names are in lower case."""

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n%b\r\n"
)
_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
_OURS = (b"connection", b"content-length")  # headers of an answer
_WHY_NOT = b"a WebSocket needs a GET without a body, Sec-WebSocket-Version 13 and one valid key"


def refusal(status: int, headers: Headers, body: bytes) -> bytes:
    """The answer that lets the client not in. The connection ends with it."""
    lines = [b"HTTP/1.1 %d %b" % (status, _PHRASES.get(status, b""))]
    lines += [b"%b: %b" % header for header in headers if header[0].lower() not in _OURS]
    lines += [b"Connection: close", b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*lines, b"", body])


REFUSAL = refusal(
    400,
    [(b"Sec-WebSocket-Version", b"13"), (b"Content-Type", b"text/plain; charset=utf-8")],
    _WHY_NOT,
)
"""The answer to an upgrade that is no handshake."""


def accept_key(method: bytes, version: str, headers: Headers) -> bytes | None:
    """What proves to the client that it was understood; None when this is no handshake.

    A body is refused: servers and proxies disagree about where it ends and frames begin.
    """
    if method != b"GET" or version != "1.1" or _has_body(headers):
        return None
    keys = values(headers, b"sec-websocket-key")
    if len(keys) != 1 or values(headers, b"sec-websocket-version") != [b"13"]:
        return None
    try:
        if len(b64decode(keys[0], validate=True)) != 16:
            return None
    except ValueError:
        return None
    return b64encode(sha1(keys[0] + _MAGIC, usedforsecurity=False).digest())


def offered_subprotocols(headers: Headers) -> list[str]:
    """In the client's order of preference."""
    offered = b",".join(values(headers, b"sec-websocket-protocol")).decode("latin-1")
    return [part.strip() for part in offered.split(",") if part]


def switching(accept: bytes, subprotocol: str | None, extensions: bytes | None) -> bytes:
    """The answer that lets the client in."""
    chosen = b""
    if subprotocol is not None:
        chosen += b"Sec-WebSocket-Protocol: %b\r\n" % subprotocol.encode("ascii")
    if extensions is not None:
        chosen += b"Sec-WebSocket-Extensions: %b\r\n" % extensions
    return _SWITCH % (accept, chosen)


def values(headers: Headers, wanted: bytes) -> list[bytes]:
    """All values of one header."""
    return [value for name, value in headers if name == wanted]


def _has_body(headers: Headers) -> bool:
    lengths = values(headers, b"content-length")
    return lengths not in ([], [b"0"]) or bool(values(headers, b"transfer-encoding"))
