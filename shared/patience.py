"""Waiting for servers that do not answer: nothing is sent, nothing is lost, one log line a change of state."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import psycopg
import structlog
from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry, Counter, Gauge
from psycopg_pool import PoolTimeout

from shared.gate.contract import GateUnavailableError

T = TypeVar("T")

SERVER_TROUBLE: tuple[type[Exception], ...] = (
    GateUnavailableError,
    KafkaError,
    PoolTimeout,
    psycopg.OperationalError,
    psycopg.InterfaceError,
)
"""What a server's absence looks like, as opposed to a mistake of ours, which repeating does not mend."""

FIRST_WAIT = 0.1
LONGEST_WAIT = 10.0

Sleep = Callable[[float], Awaitable[None]]

log = structlog.get_logger()


class Patience:
    """One process's patience: whatever waits for the same server says so once, not once each."""

    def __init__(self, sleep: Sleep = asyncio.sleep, registry: CollectorRegistry | None = None) -> None:
        self.sleep = sleep
        self.registry = registry or CollectorRegistry()
        self._waiting: dict[str, int] = {}
        self._waits = Gauge("surnia_waiting", "Calls that wait for a server", ["server"], registry=self.registry)
        self._troubles = Counter(
            "surnia_server_trouble", "Answers that were none, by server and error", ["server", "error"],
            registry=self.registry,
        )  # fmt: skip

    async def until_done(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat `call` (which must be idempotent) until its servers answer; backs off with full jitter."""
        wait = FIRST_WAIT
        server = ""
        try:
            while True:
                try:
                    result = await call()
                except SERVER_TROUBLE as error:
                    self._troubles.labels(server_of(error), type(error).__name__).inc()
                    if server != server_of(error):
                        self._leave(server)
                        server = server_of(error)
                        self._enter(server, what, error)
                    await self.sleep(random.uniform(0, wait))  # noqa: S311  # jitter, not a secret
                    wait = min(wait * 2, LONGEST_WAIT)
                else:
                    if server:
                        self._leave(server, back=True)
                        server = ""
                    return result
        finally:
            self._leave(server)

    def _enter(self, server: str, what: str, error: Exception) -> None:
        already = self._waiting.get(server, 0)
        self._waiting[server] = already + 1
        self._waits.labels(server).set(already + 1)
        if not already:
            log.warning(
                "waiting for a server", server=server, work=what, error=str(error)[:300], kind=type(error).__name__
            )

    def _leave(self, server: str, back: bool = False) -> None:
        if not server:
            return
        self._waiting[server] -= 1
        self._waits.labels(server).set(self._waiting[server])
        if back and not self._waiting[server]:
            log.info("the server is back", server=server)


def server_of(error: Exception) -> str:
    """Which server an error speaks of."""
    if isinstance(error, GateUnavailableError):
        return "gate"
    return "kafka" if isinstance(error, KafkaError) else "postgres"
