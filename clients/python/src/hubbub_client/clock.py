"""Time that does not lie about a machine that has slept."""

import time
from typing import NamedTuple


class Moment(NamedTuple):
    """In seconds. `steady` never jumps, but stands still on most systems while the machine sleeps;
    `wall` goes on, and may be set to another time by somebody."""

    steady: float
    wall: float

    @classmethod
    def now(cls) -> "Moment":
        return cls(time.monotonic(), time.time())

    def since(self, earlier: "Moment") -> float:
        """Seconds that have passed, sleep included."""
        return max(self.steady - earlier.steady, self.wall - earlier.wall)
