"""The batch path without Airflow: one process walks all shards, as `surnia scan` does."""

from __future__ import annotations

from collections import Counter
from importlib.resources import files

import msgspec
from rich.progress import Progress

from batch.cells import slot_literals
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
    """Scan all shards at once, each user when due."""
    await record(settings, plan)
    task = progress.add_task("users", total=None)
    summary = await scan(settings, plan, range(SHARDS), lambda users: progress.advance(task, users))
    progress.update(task, total=summary.candidates, completed=summary.candidates)
    return summary


async def count(settings: Settings, plan: Plan) -> Count:
    """Count who stands on the planned slots; reads only, claims and sends nothing."""
    query = (files("batch") / "queries" / "count.sql").read_text()
    slots = slot_literals(plan.slots, range(len(plan.slots)))
    found: Counter[str] = Counter()
    for database in Databases.of(settings):
        async with await database.connect("surnia count", replica=True) as connection:
            cursor = await connection.execute(query, slots | {"shards": sorted(database.shards)})
            found.update(dict(msgspec.convert(await cursor.fetchall(), list[tuple[str, int]])))
    return Count(plan.run_id, found.total(), dict(sorted(found.items())))
