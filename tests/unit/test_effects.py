"""What a batch of activity comes to: cut, repeated or mixed, the end is the same."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.clock import utc
from shared.due.index import Practised, Started
from shared.policy.kinds import KindName
from shared.policy.window import QuietHours, abandoned_due, practice_due, streak_saver_due
from shared.wire.events import (
    ActivityEvent,
    AppOpened,
    DeviceRegistered,
    DeviceRemoved,
    LessonCompleted,
    LessonStarted,
    PreferencesChanged,
    UserDeleted,
)
from stream.effects import GATE_DAYS, Effects, effects_of

NOW = 1_795_262_400.0  # 2026-11-21 12:00 UTC
QUIET = QuietHours(22, 8)
ZONES = {1: "Asia/Tokyo", 2: "America/New_York", 3: "Europe/London"}
many = hypothesis_settings(deadline=None, max_examples=120)


class World:
    """The gate's marks, the due index and the devices as plain dicts: the rules of the Lua and SQL files."""

    def __init__(self) -> None:
        self.marks: set[tuple[int, date]] = set()
        self.opted_out: dict[tuple[int, date], int] = {}
        self.due: dict[tuple[str, int], float] = {}
        self.zones = dict(ZONES)
        self.chosen: dict[tuple[str, int], Any] = {}
        self.devices: dict[tuple[int, str], tuple[float, str, str | None, bool]] = {}

    def handle(self, events: Sequence[ActivityEvent]) -> World:
        """One batch, in the order in which the activity agent writes."""
        effects = effects_of(events, self.zones, "UTC")
        self.marks |= set(effects.marks(NOW))
        self.opted_out |= {(user_id, day): bits for user_id, day, bits in effects.opt_outs(NOW)}
        for user_id in effects.deleted:
            self._forget(user_id)
        for lesson in effects.practised(QUIET):
            assert lesson.practice_due
            assert lesson.streak_saver_due
            self._later("practice", lesson.user_id, lesson.practice_due)
            self._later("streak_saver", lesson.user_id, lesson.streak_saver_due)
            if self.due.get(("abandoned", lesson.user_id), lesson.started_before + 1) <= lesson.started_before:
                del self.due["abandoned", lesson.user_id]
        for user_id, due in effects.started():
            self._later("abandoned", user_id, due)
        self._write_back(effects)
        return self

    def _later(self, kind: str, user_id: int, due: float) -> None:
        self.due[kind, user_id] = max(due, self.due.get((kind, user_id), due))

    def _forget(self, user_id: int) -> None:
        self.zones.pop(user_id, None)
        self.due = {key: due for key, due in self.due.items() if key[1] != user_id}
        self.chosen = {key: choice for key, choice in self.chosen.items() if key[1] != user_id}
        self.devices = {key: device for key, device in self.devices.items() if key[0] != user_id}

    def _write_back(self, effects: Effects) -> None:
        for user_id, user in effects.users.items():
            if user.zone_given or user_id not in self.zones:
                self.zones[user_id] = user.time_zone
            for name, choice in (("opted_out", user.opted_out), ("locale", user.locale)):
                if choice is not None:
                    self.chosen[name, user_id] = choice
        for key, event in effects.registered.items():
            if key not in self.devices or self.devices[key][0] <= event.instant:
                known = self.devices[key][2] if key in self.devices and event.platform == "ios" else None
                token = known if event.fcm_token is None else event.fcm_token or None
                self.devices[key] = event.instant, event.token, token, True
        for key, at in effects.removed.items():
            if key in self.devices and self.devices[key][0] <= at:
                self.devices[key] = *self.devices[key][:3], False


def after(*batches: Sequence[ActivityEvent]) -> dict[str, Any]:
    world = World()
    for batch in batches:
        world.handle(batch)
    return vars(world)


def live(world: dict[str, Any]) -> dict[tuple[int, str], str]:
    return {key: token for key, (_, token, _, alive) in world["devices"].items() if alive}


def completed(user_id: int, at: float, zone: str | None = None) -> LessonCompleted:
    return LessonCompleted(user_id=user_id, at=utc(at), time_zone=zone)


def started(user_id: int, at: float) -> LessonStarted:
    return LessonStarted(user_id=user_id, at=utc(at))


def deleted(user_id: int) -> UserDeleted:
    return UserDeleted(user_id=user_id, at=utc(NOW))


def registered(at: float, token: str = "t" * 8, **more: Any) -> DeviceRegistered:
    fields: dict[str, Any] = {"platform": "ios", **more}
    return DeviceRegistered(user_id=1, at=utc(at), device_id="d", token=token, **fields)


def removed(at: float) -> DeviceRemoved:
    return DeviceRemoved(user_id=1, at=utc(at), device_id="d")


def chose(user_id: int, *opted_out: KindName, at: float = NOW) -> PreferencesChanged:
    return PreferencesChanged(user_id=user_id, at=utc(at), opted_out=opted_out)


def one(events: Sequence[ActivityEvent]) -> Effects:
    return effects_of(events, ZONES, "UTC")


