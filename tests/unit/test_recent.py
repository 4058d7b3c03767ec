"""What need not be written: whatever is left out, the row says the same in the end, to the day and the hour."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.clock import utc
from shared.policy.localtime import local_date
from shared.wire.events import ActivityEvent, AppOpened, LessonCompleted, LessonStarted, PreferencesChanged
from stream.effects import UserActivity, effects_of
from stream.recent import Recent

NOON = 1_795_262_400.0
ZONES = ("Europe/London", "Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati")


def activity(at: float, *, practised: bool = False, zone: str = "UTC", given_zone: bool = True) -> UserActivity:
    day = local_date(at, zone)
    return UserActivity(zone, given_zone, event_at=at, practices={day: at} if practised else {})


def written(recent: Recent, user_id: int, user: UserActivity) -> bool:
    news = recent.news(user_id, user)
    if news:
        recent.remember(user_id, news)
    return bool(news)


def test_the_first_event_of_a_day_is_written_and_those_after_it_are_not() -> None:
    recent = Recent()
    assert [written(recent, 1, activity(NOON + 60 * n)) for n in range(4)] == [True, False, False, False]
    assert written(recent, 1, activity(NOON + 86_400))


def test_one_practice_an_hour_is_written() -> None:
    recent = Recent()
    found = [written(recent, 1, activity(NOON + 600 * n, practised=True)) for n in range(13)]
    assert found == [True] + [False] * 5 + [True] + [False] * 5 + [True]


def test_a_practice_on_another_date_within_the_same_hour_of_utc_is_written() -> None:
    recent = Recent()
    before = activity(utc_instant("18:10"), practised=True, zone="Asia/Kathmandu")
    after = activity(utc_instant("18:20"), practised=True, zone="Asia/Kathmandu")
    assert list(before.practices) != list(after.practices)
    assert [written(recent, 1, before), written(recent, 1, after)] == [True, True]


def utc_instant(clock: str) -> float:
    hour, minute = map(int, clock.split(":"))
    return NOON + (hour - 12) * 3600 + minute * 60


def test_what_was_not_written_is_not_remembered() -> None:
    recent = Recent()
    assert recent.news(1, activity(NOON))
    assert recent.news(1, activity(NOON + 1))


def test_another_zone_locale_or_choice_is_written_at_once() -> None:
    recent = Recent()
    written(recent, 1, activity(NOON, zone="Asia/Tokyo"))
    assert written(recent, 1, activity(NOON + 1, zone="Asia/Seoul"))
    spanish = activity(NOON + 2, zone="Asia/Seoul")
    spanish.locale = "es"
    assert written(recent, 1, spanish)
    choice = activity(NOON + 3, zone="Asia/Seoul")
    choice.opted_out = ()
    assert [written(recent, 1, choice), written(recent, 1, choice)] == [True, True]


def test_a_traveller_to_an_earlier_hour_is_not_forgotten_until_that_hour_comes() -> None:
    recent = Recent()
    written(recent, 1, activity(NOON, practised=True, zone="Pacific/Kiritimati"))
    assert written(recent, 1, activity(NOON + 3600, practised=True, zone="Pacific/Honolulu"))
    assert written(recent, 1, activity(NOON + 7200, practised=True, zone="Pacific/Honolulu"))


def test_users_who_share_a_place_are_written_more_often_and_never_less() -> None:
    recent, seen = Recent(bits=6), dict[int, int]()
    other = next(n for n in range(1, 100) if seen.setdefault(recent.place_of(n), n) != n)
    one = seen[recent.place_of(other)]
    assert [written(recent, user, activity(NOON)) for user in (one, other, one, one)] == [True, True, True, False]


def test_who_was_deleted_is_written_anew() -> None:
    recent = Recent()
    written(recent, 1, activity(NOON))
    recent.forget(1)
    assert written(recent, 1, activity(NOON + 1))


@dataclass
class Row:
    """A user's row, merged as queries/merge_users.sql does it."""

    time_zone: str = ""
    locale: str = "en"
    opted_out: tuple[str, ...] = ()
    event_at: float = 0.0
    active: date = date.min
    practice_at: float = 0.0
    practised: date = date.min
    streak: int = 0

    def merge(self, user: UserActivity) -> None:
        if user.zone_given or not self.time_zone:
            self.time_zone = user.time_zone
        self.locale = user.locale or self.locale
        if user.opted_out is not None:
            self.opted_out = user.opted_out
        if user.event_at > self.event_at:
            self.active = local_date(user.event_at, user.time_zone)
        self.event_at = max(self.event_at, user.event_at)
        for day, at in sorted(user.practices.items()):
            if day > self.practised:
                follows = self.practised != date.min and day == self.practised + timedelta(days=1)
                self.streak = self.streak + 1 if follows else 1
                self.practised = day
            self.practice_at = max(self.practice_at, at)


events = st.lists(
    st.builds(
        lambda kind, at, zone: (kind, at, zone),
        st.sampled_from([AppOpened, LessonStarted, LessonCompleted, LessonCompleted, PreferencesChanged]),
        st.integers(0, 4 * 86_400).map(lambda second: NOON + second),
        st.sampled_from(ZONES),
    ),
    max_size=30,
    unique_by=lambda each: each[1],
)


@hypothesis_settings(deadline=None, max_examples=150)
@given(events, st.booleans(), st.booleans())
def test_the_row_says_the_same_to_the_day_and_the_hour(
    said: list[tuple[type, float, str]], in_order: bool, travels: bool
) -> None:
    if in_order:
        said = sorted(said, key=lambda each: each[1])
    recent, all_of_it, news_only = Recent(bits=4), Row(), Row()
    for kind, at, zone in said:
        event: ActivityEvent = kind(user_id=1, at=utc(at), time_zone=zone if travels else ZONES[1])
        user = effects_of([event], {}, "UTC").users[1]
        all_of_it.merge(user)
        if written(recent, 1, user):
            news_only.merge(user)
    if in_order:
        assert abs(all_of_it.practice_at - news_only.practice_at) < 3600
        news_only.event_at, news_only.practice_at = all_of_it.event_at, all_of_it.practice_at
        assert news_only == all_of_it
    # Events of one user that come in any other order are merged by when they were: late ones change nothing anyway.
    elif not travels:
        assert (news_only.practised, news_only.active) == (all_of_it.practised, all_of_it.active)
