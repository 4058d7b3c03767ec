"""What happens in which hour, counted by name. Adding up chunks is adding up these."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt

from infra.simulate.calendar import Calendar
from infra.simulate.mix import Mix

_HOUR = 3600.0


class Counts:
    """Rows of hours. The first is for what was before the start, where that matters."""

    def __init__(self, mix: Mix, calendar: Calendar) -> None:
        self.hours = mix.hours
        self._rows = mix.hours + 1
        self._by_name: defaultdict[str, npt.NDArray[np.int64]] = defaultdict(lambda: np.zeros(self._rows, np.int64))
        self.gate = np.zeros((calendar.days, self._rows), np.int64)
        """New fields of the gate: by local date, by hour."""
        self.timers = np.zeros(self._rows, np.int64)
        """In the due index: how many more or fewer by hour; the first row has all that was before."""

    def add(self, name: str, at: npt.NDArray[np.floating], weights: npt.NDArray[np.generic] | None = None) -> None:
        """Count things that happen at `at` (seconds from the start), each as often as its weight says."""
        self._by_name[name] += self._hours_of(at, weights)

    def add_fields(self, day: int, at: npt.NDArray[np.floating]) -> None:
        """Users whose first mark or claim of a local date comes at `at`."""
        self.gate[day] += self._hours_of(np.maximum(at, -_HOUR), None)

    def add_timers(self, at: npt.NDArray[np.floating], each: int) -> None:
        """Timers that are set (`each` > 0) or gone at `at`."""
        self.timers += each * self._hours_of(np.maximum(at, -_HOUR), None)

    def of(self, name: str) -> npt.NDArray[np.int64]:
        """By hour from the start on."""
        return self._by_name[name][1:]

    def names(self, prefix: str) -> list[str]:
        """The names that begin so, without that beginning."""
        return sorted(name.removeprefix(prefix) for name in self._by_name if name.startswith(prefix))

    def _hours_of(self, at: npt.NDArray[np.floating], weights: npt.NDArray[np.generic] | None) -> npt.NDArray[np.int64]:
        hours = np.floor(np.minimum(at, 1e9) / _HOUR).astype(np.int64) + 1
        # What is not within the simulated hours goes into a last row, and away.
        hours[(hours < 0) | (hours >= self._rows)] = self._rows
        found = np.bincount(hours, weights, self._rows + 1)[: self._rows]
        return np.rint(found).astype(np.int64)
