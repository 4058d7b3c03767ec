"""At most K scans read a database, whoever started them: advisory locks where the scans read.

A scan holds one of the locks (SCANNING, 0…K-1) with the very connection that reads its pages, so that its slot is free
at once when it dies, however it dies. On a replica advisory locks are the replica's own (PostgreSQL's manual, "Hot
Standby"): K scans a server then, which is what is meant: the load is where the reading is. Pools of connections between
us and the server must keep sessions (PgBouncer's session mode), or the locks belong to nobody.
"""

from __future__ import annotations

import random
import time
from typing import Any

import psycopg
import structlog

from shared.patience import Sleep

SCANNING, WAITING = 0x53_55_52_01, 0x53_55_52_02
"""The first of the two numbers of an advisory lock."""
SLICE = 5.0
"""Seconds that a scan keeps its turn while others wait. A backfill of a day must not make the hour's scan late."""
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 0.5
"""Seconds between two tries: a page takes a quarter of a second at most."""

Connection = psycopg.AsyncConnection[Any]
log = structlog.get_logger()


class Turn:
    """One scan's turns at a database. Held over its pages, given back while it has nothing to read or when others have
    waited for long enough. The log tells of the first time that it waits and goes on."""

    def __init__(self, connection: Connection, most: int, database: str, sleep: Sleep) -> None:
        self._connection = connection
        self._most = most
        self._database = database
        self._sleep = sleep
        self._slot: int | None = None
        self._since = 0.0
        self._told = False

    async def take(self, *, after_others: bool = False) -> None:
        """Wait for a slot and hold it; at once where it is held. Nobody is first in a line: whoever asks in the right
        moment has it."""
        if self._slot is not None:
            return
        if not after_others and await self._try():
            return
        if told := not self._told:
            self._told = True
            log.info("the scan waits for its turn: others read this database", database=self._database, k=self._most)
        # Shared: all who wait have it, and whoever asks whether somebody waits is the only one who may be in the way.
        await self._connection.execute("SELECT pg_advisory_lock_shared(%s, 0)", (WAITING,))
        wait = _LONGEST_WAIT if after_others else _FIRST_WAIT
        while True:
            # Never less than so long after others, who ask at least once meanwhile.
            await self._sleep(wait if after_others else random.uniform(wait / 2, wait))  # noqa: S311  # jitter
            if await self._try():
                break
            after_others, wait = False, min(wait * 1.5, _LONGEST_WAIT)
        await self._connection.execute("SELECT pg_advisory_unlock_shared(%s, 0)", (WAITING,))
        if told:
            log.info("the scan has its turn", database=self._database)

    async def give_back(self) -> None:
        """There is nothing to read for a while."""
        if self._slot is not None:
            slot, self._slot = self._slot, None
            await self._connection.execute("SELECT pg_advisory_unlock(%s, %s)", (SCANNING, slot))

    async def share(self) -> None:
        """Give it to others if it has been held for a slice and somebody waits; returns when it is held again."""
        if self._slot is None or time.monotonic() - self._since < SLICE:
            return
        cursor = await self._connection.execute("SELECT pg_try_advisory_lock(%s, 0)", (WAITING,))
        (nobody_waits,) = await cursor.fetchone() or (True,)
        if nobody_waits:
            await self._connection.execute("SELECT pg_advisory_unlock(%s, 0)", (WAITING,))
            self._since = time.monotonic()
            return
        await self.give_back()
        await self.take(after_others=True)

    async def _try(self) -> bool:
        # From another end each time, so that they do not all begin with those that are surely taken.
        first = random.randrange(self._most)  # noqa: S311  # which end is no secret
        for n in range(self._most):
            slot = (first + n) % self._most
            cursor = await self._connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (SCANNING, slot))
            (taken,) = await cursor.fetchone() or (False,)
            if taken:
                self._slot, self._since = slot, time.monotonic()
                return True
        return False
