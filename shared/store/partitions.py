"""Day partitions of the ledger."""

from __future__ import annotations

from datetime import date, timedelta

from psycopg import AsyncConnection, errors, sql


async def ensure_partition(connection: AsyncConnection[tuple[object, ...]], day: date) -> None:
    """Create the ledger's partition for a local date where it is missing; two at once don't harm each other."""
    statement = sql.SQL("CREATE TABLE IF NOT EXISTS {} PARTITION OF ledger FOR VALUES FROM ({}) TO ({})").format(
        sql.Identifier(f"ledger_{day:%Y%m%d}"), sql.Literal(day), sql.Literal(day + timedelta(days=1))
    )
    try:
        async with connection.transaction():
            await connection.execute(statement)
    except (errors.DuplicateTable, errors.UniqueViolation, errors.InvalidObjectDefinition):
        pass  # Somebody else created it between our look and our CREATE.