@st.composite
def histories(draw: st.DrawFn, deletions: bool = False) -> list[ActivityEvent]:
    """Activity of three users over four days, late events included. A deleted user's next event names its zone."""
    events: list[ActivityEvent] = []
    kinds = [AppOpened, LessonStarted, LessonCompleted, PreferencesChanged, *([UserDeleted] if deletions else [])]
    for _ in range(draw(st.integers(0, 12))):
        kind, user_id = draw(st.sampled_from(kinds)), draw(st.sampled_from(sorted(ZONES)))
        fields: dict[str, Any] = {"user_id": user_id, "at": utc(NOW - draw(st.integers(0, 4 * 96)) * 900)}
        if deletions or draw(st.booleans()):
            fields["time_zone"] = ZONES[user_id]
        if kind is PreferencesChanged:
            fields["opted_out"] = draw(st.sampled_from([None, (), ("practice",)]))
            fields["locale"] = draw(st.sampled_from([None, "ja", "en"]))
        events.append(kind(**fields))
    return events


@many
@given(histories(), st.data())
def test_a_batch_cut_anywhere_comes_to_the_same(events: list[ActivityEvent], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(events)))
    assert after(events[:cut], events[cut:]) == after(events)


@many
@given(histories(), st.data())
def test_what_two_batches_say_of_a_user_is_what_one_of_both_says(
    events: list[ActivityEvent], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(events)))
    first, second, both = (one(part).users for part in (events[:cut], events[cut:], events))
    for user_id in first.keys() & second.keys():
        found, asked = first[user_id].then(second[user_id]), both[user_id]
        # A timer and the gate's choices are no part of a user's row.
        asked.started, asked.choices = None, []
        assert found == asked


@many
@given(histories(deletions=True), st.data())
def test_so_does_one_in_which_accounts_are_deleted(events: list[ActivityEvent], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(events)))
    whole, parts = after(events), after(events[:cut], events[cut:])
    # What was practised or chosen before the deletion may stay in the gate for its days: it only ever denies.
    assert whole.pop("marks") <= parts.pop("marks")
    assert whole.pop("opted_out").items() <= parts.pop("opted_out").items()
    assert parts == whole


@many
@given(histories(deletions=True), histories(deletions=True))
def test_a_batch_that_comes_twice_changes_nothing(first: list[ActivityEvent], second: list[ActivityEvent]) -> None:
    assert after(first, second, second) == after(first, second)


@many
@given(histories())
def test_users_do_not_touch_one_another(events: list[ActivityEvent]) -> None:
    assert after(sorted(events, key=lambda event: event.user_id)) == after(events)


@many
@given(
    st.lists(st.tuples(st.sampled_from(["ios", "with FCM", "android", "gone"]), st.integers(0, 3)), max_size=8),
    st.data(),
)
def test_devices_come_and_go_the_same_however_the_batch_is_cut(
    moves: list[tuple[str, int]], data: st.DataObject
) -> None:
    at, events = NOW, list[ActivityEvent]()
    for n, (what, later) in enumerate(moves):
        at += later
        if what == "gone":
            events.append(removed(at))
        elif what == "with FCM":
            events.append(registered(at, f"token-{n}", fcm_token=f"fcm-token-{n}"))
        else:
            events.append(registered(at, f"token-{n}", platform=what))
    cut = data.draw(st.integers(0, len(events)))
    assert after(events[:cut], events[cut:])["devices"] == after(events)["devices"]


def test_a_device_that_was_an_android_meanwhile_has_no_fcm_token_of_before() -> None:
    brought, android, again = (
        registered(NOW, fcm_token="fcm-token"),
        registered(NOW, platform="android"),
        registered(NOW),
    )
    assert after([brought], [android, again])["devices"] == after([brought, android, again])["devices"]
    assert after([brought], [android, again])["devices"][1, "d"][2] is None


def test_a_registration_without_an_fcm_token_keeps_the_one_that_the_batch_brought() -> None:
    brought = registered(NOW, fcm_token="fcm-token")
    assert one([brought, registered(NOW + 1)]).registered[1, "d"].fcm_token == "fcm-token"
    assert one([brought, removed(NOW + 1), registered(NOW + 2)]).registered[1, "d"].fcm_token == "fcm-token"
    assert one([brought, registered(NOW + 1, platform="android")]).registered[1, "d"].fcm_token is None
    late = [registered(NOW + 1, fcm_token="new-fcm-token"), brought]
    assert one(late).registered[1, "d"].fcm_token == "new-fcm-token"


def test_a_completed_lesson_leaves_two_reminders_and_takes_the_timer_away() -> None:
    effects = one([started(1, NOW - 600), completed(1, NOW)])
    due = practice_due(NOW, "Asia/Tokyo", QUIET), streak_saver_due(NOW, "Asia/Tokyo")
    assert effects.practised(QUIET) == [Practised(1, *due, abandoned_due(NOW))]
    assert effects.started() == []


