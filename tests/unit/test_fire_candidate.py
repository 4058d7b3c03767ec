"""Who is due becomes a send or a denial; shards belong to partitions; what a rebuild schedules."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.clock import utc
from shared.due.candidate import Moment, User, candidate, moment, users_of
from shared.due.index import DUE_KINDS, Practised
from shared.identity import SHARDS
from shared.policy.kinds import ABANDONED_LESSON, HOUR, PRACTICE, STREAK_SAVER, ReminderKind
from shared.policy.localtime import instant_of
from shared.policy.window import QuietHours, expires_at, practice_due, streak_saver_due
from shared.wire.sends import Send, Target
from stream.due.fire import owned_shards
from stream.due.rebuild import _next

QUIET = QuietHours(22, 8)
TOKYO = "Asia/Tokyo"
DAY = date(2026, 11, 21)
YESTERDAY = DAY - timedelta(days=1)
NOON = instant_of(DAY, 12, TOKYO)
TEN = instant_of(DAY, 22, TOKYO)
kinds = pytest.mark.parametrize("kind", DUE_KINDS, ids=lambda kind: kind.name)


def somebody(**changes: Any) -> User:
    """Who practised yesterday in Tokyo and has two devices, but for these changes."""
    user = User(
        id=7, time_zone=TOKYO, locale="ja", streak=5, opted_out=0, practice_date=YESTERDAY, active_date=YESTERDAY,
        email="", targets=[Target("b", "android", "t2"), Target("a", "ios", "t1", "f1")],
    )  # fmt: skip
    return user._replace(**changes)


def when(kind: ReminderKind, due: float, user: User, quiet: QuietHours = QUIET) -> Moment:
    return moment(kind, due, user.time_zone, user.practice_date, quiet)


def ask(kind: ReminderKind, due: float | None = None, **changes: Any) -> tuple[Send, str]:
    """`candidate` for somebody whose reminder is due, at an hour at which it may be unless told otherwise."""
    user = somebody(**changes)
    due = (TEN if kind is STREAK_SAVER else NOON) if due is None else due
    return candidate(kind, when(kind, due, user), user)


@kinds
def test_who_is_due_gets_a_send(kind: ReminderKind) -> None:
    send, reason = ask(kind)
    assert reason == ""
    due = TEN if kind is STREAK_SAVER else NOON
    assert (send.user_id, send.kind, send.local_date, send.due_at) == (7, kind.name, DAY, due)
    assert (send.time_zone, send.locale, send.streak) == (TOKYO, "ja", 5)
    assert send.targets == (Target("a", "ios", "t1", "f1"), Target("b", "android", "t2"))


@kinds
def test_a_send_expires_as_its_kind_does(kind: ReminderKind) -> None:
    send, _ = ask(kind)
    assert send.expires_at == expires_at(kind, send.due_at, TOKYO, QUIET) > send.due_at


@kinds
def test_who_opted_out_of_a_kind_is_denied_it(kind: ReminderKind) -> None:
    assert ask(kind, opted_out=1 << kind.code)[1] == "opted_out"


@kinds
def test_who_opted_out_of_the_others_is_not(kind: ReminderKind) -> None:
    assert ask(kind, opted_out=0b1111 & ~(1 << kind.code))[1] == ""


@kinds
def test_who_has_no_device_is_denied(kind: ReminderKind) -> None:
    send, reason = ask(kind, targets=[])
    assert (send.targets, reason) == ((), "no_device")


def test_who_has_no_device_but_an_address_gets_a_send() -> None:
    send, reason = ask(PRACTICE, targets=[], email="ada@example.com")
    assert (send.targets, send.email, reason) == ((), "ada@example.com", "")


def test_without_a_mail_server_an_address_is_no_way_to_remind() -> None:
    user = somebody(targets=[], email="ada@example.com")
    send, reason = candidate(PRACTICE, when(PRACTICE, NOON, user), user, email=False)
    assert (send.email, reason) == ("", "no_device")


@pytest.mark.parametrize(
    ("streak", "practised", "reason"),
    [
        (5, YESTERDAY, ""),
        (5, DAY, ""),  # the gate knows, and denies
        (0, YESTERDAY, "no_streak"),
        (5, YESTERDAY - timedelta(days=1), "no_streak"),
        (5, None, "no_streak"),
    ],
)
def test_a_streak_is_saved_only_where_one_is_at_stake(streak: int, practised: date | None, reason: str) -> None:
    assert ask(STREAK_SAVER, TEN, streak=streak, practice_date=practised)[1] == reason


@pytest.mark.parametrize("kind", [PRACTICE, ABANDONED_LESSON], ids=lambda kind: kind.name)
def test_other_kinds_need_no_streak(kind: ReminderKind) -> None:
    assert ask(kind, streak=0, practice_date=None)[1] == ""


@pytest.mark.parametrize("hour", [0, 7, 22, 23])
def test_a_lesson_abandoned_in_quiet_hours_is_denied(hour: int) -> None:
    assert ask(ABANDONED_LESSON, instant_of(DAY, hour, TOKYO))[1] == "quiet_hours"


def test_the_streak_saver_may_come_in_quiet_hours() -> None:
    send, reason = ask(STREAK_SAVER, TEN)
    assert reason == ""
    assert send.expires_at == TEN + 2 * HOUR


def test_the_first_reason_is_the_users_own_choice() -> None:
    everything: dict[str, Any] = {"opted_out": 0b1111, "targets": [], "streak": 0}
    assert ask(ABANDONED_LESSON, instant_of(DAY, 3, TOKYO), **everything)[1] == "opted_out"


def test_a_denied_candidate_keeps_its_identity() -> None:
    send, _ = ask(PRACTICE, opted_out=1)
    assert send.send_id == ask(PRACTICE)[0].send_id


def test_the_local_date_is_that_of_the_moment_it_was_due() -> None:
    # Eight in Tokyo is still the day before in Los Angeles.
    morning = instant_of(DAY, 8, TOKYO)
    assert ask(PRACTICE, morning)[0].local_date == DAY
    assert ask(PRACTICE, morning, time_zone="America/Los_Angeles")[0].local_date == YESTERDAY


@pytest.mark.parametrize(
    ("active", "silent_days"),
    [(YESTERDAY, 1), (DAY, 0), (DAY + timedelta(days=1), 0), (date(2026, 11, 1), 20), (None, 0)],
)
def test_silence_is_counted_in_local_dates(active: date | None, silent_days: int) -> None:
    assert ask(PRACTICE, active_date=active)[0].silent_days == silent_days


def test_devices_of_a_user_come_together_and_one_without_any_has_none() -> None:
    one = (1, TOKYO, "ja", 5, 0, YESTERDAY, YESTERDAY, "")
    two = (2, *one[1:])
    rows = [(*one, "b", "android", "t2", ""), (*two, None, None, None, ""), (*one, "a", "ios", "t1", "f1")]
    found = users_of(rows)
    assert found[1] == User(*one, [Target("b", "android", "t2"), Target("a", "ios", "t1", "f1")])
    assert found[2] == User(*two, [])


@hypothesis_settings(deadline=None)
@given(st.integers(1, 300), st.data())
def test_every_shard_belongs_to_one_partition(count: int, data: st.DataObject) -> None:
    mine = data.draw(st.sets(st.integers(0, count - 1)))
    others = set(range(count)) - mine
    assert sorted(owned_shards(mine, count) + owned_shards(others, count)) == list(range(SHARDS))


def test_partitions_share_the_shards_evenly() -> None:
    assert {len(owned_shards({partition}, 8)) for partition in range(8)} == {32}
    assert owned_shards({0, 3}, 100) == [0, 3, 100, 103, 200, 203]


def test_a_worker_without_partitions_fires_nothing() -> None:
    assert owned_shards([], 8) == []


def scheduled(now: float, last: float) -> Practised | None:
    """What a rebuild at `now` schedules for a practice at `last`."""
    return _next(QUIET, now, (7, TOKYO, utc(last), None))


def test_a_rebuild_schedules_both_reminders_of_todays_practice() -> None:
    due = practice_due(NOON, TOKYO, QUIET), streak_saver_due(NOON, TOKYO)
    assert scheduled(NOON + HOUR, NOON) == Practised(7, *due, 0.0)


def test_a_rebuild_leaves_timers_of_abandoned_lessons_alone() -> None:
    lesson = scheduled(NOON + HOUR, NOON)
    assert lesson
    assert lesson.started_before == 0.0


@pytest.mark.parametrize(
    ("late", "practice", "streak_saver"),
    [(3.9, True, True), (4.0, False, True), (12.4, False, True), (12.5, False, False)],
)
def test_a_rebuild_leaves_out_reminders_whose_life_is_over(late: float, practice: bool, streak_saver: bool) -> None:
    # Practice was due at 11:30 and lives four hours; the streak saver is due at 22:00 and lives two.
    lesson = scheduled(practice_due(NOON, TOKYO, QUIET) + late * HOUR, NOON)
    found = (False, False) if lesson is None else (lesson.practice_due is not None, lesson.streak_saver_due is not None)
    assert found == (practice, streak_saver)
