"""Day partitions of the tables that have them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Literal

from psycopg import AsyncConnection, errors, sql

Connection = AsyncConnection[tuple[object, ...]]
Partitioned = Literal["ledger", "planned"]
"""The tables with a partition a local date."""


class Partitions:
    """One table's partitions, of which this process remembers those it has made sure of."""

    def __init__(self, table: Partitioned) -> None:
        self._table = table
        self._known: set[date] = set()

    async def ensure(self, connection: Connection, days: Iterable[date]) -> None:
        """Create what is missing, in transactions of its own: the connection must not be in one."""
        for day in set(days) - self._known:
            await ensure_partition(connection, day, self._table)
            self._known.add(day)


async def ensure_partition(connection: Connection, day: date, table: Partitioned = "ledger") -> None:
    """Create a table's partition for a local date where it is missing; two at once don't harm each other.

    Raises `errors.LockNotAvailable`, which waiting may mend, where a long query keeps it from the table's lock.
    """
    statement = sql.SQL("CREATE TABLE IF NOT EXISTS {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})").format(
        sql.Identifier(partition_name(table, day)),
        sql.Identifier(table),
        sql.Literal(day),
        sql.Literal(day + timedelta(days=1)),
    )
    try:
        async with connection.transaction():
            # Whoever waits for the whole table's lock holds up all others behind it.
            await connection.execute("SET LOCAL lock_timeout = '1s'")
            await connection.execute(statement)
    except (errors.DuplicateTable, errors.UniqueViolation, errors.InvalidObjectDefinition):
        pass  # Somebody else created it between our look and our CREATE.


async def days_of(connection: Connection, table: Partitioned) -> list[date]:
    """The local dates that have a partition, the first one first. What does not have such a name is none of ours."""
    cursor = await connection.execute(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = %s::regclass",
        (table,),
    )
    days = []
    for (name,) in await cursor.fetchall():
        try:
            day = date.fromisoformat(str(name).removeprefix(f"{table}_"))
        except ValueError:
            continue
        if name == partition_name(table, day):
            days.append(day)
    return sorted(days)


def partition_name(table: Partitioned, day: date) -> str:
    """What a local date's partition is called."""
    return f"{table}_{day:%Y%m%d}"
