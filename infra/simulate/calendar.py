"""When local days begin, comebacks and streak savers are due: one table a zone, in seconds from the start."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from infra.simulate.mix import Mix
from shared.policy.kinds import STREAK_SAVER_HOUR
from shared.policy.localtime import instant_of
from shared.policy.window import QuietHours, comeback_due, spread_window

Floats = npt.NDArray[np.float64]


class Calendar:
    """Local dates by number: 0 is the date before the start's, which is when the far west lives at the start."""

    def __init__(self, mix: Mix, zones: Sequence[str]) -> None:
        self.zones = list(zones)
        self.number = {zone: n for n, zone in enumerate(self.zones)}
        self.first = mix.start - timedelta(days=1)
        # The far east lives two dates later by the end.
        self.days = mix.days + 2
        self.start = datetime(mix.start.year, mix.start.month, mix.start.day, tzinfo=UTC).timestamp()
        dates = [self.first + timedelta(days=n) for n in range(self.days)]
        self.midnight = self._table(lambda day, zone: instant_of(day, 0, zone), dates)
        self.comeback = self._table(lambda day, zone: comeback_due(day, mix.send_hour, zone), dates)
        quiet = QuietHours(mix.quiet_start, mix.quiet_end)

        def window(day: date, zone: str) -> float:
            due = comeback_due(day, mix.send_hour, zone)
            # The table takes the start away from all its times; this is none.
            return self.start + (spread_window(due, mix.spread_minutes * 60, zone, quiet) if mix.spread_minutes else 0)

        self.window = self._table(window, dates)
        """Seconds over which a zone's comebacks of a date are spread."""
        self.saver = self._table(lambda day, zone: instant_of(day, STREAK_SAVER_HOUR, zone), dates)

    def number_of(self, day: date) -> int:
        return (day - self.first).days

    def _table(self, when: Any, dates: Sequence[date]) -> Floats:
        """Indexed by date, then by zone."""
        return np.array([[when(day, zone) - self.start for zone in self.zones] for day in dates], dtype=np.float64)
