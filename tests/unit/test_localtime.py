"""Local dates and wall-clock times in every zone, over gaps and overlaps, and names that are no zones."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.policy.localtime import (
    UnknownTimeZoneError,
    instant_of,
    known_zones,
    local_date,
    local_hour,
    local_time,
    zone,
)

zones = st.sampled_from(sorted(known_zones()))
# 1970 to 2099, to the millisecond: datetimes round what is finer than theirs.
instants = st.integers(0, 4_102_444_800_000).map(lambda milliseconds: milliseconds / 1000)
many = hypothesis_settings(deadline=None, max_examples=200)


def at(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[misc, arg-type]  # year to minute


@many
@given(zones, instants)
def test_local_time_is_what_zoneinfo_says(name: str, instant: float) -> None:
    expected = datetime.fromtimestamp(instant, zoneinfo.ZoneInfo(name))
    assert local_time(instant, name).replace(tzinfo=None, fold=0) == expected.replace(tzinfo=None, fold=0)
    assert local_time(instant, name).utcoffset() == expected.utcoffset()
    assert local_date(instant, name) == expected.date()


@many
@given(zones, instants)
def test_local_time_is_the_same_instant(name: str, instant: float) -> None:
    assert abs(local_time(instant, name).timestamp() - instant) < 1e-6


@many
@given(zones, st.dates(date(1971, 1, 1), date(2099, 1, 1)), st.integers(0, 24))
def test_the_clock_shows_the_hour_asked_for_or_skips_it(name: str, day: date, hour: int) -> None:
    shown = local_time(instant_of(day, hour, name), name)
    wanted = datetime(day.year, day.month, day.day) + timedelta(hours=hour)
    earlier = local_time(shown.timestamp() - 86_400, name).utcoffset()
    later = local_time(shown.timestamp() + 86_400, name).utcoffset()
    assert shown.replace(tzinfo=None, fold=0) == wanted or earlier != later


def test_every_known_zone_can_be_used() -> None:
    assert len(known_zones()) > 400
    assert not [name for name in known_zones() if local_time(0.0, name).utcoffset() is None]


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/localtime",
        "Europe/../Europe/London",
        "",
        ".",
        "Europe",
        "europe/london",
        "Europe/London ",
        "Mars/Olympus_Mons",
        "localtime",
        "Factory",
        "Europe/London\0",
        "\0",
        "\ud800",
        "é" * 300,
        "A" * 1_000_000,
    ],
)
def test_what_is_no_zone_is_refused_without_a_look_at_the_files(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known_zones()  # reads the database's list, once a process
    opened: list[object] = []
    monkeypatch.setattr("shared.policy.localtime.ZoneInfo", opened.append)
    with pytest.raises(UnknownTimeZoneError) as caught:
        zone(name)
    assert not opened
    assert "America/Sao_Paulo" in str(caught.value)
    assert len(str(caught.value)) < 1_000


@hypothesis_settings(deadline=None)
@given(st.text().filter(lambda name: name not in known_zones()))
@pytest.mark.parametrize(
    "ask", [lambda name: local_time(0.0, name), lambda name: instant_of(date(2026, 1, 1), 1, name)]
)
def test_whatever_text_comes_the_error_is_the_same(ask: Callable[[str], object], name: str) -> None:
    with pytest.raises(UnknownTimeZoneError):
        ask(name)


@pytest.mark.parametrize(
    ("name", "day", "hour", "instant"),
    [
        # Ordinary days.
        ("Asia/Kathmandu", date(2026, 11, 21), 18, at(2026, 11, 21, 12, 15)),
        ("America/New_York", date(2026, 7, 1), 0, at(2026, 7, 1, 4)),
        ("UTC", date(2026, 11, 21), 24, at(2026, 11, 22)),
        # Gaps: the hour does not exist, the moment it is skipped at stands for it.
        ("America/New_York", date(2026, 3, 8), 2, at(2026, 3, 8, 7)),
        ("Europe/London", date(2026, 3, 29), 1, at(2026, 3, 29, 1)),
        ("Australia/Lord_Howe", date(2026, 10, 4), 2, at(2026, 10, 3, 15, 30)),
        ("America/Sao_Paulo", date(2017, 10, 15), 0, at(2017, 10, 15, 3)),
        ("America/Sao_Paulo", date(2017, 10, 14), 24, at(2017, 10, 15, 3)),
        ("Africa/Cairo", date(2026, 4, 24), 0, at(2026, 4, 23, 22)),
        # Overlaps: the first of the two.
        ("America/New_York", date(2026, 11, 1), 1, at(2026, 11, 1, 5)),
        ("America/New_York", date(2026, 11, 1), 2, at(2026, 11, 1, 7)),
        ("Europe/London", date(2026, 10, 25), 1, at(2026, 10, 25, 0)),
        ("America/Sao_Paulo", date(2017, 2, 18), 23, at(2017, 2, 19, 1)),
        ("America/Sao_Paulo", date(2017, 2, 18), 24, at(2017, 2, 19, 3)),
        ("Africa/Cairo", date(2026, 10, 29), 23, at(2026, 10, 29, 20)),
        ("Africa/Cairo", date(2026, 10, 29), 24, at(2026, 10, 29, 22)),
        ("Australia/Lord_Howe", date(2026, 4, 5), 2, at(2026, 4, 4, 15, 30)),
        # The day that Samoa skipped lies before the first instant of the next.
        ("Pacific/Apia", date(2011, 12, 29), 24, at(2011, 12, 30, 10)),
        ("Pacific/Apia", date(2011, 12, 31), 0, at(2011, 12, 30, 10)),
    ],
)
def test_an_hour_of_a_day_has_its_instant(name: str, day: date, hour: int, instant: float) -> None:
    assert instant_of(day, hour, name) == instant


def test_samoa_went_from_thursday_to_saturday() -> None:
    midnight = at(2011, 12, 30, 10)
    assert local_date(midnight - 1, "Pacific/Apia") == date(2011, 12, 29)
    assert local_date(midnight, "Pacific/Apia") == date(2011, 12, 31)


def test_a_half_hour_gap_moves_the_clock_by_half_an_hour() -> None:
    shown = local_time(instant_of(date(2026, 10, 4), 2, "Australia/Lord_Howe"), "Australia/Lord_Howe")
    assert (shown.hour, shown.minute) == (2, 30)


def test_the_day_a_clock_is_put_forward_at_midnight_begins_at_one() -> None:
    for name, day in (("America/Sao_Paulo", date(2017, 10, 15)), ("Africa/Cairo", date(2026, 4, 24))):
        start = instant_of(day, 0, name)
        assert local_time(start, name).hour == 1
        assert local_date(start, name) == day
        assert local_date(start - 1, name) == day - timedelta(days=1)


@many
@given(zones, instants)
def test_the_hour_is_what_the_clock_shows(name: str, instant: float) -> None:
    assert local_hour(instant, name) == local_time(instant, name).hour


def test_dates_and_hours_hold_around_every_change_of_every_zone() -> None:
    """Also where the clock is put back over midnight, to a date that was over, as Gaza did at 00:01."""
    first, last = int(at(2010, 1, 1, 0, 0)), int(at(2027, 1, 1, 0, 0))
    days = range(first, last, 86_400)
    for name in sorted(known_zones()):
        tz = zoneinfo.ZoneInfo(name)
        offsets = [datetime.fromtimestamp(day, tz).utcoffset() for day in days]
        for day, offset, following in zip(days, offsets, offsets[1:], strict=False):
            if offset != following:
                change = _change(tz, day, day + 86_400)
                for instant in (
                    change - 7200,
                    change - 61,
                    change - 1,
                    change,
                    change + 59,
                    change + 61,
                    change + 3601,
                ):
                    shown = datetime.fromtimestamp(instant, tz)
                    assert (local_date(instant, name), local_hour(instant, name)) == (shown.date(), shown.hour)


def _change(tz: zoneinfo.ZoneInfo, before: int, after: int) -> int:
    """The second at which the offset changes, between two instants whose offsets differ."""
    offset = datetime.fromtimestamp(before, tz).utcoffset()
    while after - before > 1:
        middle = (before + after) // 2
        if datetime.fromtimestamp(middle, tz).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after
