"""What the batch path should have scanned: its own scan over its own hours, so that a DAG that comes later finds them
done, and the other way round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from importlib.resources import files

import msgspec

from batch.backfill.request import Request
from batch.backfill.store import Connection
from batch.cells import slot_literals
from batch.plan import Plan, plan
from shared.settings import Settings

_HOUR = timedelta(hours=1)


def hours(request: Request) -> Iterator[Request]:
    """The hours of the schedule that a request covers; the first and the last may be parts of one."""
    start = request.start
    while start < request.end:
        end = min(start.replace(minute=0, second=0, microsecond=0) + _HOUR, request.end)
        yield Request(start, end, request.kinds, request.shards, request.zones)
        start = end


def whole(request: Request, settings: Settings) -> Plan:
    """All hours at once, for those who only count."""
    planned = plan(request.start, request.end, settings)
    slots = tuple(slot for slot in planned.slots if not request.zones or slot.time_zone in request.zones)
    return Plan(planned.run_id, planned.interval_start, planned.interval_end, slots)


async def due_hours(
    connection: Connection, planned: Sequence[Plan], shards: Sequence[int]
) -> list[tuple[Plan, list[int]]]:
    """Each hour with those of some shards in which somebody is due: the others need no checkpoints."""
    slots = [slot for each in planned for slot in each.slots]
    numbers = [n for n, each in enumerate(planned) for _ in each.slots]
    values = {**slot_literals(slots, range(len(slots))), "hours": numbers, "shards": list(shards)}
    query = (files("batch") / "queries" / "backfill_hours.sql").read_text()
    cursor = await connection.execute(query, values)
    found: dict[int, list[int]] = {}
    for n, shard in sorted(msgspec.convert(await cursor.fetchall(), list[tuple[int, int]])):
        found.setdefault(n, []).append(shard)
    return [(planned[n], mine) for n, mine in found.items()]


def plans(request: Request, settings: Settings, suffix: str = "") -> list[Plan]:
    """What to scan, hour by hour; hours in which nothing is due are left out.

    An hour has the name of its hourly run, whose checkpoints say what is left of it, unless only some zones are wanted:
    checkpoints know of no zones. `suffix` makes names of its own, for a scan from the beginning.
    """
    found = []
    for hour in hours(request):
        planned = plan(hour.start, hour.end, settings)
        slots = tuple(slot for slot in planned.slots if not request.zones or slot.time_zone in request.zones)
        name = planned.run_id + (f"/{suffix}" if suffix else "")
        if slots:
            found.append(Plan(name, planned.interval_start, planned.interval_end, slots))
    return found
