"""The Redis users that README.md says to make. Everything of hubbub that is tested on a Redis goes
there as these, so a command that README.md forgets is a test that fails."""

import re
from pathlib import Path
from urllib.parse import quote

NAME = "hubbub"
SENTINEL_NAME = "hubbub-sentinel"
PASSWORD = "p@ss/word"
_README = Path(__file__).parents[1] / "README.md"
_BLOCK = re.compile(r"^```redis\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SETUSER = re.compile(r"^ACL SETUSER (\S+) (.+)$", re.MULTILINE)


def setuser() -> list[tuple[str, str]]:
    """Each name and its rules, in the order of README.md: every server, cluster, Sentinels."""
    (block,) = _BLOCK.findall(_README.read_text(encoding="utf-8"))
    return _SETUSER.findall(block)


def rules(*, cluster: bool = False) -> str:
    """What the user of hubbub may do."""
    everywhere, in_a_cluster, _ = setuser()
    said = " ".join((everywhere[1], in_a_cluster[1])) if cluster else everywhere[1]
    return said.replace("PASSWORD", PASSWORD)


def config_line(*, cluster: bool = False, sentinel: bool = False) -> str:
    """The same as a line of redis.conf."""
    if sentinel:
        name, said = setuser()[2]
        return f"user {name} {said.replace('PASSWORD', PASSWORD)}"
    return f"user {NAME} {rules(cluster=cluster)}"


def as_hubbub(url: str) -> str:
    """A URL with the name and password of these users, unless it has others."""
    scheme, _, rest = url.partition("://")
    if scheme == "unix" or "@" in rest:
        return url
    secret = quote(PASSWORD, safe="")
    if scheme.endswith("+sentinel"):
        rest += "&" if "?" in rest else "?"
        rest += f"sentinel_username={SENTINEL_NAME}&sentinel_password={secret}"
    return f"{scheme}://{NAME}:{secret}@{rest}"
