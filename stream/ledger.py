"""The ledger agent's work: outcomes by COPY into day partitions, retired tokens and dead addresses out of use.

Idempotent, and the order does not matter: whatever comes again or late, the same results stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from importlib.resources import files

from faust.types import EventT

from shared.clock import utc
from shared.policy.kinds import COMEBACK, KINDS, Path
from shared.store.databases import UserPools
from shared.store.partitions import Partitions
from shared.wire.sends import Outcome, OutcomeBatch, Result, RetiredToken, decode_outcomes
from stream.erasure.late import LateOutcomes
from stream.readable import readable
from stream.runtime import Runtime


class Ledger:
    """Writes outcomes. Raises psycopg's errors where the database does not answer."""

    def __init__(self, pools: UserPools) -> None:
        self._pools = pools
        queries = files("stream") / "queries"
        self._stage = (queries / "stage_outcomes.sql").read_text()
        self._merge = (queries / "merge_ledger.sql").read_text()
        self._count = (queries / "count_unanswered.sql").read_text()
        self._retire = (queries / "retire_token.sql").read_text()
        self._partitions = Partitions("ledger")
        self._late = LateOutcomes(pools)

    async def write(self, batches: Sequence[OutcomeBatch]) -> None:
        """One transaction for a list of batches, then what it tells of users and tokens, and what has to be done about
        users who were erased meanwhile. Each may be done again, so whatever fails brings all of it once more."""
        await self._write(batches)
        await self._count_unanswered(batches)
        await self._retire_all([token for batch in batches for token in batch.retired])
        await self._late.mend(batches)

    async def _write(self, batches: Sequence[OutcomeBatch]) -> None:
        async with self._pools.main.connection() as connection:
            await self._partitions.ensure(connection, (o.local_date for batch in batches for o in batch.outcomes))
            await connection.execute(self._stage)
            async with connection.cursor() as cursor, cursor.copy("COPY staged_outcomes FROM STDIN") as copy:
                n = 0
                for batch in batches:
                    for o in batch.outcomes:
                        n += 1
                        await copy.write_row((n, *_row(batch.path, o)))
            await connection.execute(self._merge)

    async def _count_unanswered(self, batches: Sequence[OutcomeBatch]) -> None:
        """Comebacks that were delivered, each in its user's database: a statement a date, the older dates first."""
        told = [(o.user_id, o) for batch in batches for o in batch.outcomes if _is_comeback(o)]
        for database, mine in self._pools.databases.share(told).items():
            days: dict[date, set[int]] = {}
            for o in mine:
                days.setdefault(o.local_date, set()).add(o.user_id)
            async with self._pools.of(database).connection() as connection:
                for day, users in sorted(days.items()):
                    await connection.execute(self._count, {"day": day, "users": sorted(users)})

    async def _retire_all(self, gone: Sequence[RetiredToken]) -> None:
        """Tokens and addresses out of use, each in its user's database."""
        for database, mine in self._pools.databases.share((each.user_id, each) for each in gone).items():
            retired = [token for token in mine if token.device_id]
            addresses = [token for token in mine if not token.device_id]
            async with self._pools.of(database).connection() as connection, connection.cursor() as cursor:
                if retired:
                    await cursor.executemany(self._retire, [_retirement(token) for token in retired])
                if addresses:
                    await cursor.executemany(
                        "UPDATE users SET email_retired_at = %s, email_retired_reason = %s "
                        "WHERE id = %s AND email = %s AND email_retired_at IS NULL",
                        [(utc(each.at), each.reason, each.user_id, each.token) for each in addresses],
                    )


def _is_comeback(o: Outcome) -> bool:
    return o.result is Result.delivered and o.kind == COMEBACK.name


def _row(path: Path, o: Outcome) -> tuple[object, ...]:
    identity = (o.local_date, o.user_id, KINDS[o.kind].code, int(path), o.campaign)
    return *identity, int(o.result), o.reason, o.provider, utc(o.due_at), utc(o.decided_at), o.latency


def _retirement(retired: RetiredToken) -> dict[str, object]:
    return {
        "at": utc(retired.at),
        "reason": retired.reason,
        "user_id": retired.user_id,
        "device_id": retired.device_id,
        "token": retired.token,
    }


async def handle_outcomes(runtime: Runtime, ledger: Ledger, events: Sequence[EventT[bytes]]) -> None:
    """Write a batch of raw outcome messages; returns when PostgreSQL has them."""
    batches = await readable(runtime, (event.message for event in events), decode_outcomes)
    runtime.meter.batch("messages", len(events))
    if batches:
        await runtime.patience.until_done("writing the ledger", lambda: ledger.write(batches))
