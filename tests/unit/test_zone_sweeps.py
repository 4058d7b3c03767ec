"""Local time and windows against zoneinfo itself: every zone of the IANA database, every transition of four years."""

from __future__ import annotations

import math
from datetime import date, timedelta

import pytest

from shared.policy.kinds import COMEBACK, HOUR, PRACTICE, STREAK_SAVER
from shared.policy.localtime import instant_of, known_zones, local_date, local_time
from shared.policy.window import QuietHours, expires_at, practice_due, streak_saver_due
from tests.unit.zones import (
    DAY,
    END,
    QUARTER,
    START,
    changes,
    different_zones,
    is_quiet,
    next_day,
    next_quiet,
    offset,
    quarters,
    shown_at,
    transitions,
    wall,
)

NIGHT = QuietHours(22, 8)
QUIETS = (NIGHT, QuietHours(23, 3), QuietHours(1, 2), QuietHours(0, 5), QuietHours(13, 15), QuietHours(21, 0))


def around(at: float, days: float = 1.25) -> list[float]:
    """Quarters of an hour around a transition, and its last and first second."""
    return [*quarters(at - days * DAY, at + days * DAY), at - 1, at]


def test_the_database_has_what_these_tests_are_about() -> None:
    found = {zone: {offset(at, zone) - offset(at - 1, zone) for at in transitions(zone)} for zone in different_zones()}
    assert len(known_zones()) > 550
    assert len(found) > 60
    shifts = set().union(*found.values())
    assert {-7200.0, -3600.0, -1800.0, 1800.0, 3600.0, 7200.0} <= shifts
    assert {offset(START, zone) % 3600 for zone in found} == {0.0, 900.0 * 2, 900.0 * 3}
    # Clocks that are changed around Ramadan have four transitions a year or none.
    assert transitions("Africa/Casablanca") == transitions("Africa/El_Aaiun") != ()


@pytest.mark.parametrize("letter", sorted({name[0] for name in known_zones()}))
def test_every_name_has_its_date_and_its_midnight_every_week(letter: str) -> None:
    for zone in (name for name in known_zones() if name[0] == letter):
        for at in (*(START + 7 * DAY * n for n in range(int((END - START) / DAY / 7))), *transitions(zone)):
            shown = wall(at, zone)
            assert local_date(at, zone) == shown.date()
            assert local_time(at, zone).replace(tzinfo=None, fold=0) == shown
            midnight = instant_of(shown.date(), 0, zone)
            assert midnight <= at or wall(midnight, zone).date() == shown.date()
            assert wall(midnight, zone).date() == shown.date() != wall(midnight - 1, zone).date()


def test_local_dates_and_hours_around_every_transition() -> None:
    for zone, change in changes():
        for at in around(change):
            shown = wall(at, zone)
            assert (local_date(at, zone), local_time(at, zone).hour) == (shown.date(), shown.hour), (zone, at)


def test_every_hour_of_the_days_around_every_transition_has_its_instant() -> None:
    for zone, change in changes():
        day = wall(change, zone).date()
        for near in (day - timedelta(days=1), day):
            for hour in (0, 1, 2, 3, 4, 8, 18, 22, 23, 24):
                assert instant_of(near, hour, zone) == shown_at(near, hour, zone), (zone, near, hour)


@pytest.mark.parametrize("quiet", QUIETS, ids=lambda quiet: f"{quiet.start}-{quiet.end}")
def test_quiet_hours_begin_and_end_when_the_clock_says(quiet: QuietHours) -> None:
    for zone, change in changes():
        for at in around(change, 0.75)[::4]:
            is_now = is_quiet(at, zone, quiet.start, quiet.end)
            assert quiet.covers(at, zone) == is_now, (zone, at)
            wanted = next_quiet(at, zone, (quiet.start, quiet.end), not is_now)
            found = quiet.next_end(at, zone) if is_now else quiet.next_start(at, zone)
            assert found == wanted, (zone, at, found - wanted)


def test_practice_is_due_as_soon_as_it_may_be_and_never_in_quiet_hours() -> None:
    for zone, change in changes():
        for last in around(change - DAY)[::3]:
            wanted = next_quiet(last + 23.5 * HOUR, zone, (22, 8), quiet=False)
            assert practice_due(last, zone, NIGHT) == wanted, (zone, last)


def test_the_streak_saver_shows_ten_in_the_evening_of_the_next_day() -> None:
    for zone, change in changes():
        for last in around(change - DAY)[::9]:
            evening = wall(last, zone).date() + timedelta(days=1)
            assert streak_saver_due(last, zone) == shown_at(evening, 22, zone), (zone, last)


def test_every_window_ends_after_it_began_and_before_midnight_or_quiet_hours() -> None:
    for zone, change in changes():
        for at in around(change)[::5]:
            saver = expires_at(STREAK_SAVER, at, zone, NIGHT)
            tomorrow = next_day(at, zone)
            assert at < saver == min(at + STREAK_SAVER.life, tomorrow), (zone, at)
            for kind in (PRACTICE, COMEBACK):
                end = expires_at(kind, at, zone, NIGHT)
                quiet = next_quiet(at, zone, (22, 8))
                assert end == min(at + kind.life, quiet), (zone, at)


def test_where_no_hours_are_quiet_none_ever_begin() -> None:
    assert QuietHours(8, 8).next_start(START, "Europe/Berlin") == math.inf


@pytest.mark.parametrize(
    ("zone", "gone", "before"),
    [
        ("Pacific/Apia", date(2011, 12, 30), date(2011, 12, 29)),
        ("Pacific/Fakaofo", date(2011, 12, 30), date(2011, 12, 29)),
        ("Pacific/Kwajalein", date(1993, 8, 21), date(1993, 8, 20)),
        ("Pacific/Kiritimati", date(1994, 12, 31), date(1994, 12, 30)),
        ("Pacific/Enderbury", date(1994, 12, 31), date(1994, 12, 30)),
    ],
)
def test_where_a_whole_day_was_skipped(zone: str, gone: date, before: date) -> None:
    start = instant_of(before, 0, zone)
    for at in quarters(start, start + 3 * DAY):
        assert local_date(at, zone) == wall(at, zone).date() != gone
        assert streak_saver_due(at, zone) >= at + QUARTER
        assert not NIGHT.covers(practice_due(at, zone, NIGHT), zone)
        if not NIGHT.covers(at, zone):
            wanted = next_quiet(at, zone, (22, 8))
            assert expires_at(PRACTICE, at, zone, NIGHT) == min(at + PRACTICE.life, wanted)
    # Who practised the day before has an evening at stake all the same: it is the next one that comes.
    last = instant_of(before, 18, zone)
    assert wall(streak_saver_due(last, zone), zone).date() == before + timedelta(days=2)


def test_the_dateline_lies_between_places_with_the_same_hour() -> None:
    at = START + 10.5 * HOUR
    assert local_time(at, "Pacific/Kiritimati").hour == local_time(at, "Pacific/Honolulu").hour
    assert local_date(at, "Pacific/Kiritimati") - local_date(at, "Pacific/Honolulu") == timedelta(days=1)
