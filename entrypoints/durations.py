"""Durations as people write them."""

import re

_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_MAX_SECONDS = 10 * 365 * 86_400


def seconds(option: str, duration: str) -> int:
    """Read `30s`, `15m`, `12h` or `7d`. Raises ValueError with a text that names the option."""
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ValueError(f"{option} {duration!r} is no duration: write 30s, 15m, 12h or 7d")
    found = int(match[1]) * _UNITS[match[2]]
    if not 0 < found <= _MAX_SECONDS:
        raise ValueError(f"{option} {duration} is not between 1s and 3650d")
    return found
