"""The event loops of these tests."""

from collections.abc import Mapping

import pytest

from tests.loops import ASYNCIO, SERVED, Factory

HOSTILE = ("test_hostile", "test_websocket_conformance")


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Factory]:
    """Who is hostile meets the loop that serves."""
    return SERVED if item.path.name.startswith(HOSTILE) else ASYNCIO
