"""`plan`: what an interval of time asks of the batch path. Pure; costs microseconds, reads nothing."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta

import msgspec

from shared.identity import SPREADS
from shared.policy.kinds import COMEBACK
from shared.policy.localtime import known_zones, zone
from shared.policy.window import QuietHours, comeback_due, spread_window
from shared.settings import Settings


class Slot(msgspec.Struct, frozen=True, order=True, array_like=True):
    """Users of one zone whose comeback is due: those last active `ladder_day` days before `local_date`.

    Each is due at `due_at` and their part of `window`, by their place in the hour (shared/identity.py `spread`); those
    from `low` to before `high` are the interval's.
    """

    time_zone: str
    local_date: date
    ladder_day: int
    due_at: float
    """The send hour."""
    window: int = 0
    """Seconds over which its users are spread."""
    low: int = 0
    high: int = SPREADS

    @property
    def last_active(self) -> date:
        """The last active local date that stands on this rung."""
        return self.local_date - timedelta(days=self.ladder_day)

    def before(self, instant: float) -> int:
        """Whose comeback is due before that moment: those with a smaller place than this, of all of the zone."""
        seconds = math.ceil(instant - self.due_at)
        if seconds <= 0:
            return 0
        return min(SPREADS, -(-seconds * SPREADS // self.window)) if self.window else SPREADS


class Plan(msgspec.Struct, frozen=True):
    """The slots of one interval. `run_id` is the same for every rerun of the interval."""

    run_id: str
    interval_start: datetime
    interval_end: datetime
    slots: tuple[Slot, ...]


def plan(start: datetime, end: datetime, settings: Settings) -> Plan:
    """What is due in [start, end) somewhere in the world. Aware datetimes; at most a week apart.

    Every instant falls into exactly one interval of a schedule, so nobody is planned twice or left out; a slot that is
    spread over the end of an interval is in the next one as well, with the rest of its users.
    """
    if start.tzinfo is None or end.tzinfo is None:
        raise ValueError("an interval needs aware datetimes, such as 2026-11-21T10:00:00+00:00")
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    if not start < end <= start + timedelta(days=7):
        raise ValueError(f"an interval must be longer than nothing and at most a week: {start} to {end}")
    slots: list[Slot] = []
    quiet, most = QuietHours.of(settings), settings.spread_minutes * 60
    for name in sorted(known_zones()):
        # From the day before: where the clock skips 23:00 (Nuuk, in March), that hour of a day falls on the next one.
        day = start.astimezone(zone(name)).date() - timedelta(days=1)
        last = end.astimezone(zone(name)).date()
        while day <= last:
            due = comeback_due(day, settings.send_hour, name)
            # Looking up quiet hours costs more than all the rest, and most zones have another hour.
            if start.timestamp() - most <= due < end.timestamp():
                whole = Slot(name, day, 0, due, spread_window(due, most, name, quiet) if most else 0)
                low, high = whole.before(start.timestamp()), whole.before(end.timestamp())
                if low < high:
                    rungs = sorted(set(settings.ladder_days))
                    slots += [Slot(name, day, rung, due, whole.window, low, high) for rung in rungs]
            day += timedelta(days=1)
    run_id = f"{COMEBACK.name}/{start:%Y-%m-%dT%H:%M}Z/{end:%Y-%m-%dT%H:%M}Z"
    return Plan(run_id, start, end, tuple(slots))


def shard_groups(groups: int, shards: int) -> list[list[int]]:
    """The shards cut into neighbouring groups of nearly equal size: what scans are mapped over."""
    return [list(range(group * shards // groups, (group + 1) * shards // groups)) for group in range(groups)]
