"""Local dates and wall-clock times over all time zones, gaps and overlaps included."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache
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
    return local_time(instant, time_zone).date()


def instant_of(day: date, hour: int, time_zone: str) -> float:
    """When the wall clock shows `hour`:00 on `day`, in unix seconds; hour 24 is the next midnight.

    In an overlap the first of the two; in a gap the moment the gap begins or ends at (PEP 495, fold=0:
    the offset before the transition, so 02:30 in a one-hour gap is what shows as 03:30).
    """
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone(time_zone))
    # Adding hours to an aware datetime moves its wall clock, which is what is meant here.
    return (midnight + timedelta(hours=hour)).timestamp()
