"""The event loops that hubbub runs on."""

import asyncio
from collections.abc import Callable

Factory = Callable[[], asyncio.AbstractEventLoop]

ASYNCIO: dict[str, Factory] = {"asyncio": asyncio.new_event_loop}
"""That of the standard library: on Windows, and in most tests."""

try:
    from uvloop import new_event_loop
except ImportError:  # not on every platform
    SERVED: dict[str, Factory] = ASYNCIO
else:
    SERVED = {"uvloop": new_event_loop}
"""That of `hubbub serve`, where there is one of its own."""
