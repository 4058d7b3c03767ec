"""Where a scan got to, and what it has counted: written after Kafka acknowledged a page, read by every rerun.

The connections are in autocommit mode: every statement here stands for itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from psycopg.types.json import Jsonb

from batch.plan import Plan, Slot
from shared.policy.kinds import COMEBACK
from shared.store.partitions import Connection


@dataclass(slots=True)
class Checkpoint:
    """A shard's place in a run, and its counts so far.

    A scan works in rounds: all who are due by now, then those who are due by then, slot by slot, and in a slot by their
    place in the hour and id. Everybody due before `begun` is done; of those due before `until`, the end of the round
    under way, those up to (slot, place, id) are.
    """

    after_slot: int = 0
    """From 1; 0: the round has only begun."""
    after_id: int = 0
    done: bool = False
    pages: int = 0
    """Those that ended in this shard."""
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(local date, "granted" or the reason of a denial) -> candidates of this run's pages; `planned` tells who."""
    after_place: int = 0
    begun: float = 0.0
    until: float = 0.0

    def next_round(self) -> None:
        """All of the round under way is done."""
        self.begun, self.after_slot, self.after_place, self.after_id = self.until, 0, 0, 0


# The id stands where erasure (stream/erasure) looks for it.
_Row = tuple[int, list[int | float] | None, bool, int, list[tuple[str, str, int]]]

_SAVE = """
WITH gone AS (
  DELETE FROM outbox WHERE page_id = %(page)s
)
INSERT INTO scan_checkpoints AS c (run_id, shard, after_key, done, pages, counts)
SELECT %(run)s, n.shard, n.after_key, n.done, n.pages, n.counts
FROM jsonb_to_recordset(%(checkpoints)s)
  AS n(shard smallint, after_key jsonb, done boolean, pages integer, counts jsonb)
ORDER BY n.shard
ON CONFLICT (run_id, shard) DO UPDATE SET after_key = excluded.after_key, done = excluded.done, pages = excluded.pages,
  counts = excluded.counts, updated_at = now()
WHERE NOT c.done AND (excluded.done OR c.after_key IS NULL OR jsonb_array_length(c.after_key) < 5 OR
  ((c.after_key ->> 3)::float, (c.after_key ->> 0)::int, (c.after_key ->> 2)::int, (c.after_key ->> 1)::bigint) <=
  ((excluded.after_key ->> 3)::float, (excluded.after_key ->> 0)::int, (excluded.after_key ->> 2)::int,
   (excluded.after_key ->> 1)::bigint))
"""
"""One statement: a page leaves the outbox with its checkpoint or not at all. Of those who scan one run at once, nobody
moves the place back; in the order of shards, or two of them would wait for one another."""


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
            Jsonb(plan.slots, dumps=_dumps),
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
    for shard, key, done, pages, counts in msgspec.convert(await cursor.fetchall(), list[_Row]):
        if done:
            after = Checkpoint()
        elif key is not None and len(key) == 5:
            slot, user_id, place = (int(part) for part in key[:3])
            after = Checkpoint(slot, user_id, after_place=place, begun=key[3], until=key[4])
        else:
            continue  # Of a scan that went by ids alone: from the beginning, and the gate answers as it did.
        after.done, after.pages = done, pages
        after.counts = Counter({(day, answer): n for day, answer, n in counts})
        found[shard] = after
    return found


async def save(
    connection: Connection, run_id: str, checkpoints: Mapping[int, Checkpoint], page_id: int | None = None
) -> None:
    """Write shards' checkpoints, and take the page that they come from out of the outbox."""
    rows = [
        {
            "shard": shard,
            # Where nothing is left to continue with, it would only be somebody's id.
            "after_key": None if one.done else [one.after_slot, one.after_id, one.after_place, one.begun, one.until],
            "done": one.done,
            "pages": one.pages,
            "counts": [[day, answer, n] for (day, answer), n in one.counts.items()],
        }
        for shard, one in checkpoints.items()
    ]
    values = {"page": page_id, "run": run_id, "checkpoints": Jsonb(rows, dumps=_dumps)}
    await connection.execute(_SAVE, values)


def _dumps(thing: object) -> str:
    return msgspec.json.encode(thing).decode()
