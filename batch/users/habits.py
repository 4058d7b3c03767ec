"""How people behave, as weights to draw from: when they practise, how long they keep it up, how long they are gone."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Sequence
from itertools import accumulate
from random import Random
from typing import Generic, TypeVar

T = TypeVar("T")

LONGEST_SILENCE = 400
_LONGEST_STREAK = 3000


class Weighted(Generic[T]):
    """Values to draw by weight: `random.choices` for one draw at a time, at a quarter of its cost."""

    def __init__(self, values: Iterable[T], weights: Iterable[float]) -> None:
        self.values: Sequence[T] = tuple(values)
        self.weights = tuple(weights)
        self._sums = tuple(accumulate(self.weights))
        # A hair less than the sum, so that rounding cannot lead past the last value.
        self._total = self._sums[-1] * (1 - 1e-12)

    def draw(self, rng: Random) -> T:
        return self.values[bisect(self._sums, rng.random() * self._total)]


# Share of practice by local hour: a small morning peak, a large one in the evening, almost nothing at night.
_HOURLY = (6, 3, 2, 1, 1, 4, 14, 32, 38, 28, 22, 22, 30, 28, 24, 26, 32, 44, 58, 72, 84, 78, 50, 20)
PRACTICE_HOUR = Weighted(range(24), _HOURLY)

# Of 100 active users, the days since the last practice: 65 yesterday, the others fading out.
_LAST_PRACTICE = (65, 15, 8, 5, 4, 3)

# Day 7 holds 5% of the silent, day 90 0.2%: a heavy tail, as churn has.
_SILENCE_EXPONENT = 1.2

APP_VERSION = Weighted(
    ("9.4.0", "9.3.2", "9.3.1", "9.2.0", "9.1.4", "9.0.1", "8.14.3", "8.9.0"), (46, 22, 9, 8, 6, 4, 3, 2)
)


def practice_hour_after(rng: Random, second: int) -> int:
    """The practice hour of somebody who practised yesterday and not yet today, `second` seconds into the day.

    Those whose hour has passed have practised already, mostly: three draws, then whatever came.
    """
    hour = PRACTICE_HOUR.draw(rng)
    for _ in range(2):
        # The practice reminder (23.5 h after) must still lie ahead.
        if hour * 3600 > second + 1800:
            break
        hour = PRACTICE_HOUR.draw(rng)
    return hour


def days_of_silence(active_days: int, ladder_days: Sequence[int]) -> Weighted[int]:
    """Local days since a silent user's last event: `active_days` or more, past every rung of the ladder."""
    days = range(active_days, max(LONGEST_SILENCE, *(day + 30 for day in ladder_days)) + 1)
    return Weighted(days, (day**-_SILENCE_EXPONENT for day in days))


def days_since_practice(active_days: int) -> Weighted[int]:
    """Local days since an active user's last practice: 1 or more, below `active_days` where that leaves a choice."""
    weights = _LAST_PRACTICE[: max(1, active_days - 1)]
    return Weighted(range(1, len(weights) + 1), weights)


def streak(rng: Random, typical: float) -> int:
    """A streak of 1 or more with a long tail, about half of them below `typical` days."""
    return min(int(typical * 2.0 ** rng.gauss(0.0, 2.0)) + 1, _LONGEST_STREAK)
