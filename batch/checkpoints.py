"""Where a scan got to, and what it has counted: written after Kafka acknowledged a page, read by every rerun.

The connections are in autocommit mode: every statement here stands for itself, unless its caller puts it into a
transaction, as a scan does with a checkpoint and the deletion of its page from the outbox.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import msgspec
from psycopg.types.json import Jsonb

from batch.plan import Plan, Slot
from shared.policy.kinds import COMEBACK
from shared.store.partitions import Connection


@dataclass(slots=True)
class Checkpoint:
    """A shard's place in a run: the slot and user id of the last acknowledged page, and its counts so far."""

    after_slot: int = 0
    after_id: int = 0
    done: bool = False
    pages: int = 0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(local date, "granted" or the reason of a denial) -> candidates of this run's pages; `planned` tells who."""


_Row = tuple[int, tuple[int, int] | None, bool, int, list[tuple[str, str, int]]]


async def record_run(connection: Connection, plan: Plan) -> tuple[Slot, ...]:
    """Write down what is going to be scanned. The first plan of an interval stays, and its slots are the answer:
    checkpoints count in them, whatever the settings say by the time of a rerun."""
    await connection.execute(
        "INSERT INTO scan_runs (run_id, kind, interval_start, interval_end, slots) VALUES (%s, %s, %s, %s, %s) "
        "ON CONFLICT (run_id) DO NOTHING",
        (
            plan.run_id,
            COMEBACK.code,
            plan.interval_start,
            plan.interval_end,
            Jsonb(plan.slots, dumps=lambda slots: msgspec.json.encode(slots).decode()),
        ),
    )
    cursor = await connection.execute("SELECT slots FROM scan_runs WHERE run_id = %s", (plan.run_id,))
    (slots,) = await cursor.fetchone() or ([],)
    return msgspec.convert(slots, tuple[Slot, ...])


async def load(connection: Connection, run_id: str, shards: list[int]) -> dict[int, Checkpoint]:
    """The checkpoints of a run's shards; those that have none start from the beginning."""
    cursor = await connection.execute(
        "SELECT shard, after_key, done, pages, counts FROM scan_checkpoints WHERE run_id = %s AND shard = ANY(%s)",
        (run_id, shards),
    )
    found = {shard: Checkpoint() for shard in shards}
    for row in await cursor.fetchall():
        shard, after, done, pages, counts = msgspec.convert(row, _Row)
        after_slot, after_id = after or (0, 0)
        found[shard] = Checkpoint(
            after_slot, after_id, done, pages, Counter({(day, answer): n for day, answer, n in counts})
        )
    return found


async def save(connection: Connection, run_id: str, shard: int, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; a run that was overtaken by another one of the same interval never moves it back."""
    await connection.execute(
        "INSERT INTO scan_checkpoints AS c (run_id, shard, after_key, done, pages, counts) "
        "VALUES (%(run)s, %(shard)s, %(after)s, %(done)s, %(pages)s, %(counts)s) "
        "ON CONFLICT (run_id, shard) DO UPDATE SET after_key = excluded.after_key, done = excluded.done, "
        "pages = excluded.pages, counts = excluded.counts, updated_at = now() "
        "WHERE NOT c.done AND ((c.after_key ->> 0)::bigint, (c.after_key ->> 1)::bigint) <= (%(slot)s, %(id)s)",
        {
            "run": run_id,
            "shard": shard,
            # Where nothing is left to continue with, it would only be somebody's id.
            "after": None if checkpoint.done else Jsonb([checkpoint.after_slot, checkpoint.after_id]),
            "done": checkpoint.done,
            "pages": checkpoint.pages,
            "counts": Jsonb([[day, answer, n] for (day, answer), n in checkpoint.counts.items()]),
            "slot": checkpoint.after_slot,
            "id": checkpoint.after_id,
        },
    )
