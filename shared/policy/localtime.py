"""Local dates and wall-clock times over all time zones, gaps and overlaps included."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache, lru_cache
from zoneinfo import ZoneInfo, available_timezones

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class UnknownTimeZoneError(ValueError):
    """A time zone that the IANA database does not have."""

    def __init__(self, name: str) -> None:
        super().__init__(f"unknown time zone {name[:64]!r}: use an IANA name such as 'America/Sao_Paulo'")


@cache
def known_zones() -> frozenset[str]:
    """Every IANA name that users may carry; not the machine-dependent `localtime` and the like."""
    return frozenset(name for name in available_timezones() if name not in ("localtime", "Factory"))


@cache
def zone(name: str) -> tzinfo:
    """The zone of that name. Asks the list first, so that a hostile name never reaches the file system."""
    if name not in known_zones():
        raise UnknownTimeZoneError(name)
    return ZoneInfo(name)


def local_time(instant: float, time_zone: str) -> datetime:
    """What the user's wall clock shows at an instant (unix seconds)."""
    return (_EPOCH + timedelta(seconds=instant)).astimezone(zone(time_zone))


def local_date(instant: float, time_zone: str) -> date:
    """The calendar date where the user is."""
    offset = _steady_offset(time_zone, int(instant // _STEP))
    if offset is None:
        return local_time(instant, time_zone).date()
    return _date(int((instant + offset) // _DAY))


def local_hour(instant: float, time_zone: str) -> int:
    """The hour that the user's wall clock shows, 0 to 23."""
    offset = _steady_offset(time_zone, int(instant // _STEP))
    if offset is None:
        return local_time(instant, time_zone).hour
    return int((instant + offset) % _DAY // 3600)


def local_hours(instant: float, time_zone: str) -> int:
    """Hours since 1970-01-01 00:00 that the user's wall clock shows: another date is another hour."""
    offset = _steady_offset(time_zone, int(instant // _STEP))
    if offset is None:
        shown = local_time(instant, time_zone)
        return (shown.toordinal() - _FIRST) * 24 + shown.hour
    return int((instant + offset) // 3600)


# Scans and bursts of events ask for the same few dates of the same few hundred zones.
@lru_cache(maxsize=1 << 14)
def instant_of(day: date, hour: int, time_zone: str) -> float:
    """When the wall clock shows `hour`:00 on `day`, in unix seconds; hour 24 is the next midnight.

    In an overlap the first of the two; in a gap the moment the gap begins or ends at (PEP 495, fold=0:
    the offset before the transition, so 02:30 in a one-hour gap is what shows as 03:30).
    """
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone(time_zone))
    # Adding hours to an aware datetime moves its wall clock, which is what is meant here.
    return (midnight + timedelta(hours=hour)).timestamp()


_STEP = 1800
"""Seconds. No zone has changed its offset twice within so short a time."""
_DAY = 86_400


@lru_cache(maxsize=1 << 16)
def _steady_offset(time_zone: str, step: int) -> float | None:
    """The zone's seconds ahead of UTC throughout a step of time; None where it changes within it."""
    name = zone(time_zone)
    begin, end = (_EPOCH + timedelta(seconds=_STEP * n) for n in (step, step + 1))
    at_begin, at_end = begin.astimezone(name).utcoffset(), (end - timedelta.resolution).astimezone(name).utcoffset()
    return at_begin.total_seconds() if at_begin is not None and at_begin == at_end else None


@lru_cache(maxsize=1 << 12)
def _date(days: int) -> date:
    """The date so many days after 1970-01-01."""
    return date.fromordinal(_FIRST + days)


_FIRST = _EPOCH.toordinal()