def test_a_lesson_started_after_the_last_one_was_finished_is_timed() -> None:
    assert one([completed(1, NOW - 60), started(1, NOW)]).started() == [Started(1, NOW + 1800)]


def test_a_lesson_finished_late_does_not_end_a_newer_one() -> None:
    assert one([started(1, NOW), completed(1, NOW - 60)]).started() == [Started(1, NOW + 1800)]


def test_opening_the_app_is_not_practice() -> None:
    effects = one([AppOpened(user_id=1, at=utc(NOW))])
    assert (effects.marks(NOW), effects.practised(QUIET), effects.started()) == ([], [], [])
    assert effects.users[1].event_at == NOW


def test_a_practice_is_marked_on_the_date_where_the_user_was() -> None:
    late = NOW + 4 * 3600  # 16:00 in London, the next morning in Tokyo
    marks = one([completed(1, late), completed(3, late)]).marks(late)
    assert marks == [(1, date(2026, 11, 22)), (3, date(2026, 11, 21))]


def test_every_practised_date_of_a_batch_is_marked() -> None:
    marks = one([completed(3, NOW - 86_400), completed(3, NOW), completed(3, NOW - 60)]).marks(NOW)
    assert marks == [(3, date(2026, 11, 20)), (3, date(2026, 11, 21))]


def test_practice_of_long_ago_is_not_marked() -> None:
    assert one([completed(3, NOW - 3 * 86_400)]).marks(NOW) == []


def test_an_opt_out_holds_at_the_gate_from_yesterday_to_the_day_after_tomorrow_where_the_user_is() -> None:
    late = NOW + 4 * 3600  # 16:00 in London, the next morning in Tokyo
    wishes = one([chose(1, "practice", "comeback", at=late), chose(3, "streak_saver", at=late)]).opt_outs(late)
    assert [(day.day, bits) for user, day, bits in wishes if user == 1] == [(n, 0b1001) for n in (21, 22, 23, 24)]
    assert [(day.day, bits) for user, day, bits in wishes if user == 3] == [(n, 0b0010) for n in (20, 21, 22, 23)]


def test_the_last_choice_in_the_order_of_the_partition_wins() -> None:
    wishes = one([chose(1, "practice"), chose(1, "comeback", at=NOW - 60)]).opt_outs(NOW)
    assert {bits for _, _, bits in wishes} == {0b1000}


def test_who_opts_in_again_is_wanted_at_the_gate_again() -> None:
    wishes = one([chose(1, "practice"), chose(1)]).opt_outs(NOW)
    assert [bits for _, _, bits in wishes] == [0] * 4


def test_other_preferences_are_no_choice() -> None:
    assert one([PreferencesChanged(user_id=1, at=utc(NOW), locale="ja")]).opt_outs(NOW) == []


def test_a_kind_that_is_named_twice_counts_once() -> None:
    assert {bits for _, _, bits in one([chose(1, "practice", "practice")]).opt_outs(NOW)} == {1}


def test_a_choice_of_long_ago_is_left_to_the_database() -> None:
    old = chose(1, "practice", at=NOW - GATE_DAYS)
    assert one([old]).opt_outs(NOW) == []
    # Nor does it take the place of one that the gate was told of.
    assert {bits for _, _, bits in one([chose(1, "comeback"), old]).opt_outs(NOW)} == {0b1000}


def test_a_zone_that_an_event_names_comes_before_the_known_one() -> None:
    user = one([completed(3, NOW, "Asia/Kathmandu"), started(3, NOW)]).users[3]
    assert (user.time_zone, user.zone_given) == ("Asia/Kathmandu", True)


def test_a_known_zone_comes_before_the_default() -> None:
    effects = effects_of([completed(1, NOW), completed(9, NOW)], ZONES, "Pacific/Apia")
    assert effects.users[1].time_zone == "Asia/Tokyo"
    assert effects.users[9].time_zone == "Pacific/Apia"
    assert not effects.users[9].zone_given


def test_a_deletion_drops_what_came_before_it() -> None:
    effects = one([completed(1, NOW), registered(NOW), removed(NOW), completed(2, NOW), deleted(1)])
    assert (set(effects.users), effects.registered, effects.removed, effects.deleted) == ({2}, {}, {}, {1})


def test_a_user_who_comes_back_is_a_new_one() -> None:
    effects = one([completed(1, NOW), deleted(1), started(1, NOW)])
    assert (effects.deleted, effects.users[1].practices) == ({1}, {})
    assert effects.users[1].time_zone == "UTC"


def test_a_removal_that_comes_late_keeps_the_newer_registration() -> None:
    assert live(after([registered(NOW), removed(NOW - 60)])) == {(1, "d"): "t" * 8}


def test_a_registration_that_comes_late_keeps_the_newer_token() -> None:
    effects = one([registered(NOW, "new-token"), registered(NOW - 60, "old-token")])
    assert effects.registered[1, "d"].token == "new-token"


def test_a_registration_that_comes_late_does_not_undo_a_removal() -> None:
    assert live(after([removed(NOW), registered(NOW - 60)])) == {}
