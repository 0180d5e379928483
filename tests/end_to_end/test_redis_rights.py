"""A user of Redis that may do what docs/security.md says, and nothing else."""

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from entrypoints.settings import Settings
from tests.api import KEY, Api
from tests.peer import until
from tests.redis_server import StartRedis
from tests.running_server import RunningServer, Serve, fit_for_tests

PAGE = (Path(__file__).parents[2] / "docs/security.md").read_text(encoding="utf-8")
PASSWORD = "a-password-of-redis"


def rights() -> list[str]:
    """The words of the command in the document."""
    (block,) = re.findall(r"^```redis\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [word.replace("PASSWORD", PASSWORD) for word in block.split()]


def limited(start_redis: StartRedis, *further: str) -> str:
    """The URL of a Redis with that user, and nobody else."""
    redis = start_redis()
    redis.command(*rights(), *further)
    return f"redis://hubbub:{PASSWORD}@{redis.address}"


async def test_a_user_of_redis_with_the_documented_rights_is_enough(
    serve: Serve, start_redis: StartRedis, transport: str
) -> None:
    if transport == "portable":
        pytest.skip("Redis does not see the difference")
    shared = {"backend": "redis", "redis_url": limited(start_redis), "api_key": KEY}
    one, other = await serve(**shared), await serve(**shared)
    ann, _ = await one.member("ann", "tea")
    bob, _ = await other.member("bob", "tea")
    await ann.expect("join", user="bob")
    for number in range(1, 4):
        await bob.ask("publish", room="tea", data=number, key=f"k{number}", echo=False)
        await ann.expect("message", seq=number)
    await ann.ask("publish", room="tea", data="now", ephemeral=True, echo=False)
    await bob.expect("message", data="now")
    assert len((await ann.ask("history", room="tea"))["messages"]) == 3
    assert (await ann.ask("members", room="tea"))["count"] == 2
    bob.vanish()
    again, joined = await one.member("bob", "tea", position={"log": "none.0", "seq": 1})
    assert joined["recovery"]["outcome"] == "reset"
    await again.close()
    await ann.expect("leave", user="bob")
    api = Api(one)
    await api("POST", "/v1/users/ann/disconnect")
    assert (await ann.ending())[1] is not None
    assert not [line for line in one.log.lines + other.log.lines if "NOPERM" in line]


async def test_without_a_right_it_says_so(start_redis: StartRedis) -> None:
    url = limited(start_redis, "-xadd")
    with fit_for_tests():
        server = RunningServer(Settings(port=0, backend="redis", redis_url=SecretStr(url)))
        await server.start()
        ann = await server.user("ann")
        refused = await ann.ask("publish", room="tea", data=1)
        assert refused["type"] == "error"
        await until(lambda: "xadd" in server.log.text.lower() or "NOPERM" in server.log.text)
        assert PASSWORD not in server.log.text
        server.log.errors.clear()
        await server.stop()
