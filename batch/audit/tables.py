"""The two counts that PostgreSQL keeps of a date: what the planners wrote down, and the ledger.

Both are read from the date's partition by its name: a long read of the parent table would keep other dates' partitions
from being created, and whoever writes to the table would wait in line behind that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from datetime import date
from typing import NamedTuple

import msgspec
import numpy as np
import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from batch.audit.facts import DENIED, RANKING, RECORD, Group, Numbers, Tally
from batch.audit.spool import Spool
from shared.outbox import GRANTED
from shared.policy.kinds import KIND_BY_CODE, KINDS, Path
from shared.store.partitions import Partitioned, partition_name
from shared.wire.sends import Result

Connection = psycopg.AsyncConnection[TupleRow]
Watch = Callable[[str, int, int], None]
"""Told what is being read, how much of it is, and how much there was at the beginning."""

_PAGES = 100
"""Planned rows fetched at a time; each has up to a page's users."""
_ROWS = 100_000
"""Rows of the ledger fetched at a time."""


class Planned:
    """What planners decided for a date. Pages repeat one another: users count once, granted beats a denial (`fold`)."""

    def __init__(self, connection: Connection, day: date, groups: Numbers[Group], watch: Watch) -> None:
        self._connection = connection
        self._day = day
        self._groups = groups
        self._watch = watch
        self.reasons: Numbers[str] = Numbers()
        """Of denials; a reason's mark is its number from `DENIED` on."""

    async def kept(self) -> bool:
        """Whether the date has a partition."""
        return await _partition(self._connection, "planned", self._day) is not None

    async def count(self) -> int:
        """Rows of the date. They are only added: as many are the same. (An erased user's id gives way to a pseudonym,
        which is the same person: batch/audit/persons.py.)"""
        cursor = await self._connection.execute("SELECT count(*) FROM planned WHERE local_date = %s", (self._day,))
        return msgspec.convert(await cursor.fetchone(), tuple[int])[0]

    async def read(self, spool: Spool) -> int:
        """Every decision of the date; from how many rows."""
        return (await self._read("", spool, await self.count()))[0]

    async def read_outbox(self, spool: Spool) -> int:
        """The decisions of pages that may not be in Kafka yet; of how many pages."""
        return (await self._read("JOIN outbox USING (page_id)", spool, 0))[1]

    async def _read(self, join: str, spool: Spool, total: int) -> tuple[int, int]:
        rows, pages = 0, set()
        if (partition := await _partition(self._connection, "planned", self._day)) is None:
            return 0, 0
        query = sql.SQL("SELECT page_id, path, kind, campaign, answer, users FROM {} {} ORDER BY page_id")
        # A cursor of the server lives in a transaction; the connection has none open otherwise.
        async with self._connection.transaction(), self._connection.cursor("planned", binary=True) as cursor:
            cursor.itersize = _PAGES
            await cursor.execute(query.format(partition, sql.SQL(join)))
            async for page, path, kind, campaign, answer, users in cursor:
                mark = 0 if answer == GRANTED else DENIED + self.reasons.of(answer)
                records = np.empty(len(users), RECORD)
                records["user"] = users
                records["group"] = self._groups.of(Group(Path(path), KIND_BY_CODE[kind].name, campaign))
                records["mark"] = mark
                spool.add(records)
                rows += 1
                pages.add(page)
                if total:
                    self._watch("planned pages", rows, total)
        return rows, len(pages)


class LedgerCount(NamedTuple):
    """What the ledger holds of a date."""

    tally: Tally
    reasons: Counter[tuple[Group, Result, str]]


class LedgerTable:
    """The ledger's rows of a date."""

    def __init__(self, connection: Connection, day: date, groups: Numbers[Group]) -> None:
        self._connection = connection
        self._day = day
        self._groups = groups

    async def count(self) -> LedgerCount:
        """How many users ended how, and a checksum of who they are."""
        found = LedgerCount(Tally(), Counter())
        if (partition := await _partition(self._connection, "ledger", self._day)) is None:
            return found
        query = sql.SQL(
            "SELECT path, kind, campaign, result, reason, count(*), bit_xor(user_id) FROM {} GROUP BY 1, 2, 3, 4, 5"
        )
        cursor = await self._connection.execute(query.format(partition))
        for path, kind, campaign, result, reason, n, xor in await cursor.fetchall():
            group = Group(Path(path), KIND_BY_CODE[kind].name, campaign)
            found.tally.add(self._groups.of(group), RANKING.index(Result(result)), n, xor)
            found.reasons[group, Result(result), reason] = n
        return found

    async def read(self, groups: Collection[Group], spool: Spool) -> None:
        """Every row of some groups."""
        if (partition := await _partition(self._connection, "ledger", self._day)) is None:
            return
        query = sql.SQL(
            "SELECT user_id, path, kind, campaign, result FROM {} WHERE (path, kind, campaign) IN "
            "(SELECT * FROM unnest(%s::smallint[], %s::smallint[], %s::text[]))"
        )
        wanted = (
            [int(group.path) for group in groups],
            [KINDS[group.kind].code for group in groups],
            [group.campaign for group in groups],
        )
        async with self._connection.transaction(), self._connection.cursor("ledger", binary=True) as cursor:
            await cursor.execute(query.format(partition), wanted)
            while rows := await cursor.fetchmany(_ROWS):
                facts = [
                    (user, self._groups.of(Group(Path(path), KIND_BY_CODE[kind].name, campaign)), RANKING.index(result))
                    for user, path, kind, campaign, result in rows
                ]
                spool.add(np.array(facts, RECORD))


async def _partition(connection: Connection, table: Partitioned, day: date) -> sql.Identifier | None:
    """The date's partition of a table, if it has one."""
    name = partition_name(table, day)
    cursor = await connection.execute("SELECT to_regclass(%s)", (name,))
    (found,) = await cursor.fetchone() or (None,)
    return sql.Identifier(name) if found else None
