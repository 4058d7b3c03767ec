"""An oracle for local time that shares nothing with ours: every zone, step by step, by zoneinfo's own conversion."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache

from shared.policy.localtime import known_zones

QUARTER = 900.0
"""Seconds: since 1972 every clock differs from UTC by a multiple of it, but for Liberia until that year."""
DAY = 86_400.0
START, END = (datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (2024, 2028))


def wall(instant: float, zone: str) -> datetime:
    """What the clock shows, without its zone."""
    return datetime.fromtimestamp(instant, zoneinfo.ZoneInfo(zone)).replace(tzinfo=None, fold=0)


def offset(instant: float, zone: str) -> float:
    """Seconds ahead of UTC."""
    found = datetime.fromtimestamp(instant, zoneinfo.ZoneInfo(zone)).utcoffset()
    assert found is not None
    return found.total_seconds()


@cache
def transitions(zone: str, start: float = START, end: float = END) -> tuple[float, ...]:
    """When its clock is changed: the first second that shows the new time."""
    found, step = [], 2 * DAY  # no clock is changed there and back within so short a time
    at = start
    while at < end:
        if offset(at, zone) != offset(at + step, zone):
            low, high = at, at + step
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(middle, zone) == offset(low, zone) else (low, middle)
            found.append(high)
        at += step
    return tuple(found)


@cache
def different_zones() -> tuple[str, ...]:
    """One name of each zone that differs from all others within these years."""
    found: dict[object, str] = {}
    for name in sorted(known_zones()):
        found.setdefault((offset(START, name), *((at, offset(at, name)) for at in transitions(name))), name)
    return tuple(found.values())


def quarters(start: float, end: float) -> Iterator[float]:
    """Every quarter of an hour, on it."""
    at = start - start % QUARTER
    while at < end:
        yield at
        at += QUARTER


def changes() -> Iterator[tuple[str, float]]:
    """(zone, transition) of every zone that differs and all its transitions."""
    return ((zone, at) for zone in different_zones() for at in transitions(zone))


def shown_at(day: date, hour: int, zone: str) -> float:
    """The first instant at which the clock shows `hour`:00 of `day`; where it skips that, the instant by the time it
    showed before it was changed."""
    wanted = datetime(day.year, day.month, day.day) + timedelta(hours=hour)
    middle = wanted.replace(tzinfo=UTC).timestamp()
    last = None
    for at in quarters(middle - 1.5 * DAY, middle + 1.5 * DAY):
        shown = wall(at, zone)
        if shown == wanted:
            return at
        if shown > wanted:
            assert last is not None
            return last + (wanted - wall(last, zone)).total_seconds()
        last = at
    raise AssertionError(f"{zone} does not come by {wanted}")


def is_quiet(instant: float, zone: str, start: int, end: int) -> bool:
    """Whether the clock shows an hour of [start, end)."""
    hour = wall(instant, zone).hour
    return hour in (range(start, end) if start <= end else (*range(start, 24), *range(end)))


def next_quiet(start: float, zone: str, hours: tuple[int, int], quiet: bool = True) -> float:
    """The first instant from `start` on at which it is quiet, or not."""
    return _first(start, lambda at: is_quiet(at, zone, *hours) == quiet)


def next_day(start: float, zone: str) -> float:
    """The first instant after `start` with a later date."""
    today = wall(start, zone).date()
    return _first(start, lambda at: wall(at, zone).date() > today)


def _first(start: float, holds: Callable[[float], bool]) -> float:
    """It may change on quarters of an hour alone."""
    if holds(start):
        return start
    return next(at for at in quarters(start, start + 3 * DAY) if at > start and holds(at))
