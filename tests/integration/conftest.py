"""Fixtures that several files use: a worker's parts over the session's stack, and a Valkey of a file's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from shared.gate import RedisGate
from shared.settings import Settings
from stream.runtime import Runtime
from tests.integration import support, valkeys
from tests.integration.valkeys import Valkey


@pytest.fixture
async def runtime(settings: Settings) -> AsyncIterator[Runtime]:
    """A worker's parts, open."""
    async with support.running(settings) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A Valkey of the file's own; its `VALKEY_OPTIONS` are lines of the configuration."""
    options: tuple[str, ...] = getattr(request.module, "VALKEY_OPTIONS", ())
    server = Valkey(tmp_path_factory.mktemp("valkey") / "server", *options)
    with valkeys.running(server):
        yield server


@pytest.fixture
async def gate(settings: Settings) -> AsyncIterator[RedisGate]:
    """The gate that the settings name."""
    async with valkeys.gate_of(settings) as gate:
        yield gate
