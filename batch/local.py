"""The batch path without Airflow: one process walks all shards, as `surnia scan` does."""

from __future__ import annotations

from collections import Counter

import msgspec
from rich.progress import Progress

from batch.plan import Plan
from batch.scan import ScanSummary, record, scan
from shared.identity import SHARDS
from shared.settings import Settings
from shared.store.databases import Databases


class Count(msgspec.Struct):
    """Who is due in an interval, before opt-outs, devices and the gate."""

    run_id: str
    users: int
    by_zone: dict[str, int]


async def run(settings: Settings, plan: Plan, progress: Progress) -> ScanSummary:
    """Scan every group of shards, one after the other."""
    await record(settings, plan)
    task = progress.add_task("shards", total=SHARDS)
    totals = ScanSummary(plan.run_id, 0, 0, 0, 0, {})
    denied: Counter[str] = Counter()
    for shards in Databases.of(settings).shard_groups(settings.shard_groups):
        summary = await scan(settings, plan, shards)
        totals.shards += summary.shards
        totals.pages += summary.pages
        totals.candidates += summary.candidates
        totals.granted += summary.granted
        denied.update(summary.denied)
        progress.advance(task, len(shards))
    totals.denied = dict(denied)
    return totals


async def count(settings: Settings, plan: Plan) -> Count:
    """Count who stands on the planned slots; reads only, claims and sends nothing."""
    found: Counter[str] = Counter()
    for database in Databases.of(settings):
        async with await database.connect("surnia count", replica=True) as connection:
            cursor = await connection.execute(
                "SELECT slot.time_zone, count(*) FROM unnest(%s::text[], %s::date[]) "
                "AS slot(time_zone, last_active_date) CROSS JOIN unnest(%s::smallint[]) AS shards(shard) "
                "JOIN users u USING (shard, time_zone, last_active_date) GROUP BY 1",
                (
                    [slot.time_zone for slot in plan.slots],
                    [slot.last_active for slot in plan.slots],
                    sorted(database.shards),
                ),
            )
            found.update(dict(msgspec.convert(await cursor.fetchall(), list[tuple[str, int]])))
    rows = sorted(found.items())
    return Count(plan.run_id, sum(n for _, n in rows), dict(rows))
