"""`plan`: what an interval of time asks of the batch path. Pure; costs microseconds, reads nothing."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import msgspec

from shared.policy.kinds import COMEBACK
from shared.policy.localtime import known_zones, zone
from shared.policy.window import comeback_due
from shared.settings import Settings


class Slot(msgspec.Struct, frozen=True, order=True, array_like=True):
    """Users of one zone whose comeback is due: those last active `ladder_day` days before `local_date`."""

    time_zone: str
    local_date: date
    ladder_day: int
    due_at: float

    @property
    def last_active(self) -> date:
        """The last active local date that stands on this rung."""
        return self.local_date - timedelta(days=self.ladder_day)


class Plan(msgspec.Struct, frozen=True):
    """The slots of one interval. `run_id` is the same for every rerun of the interval."""

    run_id: str
    interval_start: datetime
    interval_end: datetime
    slots: tuple[Slot, ...]


def plan(start: datetime, end: datetime, settings: Settings) -> Plan:
    """The slots whose send hour falls in [start, end) somewhere in the world. Aware datetimes; at most a week apart.

    Every instant falls into exactly one interval of a schedule, so no slot is planned twice or left out.
    """
    if start.tzinfo is None or end.tzinfo is None:
        raise ValueError("an interval needs aware datetimes, such as 2026-11-21T10:00:00+00:00")
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    if not start < end <= start + timedelta(days=7):
        raise ValueError(f"an interval must be longer than nothing and at most a week: {start} to {end}")
    slots = []
    for name in sorted(known_zones()):
        # From the day before: where the clock skips 23:00 (Nuuk, in March), that hour of a day falls on the next one.
        day = start.astimezone(zone(name)).date() - timedelta(days=1)
        last = end.astimezone(zone(name)).date()
        while day <= last:
            due = comeback_due(day, settings.send_hour, name)
            if start.timestamp() <= due < end.timestamp():
                slots += [Slot(name, day, rung, due) for rung in sorted(set(settings.ladder_days))]
            day += timedelta(days=1)
    run_id = f"{COMEBACK.name}/{start:%Y-%m-%dT%H:%M}Z/{end:%Y-%m-%dT%H:%M}Z"
    return Plan(run_id, start, end, tuple(slots))


def shard_groups(groups: int, shards: int) -> list[list[int]]:
    """The shards cut into neighbouring groups of nearly equal size: what scans are mapped over."""
    return [list(range(group * shards // groups, (group + 1) * shards // groups)) for group in range(groups)]
