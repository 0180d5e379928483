"""What tests of the benchmarks need to run one."""

import os

import pytest

from entrypoints.bench.compile import NotCompiled
from entrypoints.bench.generators import Generator, choose


@pytest.fixture
def generator() -> Generator:
    """The compiled one; without a compiler there is no such test."""
    try:
        return choose("compiled", tls=False, environ=os.environ)
    except NotCompiled as reason:
        pytest.skip(str(reason))
