"""Server WebSocket frames as bytes.

A dialect frames a message once and every member is handed the same bytes, so all of hubbub passes
complete frames; only a transport whose server insists on framing takes them apart again.
Server frames are never masked (RFC 6455, 5.1).
"""

from collections.abc import Iterator
from struct import Struct

_TEXT = 0x81  # FIN, no extension bits, opcode 1
_BINARY = 0x82
_SHORT = [bytes((_TEXT, length)) for length in range(126)]
_MEDIUM = Struct("!BBH")
_LONG = Struct("!BBQ")


def text_frame(payload: bytes) -> bytes:
    """A whole text message as one unmasked frame. `payload` must be UTF-8."""
    length = len(payload)
    if length < 126:
        return _SHORT[length] + payload
    if length < 0x10000:
        return _MEDIUM.pack(_TEXT, 126, length) + payload
    return _LONG.pack(_TEXT, 127, length) + payload


def binary_frame(payload: bytes) -> bytes:
    """A whole binary message as one unmasked frame."""
    frame = text_frame(payload)
    return bytes((_BINARY,)) + frame[1:]


def messages(frames: bytes) -> Iterator[str | bytes]:
    """The messages in a concatenation of frames made here: text as str, binary as bytes.

    Raises ValueError for anything else.
    """
    for kind, payload in _split(frames):
        yield payload.decode() if kind == _TEXT else payload


def payload(frame: bytes) -> bytes:
    """The payload of one frame made here."""
    length = frame[1]
    if length < 126:
        return frame[2:]
    return frame[_MEDIUM.size if length == 126 else _LONG.size :]


def payloads(frames: bytes) -> Iterator[bytes]:
    """The payloads of a concatenation of frames made here. Raises ValueError for anything else."""
    for _, payload in _split(frames):
        yield payload


def _split(frames: bytes) -> Iterator[tuple[int, bytes]]:
    start, end = 0, len(frames)
    while start < end:
        kind = frames[start]
        start, stop = _payload_at(frames, start)
        if stop > end:
            raise ValueError(f"frame of {stop - start} bytes is cut off after {end - start}")
        yield kind, frames[start:stop]
        start = stop


def _payload_at(frames: bytes, start: int) -> tuple[int, int]:
    """Where the payload of the frame at `start` begins and ends."""
    header = frames[start : start + _LONG.size]
    if header[0] not in (_TEXT, _BINARY) or len(header) < 2 or header[1] > 127:
        raise ValueError(f"no unmasked message frame at byte {start}")
    length, size = header[1], 2
    if length >= 126:
        extended = _MEDIUM if length == 126 else _LONG
        size = extended.size
        if len(header) < size:
            raise ValueError(f"header at byte {start} is cut off")
        length = extended.unpack_from(header)[2]
    return start + size, start + size + length
