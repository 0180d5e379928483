"""Frames put together to messages, within bounds that the sans-I/O protocol lacks."""

import codecs
from collections.abc import Callable, Generator

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Protocol
from websockets.server import ServerProtocol
from websockets.streams import StreamReader

from application.disconnects import POLICY

MAX_FRAGMENTS = 64  # of one message; each costs memory, also an empty one

_Utf8 = codecs.getincrementaldecoder("utf-8")


class _FrameReader(StreamReader):
    """Knows whether the next byte begins a frame. That nothing is buffered does not say so: what
    has been read of a frame so far is with its parser."""

    def __init__(self) -> None:
        super().__init__()
        self.between_frames = True

    def at_eof(self) -> Generator[None, None, bool]:
        self.between_frames = True
        ended = yield from super().at_eof()  # asked before each frame
        self.between_frames = False
        return ended


class Frames(ServerProtocol):
    """The sans-I/O protocol from the first frame on; the handshake is ours. `assembly` is the
    message that is coming in."""

    reader: _FrameReader
    assembly: "Assembly"

    def parse(self) -> Generator[None]:
        self.reader = _FrameReader()  # here, as the parser begins to read before __init__ is over
        self.assembly = Assembly()
        return Protocol.parse(self)

    @property
    def between_messages(self) -> bool:
        """Whether the next byte begins a message, or a frame that belongs to none."""
        return self.reader.between_frames and self.current_size is None

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            # Answered inside a fragmented message like anywhere else (RFC 6455, 5.5.1).
            self.current_size = None
        super().recv_frame(frame)


class Unacceptable(Exception):
    """A message that ends its connection. `code` and `reason` are those of the close."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Assembly:
    """The message that one peer is sending. How long it may be is the parser's business."""

    __slots__ = ("_check", "_is_text", "_parts")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._is_text = False
        self._check: Callable[[bytes, bool], str] | None = None

    def add(self, frame: Frame) -> str | bytes | None:
        """The message that this data frame completes. Raises Unacceptable."""
        try:
            return self._add(bytes(frame.data), frame)
        except UnicodeDecodeError:
            raise Unacceptable(CloseCode.INVALID_DATA, "text is not UTF-8") from None

    def forget(self) -> None:
        """Drop what has arrived."""
        self._parts = []
        self._check = None

    def _add(self, data: bytes, frame: Frame) -> str | bytes | None:
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
            if frame.fin:
                return data.decode() if self._is_text else data
            self._check = _Utf8().decode if self._is_text else None
        self._parts.append(data)
        if len(self._parts) > MAX_FRAGMENTS:
            raise Unacceptable(POLICY.code, f"a message may have {MAX_FRAGMENTS} fragments")
        if self._check is not None:
            self._check(data, frame.fin)  # what is wrong is told at once, not at the end
        if not frame.fin:
            return None
        data = b"".join(self._parts)
        self.forget()
        return data.decode() if self._is_text else data
