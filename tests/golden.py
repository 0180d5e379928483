"""The labelled frames of PROTOCOL.md."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[1] / "PROTOCOL.md").read_text()
BLOCKS = re.findall(r"^```json name=(\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
GOLDEN: dict[str, str] = dict(BLOCKS)
