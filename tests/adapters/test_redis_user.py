"""The Redis users of README.md: what hubbub needs, and no more. That it is enough is shown by all
other tests of brokers, presences and orders, which go to Redis as these users."""

import re
from pathlib import Path

import pytest
import redis

from tests.redis_server import RedisServer
from tests.redis_user import NAME, PASSWORD, SENTINEL_NAME, as_hubbub, setuser

ADAPTER = Path(__file__).parents[2] / "adapters" / "redis"
SOURCES = "\n".join(
    path.read_text(encoding="utf-8")
    for pattern in ("*.py", "scripts/*.lua")
    for path in sorted(ADAPTER.glob(pattern))
)
COMMANDS = re.findall(r"\+(\S+)", " ".join(rules for _, rules in setuser()))


def test_every_user_is_there() -> None:
    assert [name for name, _ in setuser()] == [NAME, NAME, SENTINEL_NAME]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_is_allowed_that_is_not_sent(command: str) -> None:
    words = [rf'["\']{word}["\']' for word in command.upper().split("|")]
    assert re.search(", ".join(words), SOURCES), command


@pytest.mark.redis
@pytest.mark.parametrize(
    "words",
    [
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("KEYS", "*"),
        ("GET", "somebody-elses"),
        ("SET", "hubbubble", "x"),
        ("PUBLISH", "somebody-elses", "x"),
        ("CLIENT", "LIST"),
        ("ACL", "WHOAMI"),
    ],
)
def test_what_is_not_hubbubs_is_not_for_its_user(
    redis_server: RedisServer, words: tuple[str, ...]
) -> None:
    with (
        redis_server.client(username=NAME, password=PASSWORD) as client,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        client.execute_command(*words)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/2", "redis://hubbub:p%40ss%2Fword@h:1/2"),
        ("redis://ann:x@h", "redis://ann:x@h"),
        (
            "redis+sentinel://h:1,i:2/main",
            "redis+sentinel://hubbub:p%40ss%2Fword@h:1,i:2/main"
            "?sentinel_username=hubbub-sentinel&sentinel_password=p%40ss%2Fword",
        ),
    ],
)
def test_urls_get_a_user(url: str, shown: str) -> None:
    assert as_hubbub(url) == shown
