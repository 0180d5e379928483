"""Whether to come back after a connection has ended, and when. Section 10 of PROTOCOL.md."""

import random
from dataclasses import dataclass

FLOOR = 0.5  # seconds
CEILING = 20.0  # seconds
STABLE_AFTER = 5.0  # seconds a connection has to live to begin the row of tries afresh
_FIRST_CEILING = 2.0  # seconds; doubled with each try in a row
_FINAL = {1000, 1007, 1009}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection, or a try to make one, ended.

    `code` is a close code; 1006 for a connection that broke or was never made. `reconnect_after`
    and `lived` are seconds; `lived` is 0 when the server had not said `connected`.
    """

    code: int
    reason: str
    reconnect_after: float = 0.0
    lived: float = 0.0

    @property
    def final(self) -> bool:
        """Whether the server does not want us back."""
        return self.code in _FINAL or 4000 <= self.code < 4100

    @property
    def at_once(self) -> bool:
        return 4200 <= self.code < 4300


class Backoff:
    """Full jitter: a random time between `floor` and a ceiling that doubles up to `ceiling`."""

    def __init__(self, floor: float = FLOOR, ceiling: float = CEILING) -> None:
        """Raises ValueError unless 0 <= floor <= ceiling."""
        if not 0 <= floor <= ceiling:
            raise ValueError(f"a backoff from {floor} s to {ceiling} s is not possible")
        self._floor = floor
        self._ceiling = ceiling
        self._tries = 0

    def wait(self, tries: int) -> float:
        """Seconds before the next try, after `tries` in a row."""
        # Beyond 2**16 any ceiling is reached; and a float has an end.
        doubled = _FIRST_CEILING * 2.0 ** min(tries, 16)
        return random.uniform(self._floor, max(self._floor, min(self._ceiling, doubled)))

    def after(self, ending: Ending) -> float:
        """Seconds to wait before coming back from an ending that is not final."""
        if ending.lived >= STABLE_AFTER:
            self._tries = 0
        delay = ending.reconnect_after
        if not (ending.at_once and self._tries == 0):
            delay = max(delay, self.wait(self._tries))
        self._tries += 1
        return delay
