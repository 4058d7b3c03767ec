"""The broker: whoever takes these tests elsewhere gives `brokers` and `restart_broker`. No other file
here knows of Surnia."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from infra.stack import process
from infra.stack.part import process_of
from infra.stack.stack import Stack
from tests.integration.transport.broker import Broker


@pytest.fixture(scope="session")
def brokers(addresses: dict[str, str]) -> str:
    """An Apache Kafka's bootstrap address."""
    return addresses["kafka_brokers"]


@pytest.fixture
def restart_broker(stack_dir: Path) -> Callable[[], None]:
    """Kills the broker and starts it again with its data."""

    def restart() -> None:
        stack = Stack(stack_dir)
        if running := process_of(stack.parts["kafka"].record()):
            process.end(running, signal.SIGKILL, 10)
        stack.up(parts=("kafka",))

    return restart


@pytest.fixture
async def broker(brokers: str) -> AsyncIterator[Broker]:
    """A client of it, to fill topics and to look at what groups have committed."""
    async with Broker(brokers) as broker:
        yield broker
