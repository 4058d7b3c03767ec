"""How far a replica is behind.

`now() - pg_last_xact_replay_timestamp()` alone grows without end while the primary has nothing to replay. So positions
come first: what the primary had written by a look, the replica must have replayed by the next one. Where it has not,
it is behind since then at least, and only then its last transaction's time says how far.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg

Connection = psycopg.AsyncConnection[Any]

_WRITTEN = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"
_REPLAYED = """
SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint,
       extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8
WHERE pg_is_in_recovery()
"""


class ReplicaLag:
    """Of one replica, look by look."""

    def __init__(self, primary: Connection, replica: Connection, now: Callable[[], float] = time.monotonic) -> None:
        self._primary = primary
        self._replica = replica
        self._now = now
        self._awaited: tuple[float, int] | None = None
        """When the primary was seen at a position that the replica has yet to reach, and the position."""

    async def seconds(self) -> float:
        """Seconds that it is behind, as far as this look and those before it can tell; 0 for what is no replica."""
        # The primary first: what it writes afterwards is nothing that the replica could have had.
        written = int((await (await self._primary.execute(_WRITTEN)).fetchone() or (0,))[0])
        row = await (await self._replica.execute(_REPLAYED)).fetchone()
        if row is None or row[0] is None:
            return 0.0
        replayed, age = int(row[0]), float(row[1] or 0.0)
        now = self._now()
        if self._awaited and replayed < self._awaited[1]:
            return max(now - self._awaited[0], age)
        self._awaited = None if replayed >= written else (now, written)
        return 0.0
