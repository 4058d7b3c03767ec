"""Pages on their way from a planner to Kafka: written down before Kafka has any of one, deleted when it has all.

A planner may die at any moment between. What it had decided is then in `planned`, its messages are in `outbox`, and
whoever finds the row too old finishes the page. So what counts as granted is in Kafka or here, even where the planner
never comes by the same candidates again: a user who practised since, opted out or was deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import date
from typing import NamedTuple

import msgspec
from psycopg.pq import TransactionStatus

from shared.policy.kinds import KINDS, Path
from shared.producer import Producer, Record
from shared.store.databases import Databases
from shared.store.late import PlannedPages
from shared.store.partitions import Connection, Partitions

GRANTED = "granted"

_RECORD = """
WITH page AS (
  INSERT INTO outbox (records) VALUES (%(records)s) RETURNING page_id
), decided AS (
  INSERT INTO planned (local_date, page_id, path, kind, campaign, answer, users)
  SELECT d.local_date, page.page_id, %(path)s, d.kind, d.campaign, d.answer, d.users::bigint[]
  FROM page, unnest(
    %(days)s::date[], %(kinds)s::smallint[], %(campaigns)s::text[], %(answers)s::text[], %(users)s::text[]
  ) AS d (local_date, kind, campaign, answer, users)
)
SELECT page_id FROM page
"""
"""One statement, so a page is there with all that was decided or not at all."""


class Decision(NamedTuple):
    """What a planner decided for several users of a page; a row of `planned`."""

    local_date: date
    kind: str
    campaign: str
    answer: str
    """`GRANTED`, or the reason of a denial."""


class Outbox:
    """Writes pages down. One a process: it remembers the partitions that it has made sure of."""

    def __init__(self) -> None:
        self._partitions = Partitions("planned")

    async def record(
        self, connection: Connection, path: Path, decisions: Mapping[Decision, Sequence[int]], records: Sequence[Record]
    ) -> int:
        """Commit a page, decisions and messages together; its id. Raises psycopg's errors where there is no answer."""
        if connection.info.transaction_status is not TransactionStatus.IDLE:
            # Ours would be a mere savepoint of it, and Kafka would have the page before the database.
            raise RuntimeError("a page is committed by itself: end the connection's transaction first")
        await self._partitions.ensure(connection, (decision.local_date for decision in decisions))
        columns = zip(*decisions, strict=True)
        days, kinds, campaigns, answers = map(list, columns)
        values = {
            "records": pack(records),
            "path": int(path),
            "days": days,
            "kinds": [KINDS[kind].code for kind in kinds],
            "campaigns": campaigns,
            "answers": answers,
            # As text: psycopg looks at every number of a list by itself.
            "users": [array(users) for users in decisions.values()],
        }
        async with nullcontext() if connection.autocommit else connection.transaction():
            cursor = await connection.execute(_RECORD, values)
            (page_id,) = msgspec.convert(await cursor.fetchone(), tuple[int])
        return page_id


def array(numbers: Iterable[int]) -> str:
    """PostgreSQL's text of an array of numbers."""
    return f"{{{','.join(map(str, numbers))}}}"


async def delete(connection: Connection, page_id: int) -> None:
    """Kafka has the page: nobody needs to finish it. Harmless where somebody did."""
    await connection.execute("DELETE FROM outbox WHERE page_id = %s", (page_id,))


async def finish_oldest(connection: Connection, producer: Producer, databases: Databases, older_than: float) -> bool:
    """Write the oldest page to Kafka that was written down more than so many seconds ago; whether there was one.

    Those who do it at once take different pages. Should the planner still live and write it too: a repeated message
    is what delivery and ledger expect.
    """
    async with connection.transaction():
        cursor = await connection.execute(
            # By the database's clock, which stamped the row: it tells whether a process is late, not a reminder.
            "SELECT page_id, records FROM outbox WHERE recorded_at < now() - make_interval(secs => %s) "
            "ORDER BY page_id LIMIT 1 FOR UPDATE SKIP LOCKED",
            (older_than,),
        )
        row = await cursor.fetchone()
        if row is None:
            return False
        page_id, packed = msgspec.convert(row, tuple[int, bytes])
        await PlannedPages(databases).mend_left(connection, page_id)
        await producer.write(unpack(packed))
        await delete(connection, page_id)
    return True


async def finish(connection: Connection, producer: Producer, page_id: int) -> None:
    """Write a page to Kafka now, whoever else is about to; harmless where somebody did."""
    async with connection.transaction():
        cursor = await connection.execute("SELECT records FROM outbox WHERE page_id = %s FOR UPDATE", (page_id,))
        row = await cursor.fetchone()
        if row is not None:
            await producer.write(unpack(msgspec.convert(row, tuple[bytes])[0]))
            await delete(connection, page_id)


pack = msgspec.msgpack.Encoder().encode
"""A page's messages as `outbox.records` holds them."""
unpack = msgspec.msgpack.Decoder(list[Record]).decode
