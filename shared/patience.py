"""Waiting for servers that do not answer: nothing is sent, nothing is lost, one log line a change of state."""

from __future__ import annotations

import asyncio
import random
from collections import Counter as Counts
from collections.abc import Awaitable, Callable
from typing import TypeVar

import psycopg
import structlog
from aiokafka.errors import (
    IllegalArgumentError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)
from prometheus_client import CollectorRegistry, Counter, Gauge
from psycopg.errors import ReadOnlySqlTransaction
from psycopg_pool import PoolTimeout

from shared.gate.contract import GateClosedError, GateUnavailableError

T = TypeVar("T")

SERVER_TROUBLE: tuple[type[Exception], ...] = (
    GateUnavailableError,
    KafkaError,
    PoolTimeout,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    # A connection that outlived a failover ends at what is a standby now.
    ReadOnlySqlTransaction,
)
"""What a server's absence looks like, as opposed to a mistake of ours, which repeating does not mend."""

OUR_MISTAKES: tuple[type[KafkaError], ...] = (
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    InvalidTopicError,
    IllegalArgumentError,
)
"""Kafka's name for them: it would say the same for ever."""

FIRST_WAIT = 0.1
LONGEST_WAIT = 10.0
"""Seconds: work resumes at most this long after its server does."""

Sleep = Callable[[float], Awaitable[None]]

log = structlog.get_logger()


class Patience:
    """One process's patience: whatever waits for the same server says so once, not once each."""

    def __init__(self, sleep: Sleep = asyncio.sleep, registry: CollectorRegistry | None = None) -> None:
        self.sleep = sleep
        self.registry = registry or CollectorRegistry()
        self._waiting: Counts[str] = Counts()
        self._resting: Counts[str] = Counts()
        self._answered: set[str] = set()
        """Servers that have answered one of those who wait for them."""
        self._waits = Gauge("surnia_waiting", "Calls that wait for a server", ["server"], registry=self.registry)
        self._troubles = Counter(
            "surnia_server_trouble", "Answers that were none, by server and error", ["server", "error"],
            registry=self.registry,
        )  # fmt: skip

    async def until_done(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat `call` (which must be idempotent) until its servers answer; backs off with full jitter.

        What is no server's trouble is raised at once.
        """
        wait = FIRST_WAIT
        # A call may need several servers: it waits for each that failed it until all of it is done.
        servers: set[str] = set()
        try:
            while True:
                try:
                    result = await call()
                except OUR_MISTAKES:
                    raise
                except SERVER_TROUBLE as error:
                    server = server_of(error)
                    self._troubles.labels(server, type(error).__name__).inc()
                    if server not in servers:
                        servers.add(server)
                        self._enter(server, what, error)
                    await self.sleep(random.uniform(0, wait))  # noqa: S311  # jitter, not a secret
                    wait = min(wait * 2, LONGEST_WAIT)
                else:
                    self._answered |= servers
                    return result
        finally:
            for server in servers:
                self._leave(server)

    @property
    def waiting(self) -> tuple[str, ...]:
        """The servers that are waited for now. For any thread."""
        return tuple(server for server, calls in self._waiting.copy().items() if calls)

    @property
    def resting(self) -> tuple[str, ...]:
        """Those that are left alone now because they asked for it. For any thread."""
        return tuple(server for server, calls in self._resting.copy().items() if calls)

    async def rest(self, server: str, seconds: float) -> None:
        """Leave a server alone for as long as it asked: no trouble, and no reason to call the worker stuck."""
        self._resting[server] += 1
        try:
            await self.sleep(seconds)
        finally:
            self._resting[server] -= 1

    def _enter(self, server: str, what: str, error: Exception) -> None:
        self._waiting[server] += 1
        self._waits.labels(server).set(self._waiting[server])
        if self._waiting[server] == 1:
            log.warning(
                "waiting for a server", server=server, work=what, error=str(error)[:300], kind=type(error).__name__
            )

    def _leave(self, server: str) -> None:
        """The outage is over when the last who waited is done; unless all of them gave up before an answer."""
        self._waiting[server] -= 1
        self._waits.labels(server).set(self._waiting[server])
        if not self._waiting[server] and server in self._answered:
            self._answered.discard(server)
            log.info("the server is back", server=server)


def server_of(error: Exception) -> str:
    """Which server an error speaks of. A closed gate is another matter than an absent one: waiting does not open it."""
    if isinstance(error, GateClosedError):
        return "closed gate"
    if isinstance(error, GateUnavailableError):
        return "gate"
    return "kafka" if isinstance(error, KafkaError) else "postgres"
