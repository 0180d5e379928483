"""Workers of one machine, which answer for each other."""

import asyncio
import os
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from adapters.prometheus_metrics import PrometheusMetrics
from entrypoints.http import siblings as module
from entrypoints.http.siblings import Siblings


def say(topic: str, node: str, details: str) -> bytes:
    return f"{topic} of {node}: {details}".encode()


async def test_each_hears_what_the_others_say(tmp_path: Path) -> None:
    async with AsyncExitStack() as running:
        nodes = {name: Siblings(tmp_path, name) for name in ("a", "b", "c")}
        for name, node in nodes.items():
            topics = {topic: partial(say, topic, name) for topic in ("metrics", "sessions")}
            await running.enter_async_context(node.telling(topics))
        assert await nodes["a"].ask("metrics") == {"b": b"metrics of b: ", "c": b"metrics of c: "}
        told = await nodes["b"].ask("sessions", '{"limit": 3}')
        assert told["a"] == b'sessions of a: {"limit": 3}'
        assert await nodes["b"].ask("nothing known") == {"a": b"", "c": b""}
    assert os.listdir(tmp_path) == []


async def test_one_that_is_gone_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = Siblings(tmp_path, "a")
    (tmp_path / "dead").touch()
    assert await node.ask("metrics") == {}
    assert "no answer of worker dead" in caplog.text


async def test_one_that_hangs_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    released = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    server = await asyncio.start_unix_server(hang, tmp_path / "slow")
    assert await Siblings(tmp_path, "a").ask("metrics") == {}
    released.set()
    server.close()


async def test_a_single_process_asks_nobody() -> None:
    node = Siblings(None, "a")
    async with node.telling({"metrics": lambda _: b"never"}):
        assert await node.ask("metrics") == {}


def test_every_value_says_which_node_it_is_of() -> None:
    a, b = PrometheusMetrics("a"), PrometheusMetrics("b")
    a.count("disconnects", 2, label="1000")
    b.count("disconnects", 3, label="1000")
    b.gauge("rooms", lambda: 7)
    a.observe("publish_seconds", 0.002)
    b.observe("publish_seconds", 0.2)
    b.observe("publish_seconds", 0.2)
    text = a.render({"b": b.render()[0]})[0].decode()
    lines = text.splitlines()
    assert 'hubbub_disconnects_total{code="1000",node="a"} 2.0' in lines
    assert 'hubbub_disconnects_total{code="1000",node="b"} 3.0' in lines
    assert 'hubbub_rooms{node="b"} 7.0' in lines
    assert 'hubbub_node_info{node="a"} 1.0' in lines
    assert 'hubbub_publish_seconds_bucket{le="0.0025",node="a"} 1.0' in lines
    assert 'hubbub_publish_seconds_bucket{le="0.1",node="b"} 0.0' in lines
    assert 'hubbub_publish_seconds_bucket{le="+Inf",node="b"} 2.0' in lines
    assert 'hubbub_publish_seconds_count{node="b"} 2.0' in lines
    assert 'hubbub_publish_seconds_sum{node="b"} 0.4' in lines
    assert lines.count("# TYPE hubbub_publish_seconds histogram") == 1
    assert lines.count("# TYPE hubbub_disconnects_total counter") == 1
    assert all("node=" in line for line in lines if line.startswith(("hubbub", "process")))
