"""Outcomes that reach the ledger after their user was erased."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from shared.store.databases import UserPools
from shared.store.erased import Erased
from shared.wire.sends import OutcomeBatch
from stream.erasure.store import Store

log = structlog.get_logger()


class LateOutcomes:
    """One process's. Must be asked when the rows are committed: who erases tells the names first and looks through the
    ledger then, so one of the two finds them."""

    def __init__(self, pools: UserPools) -> None:
        self._pool = pools.main
        self._erased = Erased()
        self._store = Store(pools.databases, key_days=0)

    async def mend(self, batches: Sequence[OutcomeBatch]) -> None:
        """Rows of these outcomes under the pseudonyms of users who were erased; harmless to repeat."""
        users = [outcome.user_id for batch in batches for outcome in batch.outcomes]
        async with self._pool.connection() as connection:
            found = await self._erased.among(connection, users)
            if not found:
                return
            days = {o.local_date for batch in batches for o in batch.outcomes if o.user_id in found}
            renamed = await self._store.rename_ledger(connection, found, sorted(days))
        log.info("outcomes of erased users were renamed", rows=len(renamed))
