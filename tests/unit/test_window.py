"""When reminders are due and until when they may be shown, in every zone and on the days that clocks change."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import assume, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.policy.kinds import ABANDONED_LESSON, COMEBACK, HOUR, KINDS, PRACTICE, STREAK_SAVER, ReminderKind
from shared.policy.localtime import instant_of, known_zones, local_date, local_time
from shared.policy.window import (
    QuietHours,
    abandoned_due,
    comeback_due,
    expires_at,
    practice_due,
    streak_saver_due,
)
from shared.settings import Settings

NIGHT = QuietHours(22, 8)
NONE = QuietHours(8, 8)
MADRID = "Europe/Madrid"
START, END = 1_577_836_800, 2_051_222_400
"""2020 to 2035."""

zones = st.sampled_from(sorted(known_zones()))
instants = st.integers(START, END)
kinds = st.sampled_from(list(KINDS.values()))
# At least two open hours: a day may skip one.
quiets = st.builds(QuietHours, st.integers(0, 23), st.integers(0, 23)).filter(lambda q: (q.start - q.end) % 24 != 1)
many = hypothesis_settings(deadline=None, max_examples=120)


def moments(start: float, end: float) -> list[float]:
    """Every quarter of an hour of [start, end), and its last second."""
    steps = [start + 900.0 * n for n in range(int((end - start) // 900) + 1)]
    return [moment for moment in (*steps, end - 1) if start <= moment < end]


def on(hour: int, minute: int = 0, day: date = date(2026, 11, 21), zone: str = MADRID) -> float:
    return instant_of(day, hour, zone) + 60 * minute


@many
@given(kinds, zones, instants, quiets)
def test_nothing_expires_before_it_is_due(kind: ReminderKind, zone: str, due: int, quiet: QuietHours) -> None:
    assert due <= expires_at(kind, due, zone, quiet) <= due + kind.life


@many
@given(kinds.filter(lambda kind: not kind.quiet_exempt), zones, instants, quiets)
@example(PRACTICE, "Europe/London", 1_792_886_400, NIGHT)  # the evening before the clocks go back
@example(PRACTICE, "America/Nuuk", 1_774_735_200, QuietHours(23, 8))  # 23:00 does not exist
@example(PRACTICE, "Africa/Cairo", 1_793_289_600, QuietHours(23, 8))  # 23:00 comes twice
def test_no_window_reaches_into_quiet_hours(kind: ReminderKind, zone: str, due: int, quiet: QuietHours) -> None:
    assert not [moment for moment in moments(due, expires_at(kind, due, zone, quiet)) if quiet.covers(moment, zone)]


@many
@given(zones, instants, quiets)
@example("Africa/Cairo", 1_793_305_800, NIGHT)
def test_the_streak_saver_never_crosses_midnight(zone: str, due: int, quiet: QuietHours) -> None:
    day = local_date(due, zone)
    end = expires_at(STREAK_SAVER, due, zone, quiet)
    assert {local_date(moment, zone) for moment in moments(due, end)} <= {day}


@many
@given(zones, instants, quiets)
def test_a_practice_reminder_is_never_due_in_quiet_hours(zone: str, last: int, quiet: QuietHours) -> None:
    assert not quiet.covers(practice_due(last, zone, quiet), zone)


@many
@given(zones, instants, quiets)
def test_a_practice_reminder_waits_no_longer_than_it_must(zone: str, last: int, quiet: QuietHours) -> None:
    earliest = last + 23.5 * HOUR
    due = practice_due(last, zone, quiet)
    assert due >= earliest
    assert all(quiet.covers(moment, zone) for moment in moments(earliest, due))


@many
@given(zones, instants, st.integers(1, 100_000))
def test_a_later_practice_never_makes_a_reminder_earlier(zone: str, last: int, more: int) -> None:
    # The due index keeps the latest time (ZADD GT), which is right only because of this.
    assert practice_due(last, zone, NIGHT) <= practice_due(last + more, zone, NIGHT)
    assert streak_saver_due(last, zone) <= streak_saver_due(last + more, zone)


@many
@given(zones, instants)
def test_the_streak_saver_is_due_at_ten_the_next_evening(zone: str, last: int) -> None:
    day = local_date(last, zone) + timedelta(days=1)
    shown = local_time(streak_saver_due(last, zone), zone)
    skipped = local_time(shown.timestamp() - HOUR, zone).utcoffset() != shown.utcoffset()
    assert (shown.date(), shown.hour, shown.minute) == (day, 22, 0) or skipped


@many
@given(zones, instants, quiets)
def test_quiet_hours_end_when_they_say(zone: str, instant: int, quiet: QuietHours) -> None:
    assume(quiet.covers(instant, zone))
    end = quiet.next_end(instant, zone)
    assert not quiet.covers(end, zone)
    assert all(quiet.covers(moment, zone) for moment in moments(instant, end))


@pytest.mark.parametrize(
    ("quiet", "hours"),
    [
        (NIGHT, {22, 23, 0, 1, 2, 3, 4, 5, 6, 7}),
        (QuietHours(13, 15), {13, 14}),
        (QuietHours(0, 6), {0, 1, 2, 3, 4, 5}),
        (QuietHours(23, 0), {23}),
        (NONE, set()),
    ],
    ids=["over midnight", "at noon", "from midnight", "to midnight", "none"],
)
def test_quiet_hours_cover_their_hours_alone(quiet: QuietHours, hours: set[int]) -> None:
    assert {hour for hour in range(24) if quiet.covers(on(hour, 59), MADRID)} == hours
    assert {hour for hour in range(24) if quiet.covers(on(hour), MADRID)} == hours


def test_without_quiet_hours_a_reminder_lives_out_its_life() -> None:
    due = on(7, 30)
    assert expires_at(PRACTICE, due, MADRID, NONE) == due + 4 * HOUR


def test_an_evening_reminder_expires_when_the_quiet_hours_begin() -> None:
    assert expires_at(COMEBACK, on(20), MADRID, NIGHT) == on(22)


def test_a_morning_reminder_lives_out_its_life() -> None:
    assert expires_at(COMEBACK, on(9), MADRID, NIGHT) == on(13)


def test_what_is_due_in_quiet_hours_is_expired_at_once() -> None:
    assert expires_at(ABANDONED_LESSON, on(3), MADRID, NIGHT) == on(3)


def test_the_streak_saver_may_be_shown_until_midnight() -> None:
    assert expires_at(STREAK_SAVER, on(22), MADRID, NIGHT) == on(24)
    assert expires_at(STREAK_SAVER, on(23, 30), MADRID, NIGHT) == on(24)


def test_a_practice_reminder_moves_from_the_night_to_the_morning() -> None:
    # Practised at 23:00: 22:30 the next day is quiet.
    assert practice_due(on(23), MADRID, NIGHT) == on(8, day=date(2026, 11, 23))


def test_a_practice_reminder_comes_half_an_hour_before_the_day_is_round() -> None:
    assert practice_due(on(18), MADRID, NIGHT) == on(17, 30, day=date(2026, 11, 22))


def test_practice_after_midnight_and_before_belong_to_different_evenings() -> None:
    assert streak_saver_due(on(23, 59), MADRID) == on(22, day=date(2026, 11, 22))
    assert streak_saver_due(on(24), MADRID) == on(22, day=date(2026, 11, 23))


def test_a_lesson_counts_as_abandoned_after_half_an_hour() -> None:
    assert abandoned_due(on(12)) == on(12, 30)


def test_a_comeback_is_due_at_the_send_hour_where_the_user_is() -> None:
    assert local_time(comeback_due(date(2026, 11, 21), 18, "Asia/Kathmandu"), "Asia/Kathmandu").hour == 18


def test_quiet_hours_are_what_the_settings_say() -> None:
    assert QuietHours.of(Settings.model_validate({"quiet_start": 21, "quiet_end": 7})) == QuietHours(21, 7)
