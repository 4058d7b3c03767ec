"""When a reminder is due, and the window in which it may be shown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

from shared.policy.kinds import ABANDONED_AFTER, PRACTICE_AFTER, STREAK_SAVER_HOUR, ReminderKind
from shared.policy.localtime import instant_of, local_date, local_hour, local_time
from shared.settings import Settings

_QUARTER = 900.0
_DAY = 86_400.0
"""Seconds: all clocks differ from UTC by a multiple of the first, and none is put back by more than the second."""


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Local hours in which nothing is shown, `start` to `end`, usually over midnight."""

    start: int
    end: int

    @classmethod
    def of(cls, settings: Settings) -> QuietHours:
        return cls(settings.quiet_start, settings.quiet_end)

    def covers(self, instant: float, time_zone: str) -> bool:
        """Whether it is quiet where the user is."""
        hour = local_hour(instant, time_zone)
        if self.start == self.end:
            return False
        if self.start < self.end:
            return self.start <= hour < self.end
        return hour >= self.start or hour < self.end

    def next_start(self, instant: float, time_zone: str) -> float:
        """When the next quiet hours begin, from a moment that is not quiet; never where there are none."""
        if self.start == self.end:
            return math.inf
        return _next(self, self.start, int(instant // _QUARTER), time_zone)

    def next_end(self, instant: float, time_zone: str) -> float:
        """When the quiet hours around a moment end."""
        return _next(self, self.end, int(instant // _QUARTER), time_zone)


# Whole populations ask for the same few.
@lru_cache(maxsize=1 << 14)
def _next(hours: QuietHours, hour: int, quarter: int, time_zone: str) -> float:
    """When the clock comes by that hour after a quarter of an hour has begun, and it becomes quiet or ends to be."""
    instant = quarter * _QUARTER
    quiet = hour == hours.start
    now = local_time(instant, time_zone)
    found = instant_of(now.date(), hour, time_zone)
    if found <= instant:
        found = instant_of(now.date() + timedelta(days=1), hour, time_zone)
    around = (local_time(at, time_zone).utcoffset() for at in (instant - _DAY, found))
    if all(offset == now.utcoffset() for offset in around):
        return found
    # The clock is changed about now: it may skip the hour, or come by it twice (Chatham goes from 03:45 to 02:45,
    # Troll from 03:00 to 01:00). It does so on a quarter of an hour.
    at = instant + _QUARTER
    while hours.covers(at, time_zone) != quiet:
        at += _QUARTER
    return at


def practice_due(last_practice: float, time_zone: str, quiet: QuietHours) -> float:
    """Last practice + 23.5 h, to the second; when that is quiet, the end of the quiet hours."""
    due = float(int(last_practice + PRACTICE_AFTER))
    return quiet.next_end(due, time_zone) if quiet.covers(due, time_zone) else due


def streak_saver_due(last_practice: float, time_zone: str) -> float:
    """22:00 on the local day after the last practice: the evening on which the streak is at stake."""
    return streak_saver_on(local_date(last_practice, time_zone), time_zone)


@lru_cache(maxsize=1 << 12)
def streak_saver_on(practice_date: date, time_zone: str) -> float:
    """22:00 on the day after a local date with practice, wherever that was; where a gap skips 22:00, what `instant_of`
    takes for it."""
    return instant_of(practice_date + timedelta(days=1), STREAK_SAVER_HOUR, time_zone)


def abandoned_due(lesson_started: float) -> float:
    """Half an hour after a lesson was started, to the second."""
    return float(int(lesson_started + ABANDONED_AFTER))


def expires_at(kind: ReminderKind, due: float, time_zone: str, quiet: QuietHours) -> float:
    """After this nothing is delivered: the end of the reminder's life, its local date or the open hours."""
    end = due + kind.life
    if kind.quiet_exempt:
        return min(end, instant_of(local_date(due, time_zone), 24, time_zone))
    if quiet.covers(due, time_zone):
        return due
    return min(end, quiet.next_start(due, time_zone))


def comeback_due(day: date, send_hour: int, time_zone: str) -> float:
    """The send hour of a local date."""
    return instant_of(day, send_hour, time_zone)


def spread_window(due: float, most: float, time_zone: str, quiet: QuietHours) -> int:
    """Seconds from `due` on over which sends may be spread: `most`, or half of what is left until quiet hours, so that
    the last of them has as long as all the spread took. Nothing where it is quiet at `due`."""
    if quiet.covers(due, time_zone):
        return 0
    return int(min(most, (quiet.next_start(due, time_zone) - due) / 2))
