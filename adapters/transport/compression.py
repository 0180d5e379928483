"""Agreeing on permessage-deflate (RFC 7692), where the operator has switched it on.

Neither side keeps a window from one message to the next. For the server this means that a message
of a room is compressed once and the same bytes suit every member; for both it means that an idle
connection holds no compressor. What clients send is taken apart by the extension of the sans-I/O
protocol, which stops at the frame limit: a bomb is never unpacked further than that.
"""

from websockets.exceptions import InvalidHandshake
from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.headers import build_extension, parse_extension

from adapters.transport.handshake import Headers, values
from application.compressed import WINDOW_BITS

_FACTORY = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True,
    client_no_context_takeover=True,
    server_max_window_bits=WINDOW_BITS,
)


def negotiate(headers: Headers) -> tuple[bytes, Extension] | None:
    """The first offer that we can accept: the value of the header for it, and what decodes. None
    when there is none, which leaves the connection uncompressed."""
    for value in values(headers, b"sec-websocket-extensions"):
        try:
            offers = parse_extension(value.decode("latin-1"))
        except InvalidHandshake:
            continue
        for name, wanted in offers:
            if name != _FACTORY.name:
                continue
            try:
                agreed, extension = _FACTORY.process_request_params(wanted, [])
            except InvalidHandshake:
                continue
            if extension.local_max_window_bits == WINDOW_BITS:  # else it wants less than all share
                return build_extension([(name, agreed)]).encode(), extension
    return None
