"""Waiting for a server that does not answer: nothing is sent, nothing is lost, one log line a change of state."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import psycopg
import structlog
from aiokafka.errors import KafkaError
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


async def until_done(what: str, call: Callable[[], Awaitable[T]], sleep: Sleep = asyncio.sleep) -> T:
    """Repeat `call` (which must be idempotent) until its servers answer; backs off with full jitter."""
    wait = FIRST_WAIT
    waiting = False
    while True:
        try:
            result = await call()
        except SERVER_TROUBLE as error:
            if not waiting:
                waiting = True
                log.warning("waiting for a server", work=what, error=str(error)[:300], kind=type(error).__name__)
            await sleep(random.uniform(0, wait))  # noqa: S311  # jitter, not a secret
            wait = min(wait * 2, LONGEST_WAIT)
        else:
            if waiting:
                log.info("the server is back", work=what)
            return result
