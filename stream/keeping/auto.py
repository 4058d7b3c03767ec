"""Workers that open a closed gate by themselves (`SURNIA_GATE_AUTO_REBUILD`)."""

from __future__ import annotations

import structlog

from shared.gate import Keeper
from stream.keeping import tables
from stream.keeping.account import Rebuilt
from stream.keeping.rebuild import rebuild
from stream.runtime import Runtime

LOOK_SECONDS = 1.0
"""Between two looks, each one pipelined question to the gate."""
_LOCK = 0x73_75_72_6E_69_62
"""PostgreSQL's advisory lock of the worker that rebuilds: more would do the same work beside one another."""

log = structlog.get_logger()


class AutoRebuild:
    """One worker's part in it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._keeper = Keeper(runtime.keyspace, runtime.settings)
        self._said = False

    async def look(self) -> Rebuilt | None:
        """Rebuild the gate if it is closed and no other worker does; what it came to. Waits for absent servers."""
        patience = self._runtime.patience
        if not await patience.until_done("looking whether the gate is open", self._keeper.closed):
            return None
        return await patience.until_done("rebuilding the gate", self._alone)

    async def _alone(self) -> Rebuilt | None:
        async with await tables.connect(self._runtime.settings) as connection:
            # The connection's end lets go of it, ours or that of a worker that died.
            cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,))
            row = await cursor.fetchone()
            if not row or not row[0]:
                return None
            closed = await self._keeper.closed()
            if not closed:
                return None
            if not self._said:
                self._said = True
                log.warning("the gate is closed: rebuilding it", shards=len(closed), why=next(iter(closed.values())))
            done = await rebuild(self._runtime)
        self._said = False
        if done.still_closed:
            log.error("the gate's data was lost again and again: it stays closed", shards=len(done.still_closed))
        else:
            log.warning(
                "the gate is open again", shards=len(done.shards), epoch=done.epoch, claimed=done.claimed,
                settled=done.settled, marks=done.marks, seconds=round(done.seconds, 1),
            )  # fmt: skip
        return done
