"""Users whose zone changes between the lesson and the reminder: reminded in the evening of where they are, and once."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.due.candidate import User, candidate, moment
from shared.policy.kinds import ABANDONED_LESSON, PRACTICE, STREAK_SAVER, ReminderKind
from shared.policy.localtime import instant_of, known_zones, local_date
from shared.policy.window import QuietHours, practice_due, streak_saver_due, streak_saver_on
from shared.wire.sends import Send, Target
from tests.unit.zones import END, START, is_quiet, wall

NIGHT = QuietHours(22, 8)
LISBON, TOKYO, HONOLULU = "Europe/Lisbon", "Asia/Tokyo", "Pacific/Honolulu"
DAY = date(2026, 11, 21)
NEXT = DAY + timedelta(days=1)
zones = st.sampled_from(sorted(known_zones()))
instants = st.integers(int(START), int(END))
many = hypothesis_settings(deadline=None, max_examples=300)


def somebody(zone: str, practised: date | None) -> User:
    return User(7, zone, "en", 3, 0, practised, practised, "", [Target("a", "ios", "t")])


def ask(kind: ReminderKind, due: float, zone: str, practised: date | None, now: float) -> tuple[Send, str] | float:
    """What firing makes of it: a send with the reason of its denial, or when it is due instead."""
    when = moment(kind, due, zone, practised, NIGHT)
    return when.at if when.at > now else candidate(kind, when, somebody(zone, practised))


def test_who_flew_west_is_reminded_when_it_is_ten_there() -> None:
    due = streak_saver_due(instant_of(DAY, 12, TOKYO), TOKYO)
    assert ask(STREAK_SAVER, due, LISBON, DAY, due) == instant_of(NEXT, 22, LISBON)
    found = ask(STREAK_SAVER, instant_of(NEXT, 22, LISBON), LISBON, DAY, instant_of(NEXT, 22, LISBON))
    assert isinstance(found, tuple)
    assert (found[0].local_date, found[1]) == (NEXT, "")


def test_who_flew_a_little_east_is_reminded_late_in_the_evening() -> None:
    due = streak_saver_due(instant_of(DAY, 12, LISBON), LISBON)
    found = ask(STREAK_SAVER, due, "Europe/Madrid", DAY, due)
    assert isinstance(found, tuple)
    send, reason = found
    assert (reason, send.local_date, send.expires_at) == ("", NEXT, instant_of(NEXT, 24, "Europe/Madrid"))


def test_who_flew_so_far_east_that_the_day_is_over_has_no_streak_to_save() -> None:
    due = streak_saver_due(instant_of(DAY, 12, LISBON), LISBON)
    found = ask(STREAK_SAVER, due, TOKYO, DAY, due)
    assert isinstance(found, tuple)
    assert found[1] == "no_streak"


def test_who_crossed_the_dateline_eastward_has_the_evening_again() -> None:
    due = streak_saver_due(instant_of(DAY, 9, TOKYO), TOKYO)
    assert ask(STREAK_SAVER, due, HONOLULU, DAY, due) == instant_of(NEXT, 22, HONOLULU) == due + 19 * 3600


def test_practice_waits_for_the_morning_of_where_they_are() -> None:
    due = practice_due(instant_of(DAY, 12, LISBON), LISBON, NIGHT)  # 20:30 in Tokyo, 01:30 in Honolulu
    assert ask(PRACTICE, due, HONOLULU, DAY, due) == instant_of(NEXT, 8, HONOLULU)
    found = ask(PRACTICE, due, TOKYO, DAY, due)
    assert isinstance(found, tuple)
    assert (found[0].local_date, found[1]) == (NEXT, "")


def test_a_lesson_is_not_abandoned_hours_later() -> None:
    due = instant_of(DAY, 3, TOKYO)
    found = ask(ABANDONED_LESSON, due, TOKYO, DAY, due)
    assert isinstance(found, tuple)
    assert found[1] == "quiet_hours"


@pytest.mark.parametrize("kind", [PRACTICE, STREAK_SAVER], ids=lambda kind: kind.name)
@many
@given(zones, instants)
def test_who_stays_is_reminded_when_the_index_says(kind: ReminderKind, zone: str, last: int) -> None:
    due = practice_due(last, zone, NIGHT) if kind is PRACTICE else streak_saver_due(last, zone)
    assert moment(kind, due, zone, local_date(last, zone), NIGHT).at == due


@many
@given(zones, zones, instants)
def test_no_practice_reminder_is_for_quiet_hours_wherever_they_went(home: str, away: str, last: int) -> None:
    due = practice_due(last, home, NIGHT)
    found = moment(PRACTICE, due, away, local_date(last, home), NIGHT)
    assert found.at >= due
    assert not found.quiet
    assert not is_quiet(found.at, away, 22, 8)
    assert found.local_date == wall(found.at, away).date()
    assert found.at < found.expires_at
    assert not is_quiet(found.expires_at - 1, away, 22, 8)


@many
@given(zones, st.lists(zones, min_size=1, max_size=5), instants, st.integers(0, 3600))
def test_a_streak_is_saved_in_its_evening_and_once_whatever_the_journey(
    home: str, journey: list[str], last: int, late: int
) -> None:
    practised = local_date(last, home)
    due, granted = streak_saver_on(practised, home), []
    for zone in journey:
        # A worker that died before it took them out of the index fires them again, wherever they are by then.
        found = ask(STREAK_SAVER, due, zone, practised, due + late)
        if isinstance(found, float):
            assert found > due
            due = found
            continue
        send, reason = found
        if reason:
            assert reason == "no_streak"
            assert send.local_date > practised + timedelta(days=1)
            continue
        granted.append(send.send_id)
        assert send.local_date == practised + timedelta(days=1)
        assert wall(send.due_at, zone).date() == send.local_date
        assert wall(send.due_at, zone).hour >= 22
        assert wall(send.expires_at - 1, zone).date() == send.local_date
    assert len(set(granted)) <= 1


@many
@given(zones, zones, instants)
def test_a_reminder_that_was_moved_is_not_moved_again_without_a_journey(home: str, away: str, last: int) -> None:
    practised = local_date(last, home)
    for kind, due in ((PRACTICE, practice_due(last, home, NIGHT)), (STREAK_SAVER, streak_saver_due(last, home))):
        moved = moment(kind, due, away, practised, NIGHT).at
        assume(moved > due)
        assert moment(kind, moved, away, practised, NIGHT).at == moved
