"""Erased users in an audit: the tables have pseudonyms for them, and Kafka their ids."""

from __future__ import annotations

import numpy as np

from batch.audit.facts import RECORD, Folded, Records, fold
from batch.audit.spool import SHARDS, Spool
from batch.audit.tables import Connection
from shared.store.erased import Erased

PARTS = SHARDS + 1
"""A place's facts are compared shard by shard, and those of erased users behind all of them."""


class Persons:
    """The facts of one comparison, each person under one name in all places. The names must have been read after all
    places were: who was erased while they were read has the id in one and the pseudonym in the next."""

    def __init__(self, erased: Erased, connection: Connection) -> None:
        self._erased = erased
        self._connection = connection
        self._theirs: dict[Spool, list[Records]] = {}

    async def part(self, spool: Spool, number: int, groups: set[int] | None = None) -> Folded:
        """The facts of a place's part, 0…`PARTS` - 1 in this order; `groups`: of these alone."""
        if number == SHARDS:
            records = np.concatenate([np.empty(0, RECORD), *self._theirs.pop(spool, [])])
        else:
            records = spool.shard(number)
            if groups is not None:
                records = records[np.isin(records["group"], list(groups))]
            if len(records) and not self._erased.nobody:
                records = await self._living(spool, records)
        return fold(records)

    async def _living(self, spool: Spool, records: Records) -> Records:
        """Without the facts of erased users, which are kept for the last part."""
        users = np.ascontiguousarray(records["user"])
        theirs = users < 0
        suspects = np.unique(users[self._erased.suspects(users) & ~theirs])
        for user_id, erasure in (await self._erased.known(self._connection, suspects)).items():
            mine = users == user_id
            records["user"][mine] = erasure.pseudonym
            theirs |= mine
        self._theirs.setdefault(spool, []).append(records[theirs])
        return records[~theirs]
