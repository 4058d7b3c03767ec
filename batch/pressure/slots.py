"""At most K scans a database, whoever started them: advisory locks where the scans read.

A scan holds one of the locks (SCANNING, 0…K-1) with the very connection that reads its pages, so that its slot is free
at once when it dies, however it dies. On a replica advisory locks are the replica's own (PostgreSQL's manual, "Hot
Standby"): K scans a server then, which is what is meant: the load is where the reading is. Pools of connections between
us and the server must keep sessions (PgBouncer's session mode), or the locks belong to nobody.
"""

from __future__ import annotations

import random
from typing import Any

import psycopg
import structlog

from shared.patience import Sleep

SCANNING, WAITING = 0x53_55_52_01, 0x53_55_52_02
"""The first of the two numbers of an advisory lock."""
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 2.0
"""Seconds between two tries: a page takes a quarter of a second at most, a scan's turn some minutes."""

Connection = psycopg.AsyncConnection[Any]
log = structlog.get_logger()


async def take(connection: Connection, most: int, database: str, sleep: Sleep) -> int:
    """Wait for one of `most` slots and hold it for as long as the connection lives; its number.

    The log tells once that it waits, and once that it goes on. Nobody is first in a line: whoever asks in the right
    moment has it.
    """
    slot = await _try(connection, most)
    if slot is not None:
        return slot
    log.info("the scan waits for its turn: others read this database", database=database, scans=most)
    # Shared: all who wait have it, and status counts them.
    await connection.execute("SELECT pg_try_advisory_lock_shared(%s, 0)", (WAITING,))
    wait = _FIRST_WAIT
    while slot is None:
        await sleep(random.uniform(wait / 2, wait))  # noqa: S311  # jitter, not a secret
        wait = min(wait * 1.5, _LONGEST_WAIT)
        slot = await _try(connection, most)
    await connection.execute("SELECT pg_advisory_unlock_shared(%s, 0)", (WAITING,))
    log.info("the scan has its turn", database=database)
    return slot


async def _try(connection: Connection, most: int) -> int | None:
    # From another end each time, so that they do not all begin with those that are surely taken.
    first = random.randrange(most)  # noqa: S311  # which end is no secret
    for n in range(most):
        slot = (first + n) % most
        cursor = await connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (SCANNING, slot))
        (taken,) = await cursor.fetchone() or (False,)
        if taken:
            return slot
    return None
