"""What a batch of activity events comes to: pure, so that redelivery and order can be tested without servers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

import msgspec
from msgspec.structs import replace

from shared.due.moves import Practised, Started
from shared.policy.kinds import KINDS
from shared.policy.localtime import local_date
from shared.policy.window import QuietHours, abandoned_due, practice_due, streak_saver_due, streak_saver_on
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
from stream.due.active import Active

GATE_DAYS = 3 * 86_400.0
"""Marks of older practice are left out of the gate: nothing is planned for those dates any more. So are choices made
longer ago: by then the database's replicas know them."""

CHOICE_DAYS = (-1, 0, 1, 2)
"""Days from the user's today on which the gate denies what the user has just opted out of. Yesterday: its reminders may
still be on their way. The days after: whoever plans them reads PostgreSQL, which may be down, or a replica that is
hours behind; by the third day it knows."""


class UserActivity(msgspec.Struct):
    """What a batch says of one user."""

    time_zone: str
    zone_given: bool = False
    locale: str | None = None
    event_at: float = 0.0
    practices: dict[date, float] = {}
    """Local date -> the last practice on it, unix seconds."""
    started: float | None = None
    opted_out: tuple[str, ...] | None = None
    """The last choice in the order of the partition; None: none was made."""
    email: tuple[str, float] | None = None
    """The last address that was set in that order, empty where it was taken away, and when; None: none was."""
    email_opted_out: bool | None = None
    choices: list[tuple[float, int]] = []
    """Every choice in that order: when it was made, and a bit for the code of each kind that is not wanted."""

    def then(self, later: UserActivity) -> UserActivity:
        """Both in one, for the user's row: as if a batch had held the events of both, of one time zone."""
        practices = self.practices
        for day, at in later.practices.items():
            if practices.get(day, 0.0) < at:
                practices = {**practices, day: at}
        return UserActivity(
            self.time_zone,
            self.zone_given or later.zone_given,
            later.locale or self.locale,
            max(self.event_at, later.event_at),
            practices,
            opted_out=self.opted_out if later.opted_out is None else later.opted_out,
            email=later.email or self.email,
            email_opted_out=self.email_opted_out if later.email_opted_out is None else later.email_opted_out,
        )

    def last_practice(self) -> tuple[date, float]:
        """Its local date and when it was; there must have been one."""
        practices = self.practices
        day = next(iter(practices)) if len(practices) == 1 else max(practices, key=practices.__getitem__)
        return day, practices[day]


@dataclass(slots=True)
class Effects:
    """What is to be written for a batch of events."""

    users: dict[int, UserActivity] = field(default_factory=dict)
    registered: dict[tuple[int, str], DeviceRegistered] = field(default_factory=dict)
    removed: dict[tuple[int, str], float] = field(default_factory=dict)
    """When devices were removed; what they had registered before is written first, and so known when they come back."""
    deleted: set[int] = field(default_factory=set)
    choosers: set[int] = field(default_factory=set)
    """Those of `users` who made a choice."""

    def marks(self, now: float) -> list[tuple[int, date]]:
        """(user, local date) that the gate is to know as practised."""
        return [
            (user_id, day)
            for user_id, user in self.users.items()
            for day, at in user.practices.items()
            if at > now - GATE_DAYS
        ]

    def opt_outs(self, now: float) -> list[tuple[int, date, int]]:
        """(user, local date, bits of kinds' codes) that the gate is to know as not wanted; no bits: all are wanted."""
        wishes = []
        for user_id in self.choosers:
            user = self.users[user_id]
            fresh = [bits for at, bits in user.choices if at > now - GATE_DAYS]
            if fresh:
                today = local_date(now, user.time_zone)
                wishes += [(user_id, today + timedelta(days=n), fresh[-1]) for n in CHOICE_DAYS]
        return wishes

    def active(self, now: float, quiet: QuietHours) -> list[Active]:
        """What Redis is to know of those who practised or began to: marks, reminders that follow, timers."""
        oldest = now - GATE_DAYS
        found = []
        for user_id, user in self.users.items():
            timer = 0 if user.started is None else int(abandoned_due(user.started))
            if user.practices:
                day, last = user.last_practice()
                days = tuple(day for day, at in user.practices.items() if at > oldest)
                practice, streak = practice_due(last, user.time_zone, quiet), streak_saver_on(day, user.time_zone)
                found.append(Active(user_id, days, int(practice), int(streak), int(abandoned_due(last)), timer))
            elif timer:
                found.append(Active(user_id, abandoned_due=timer))
        return found

    def practised(self, quiet: QuietHours) -> list[Practised]:
        """The reminders that follow from each user's last practice."""
        return [_lesson(user_id, user, quiet) for user_id, user in self.users.items() if user.practices]

    def started(self) -> list[Started]:
        """Lessons that were started and not finished within the batch."""
        return [timer for user_id, user in self.users.items() if (timer := _timer(user_id, user))]


def _lesson(user_id: int, user: UserActivity, quiet: QuietHours) -> Practised:
    last, zone = max(user.practices.values()), user.time_zone
    return Practised(user_id, practice_due(last, zone, quiet), streak_saver_due(last, zone), abandoned_due(last))


def _timer(user_id: int, user: UserActivity) -> Started | None:
    return None if user.started is None else Started(user_id, abandoned_due(user.started))


def effects_of(events: Iterable[ActivityEvent], zones: Mapping[int, str], default_zone: str) -> Effects:
    """Fold events, in the order of their partition, into what they come to.

    `zones` are the known zones of users whose events do not carry one.
    """
    effects = Effects()
    users = effects.users
    for event in events:
        user_id, kind = event.user_id, type(event)
        if kind is UserDeleted:
            _delete(effects, user_id)
            continue
        user = users.get(user_id)
        if user is None:
            # What was known of a deleted user is gone, the zone included.
            known = None if user_id in effects.deleted else zones.get(user_id)
            user = users[user_id] = UserActivity(event.time_zone or known or default_zone)
        if event.time_zone:
            user.time_zone, user.zone_given = event.time_zone, True
        instant = event.at.timestamp()
        user.event_at = max(user.event_at, instant)
        # The three that come by the million first, and by their type: it is looked up once a record.
        if kind is LessonStarted:
            if user.started is None or user.started < instant:
                user.started = instant
        elif kind is LessonCompleted:
            day = local_date(instant, user.time_zone)
            if user.practices.get(day, 0.0) < instant:
                user.practices[day] = instant
            if user.started is not None and user.started <= instant:
                user.started = None
        elif kind is AppOpened:
            user.locale = event.locale or user.locale  # type: ignore[union-attr]  # it is one
        else:
            _rarer(effects, user, event)
    return effects


def _rarer(effects: Effects, user: UserActivity, event: ActivityEvent) -> None:
    if isinstance(event, PreferencesChanged):
        _prefer(user, event)
        if user.choices:
            effects.choosers.add(event.user_id)
    elif isinstance(event, DeviceRegistered):
        _register(effects, event)
    elif isinstance(event, DeviceRemoved):
        _remove(effects, event)


def _prefer(user: UserActivity, event: PreferencesChanged) -> None:
    if event.opted_out is not None:
        user.opted_out = event.opted_out
        user.choices.append((event.instant, sum(1 << KINDS[kind].code for kind in set(event.opted_out))))
    if event.email is not None:
        user.email = event.email, event.instant
    if event.email_opted_out is not None:
        user.email_opted_out = event.email_opted_out
    user.locale = event.locale or user.locale


def _register(effects: Effects, event: DeviceRegistered) -> None:
    """An event that comes late undoes nothing that happened after it; so too in `_remove`."""
    device = event.user_id, event.device_id
    known = effects.registered.get(device)
    if known is None or known.instant <= event.instant:
        effects.registered[device] = _after(known, event)
    if device in effects.removed and effects.removed[device] <= event.instant:
        del effects.removed[device]


def _after(known: DeviceRegistered | None, event: DeviceRegistered) -> DeviceRegistered:
    """A registration with the FCM token that it leaves out and an earlier one brought; empty: it has none any more,
    because meanwhile it was no iOS device."""
    if known is None or event.fcm_token or event.platform != "ios":
        return event
    if known.platform != "ios":
        return replace(event, fcm_token="")
    return event if known.fcm_token in (None, event.token) else replace(event, fcm_token=known.fcm_token)


def _remove(effects: Effects, event: DeviceRemoved) -> None:
    device = event.user_id, event.device_id
    effects.removed[device] = max(effects.removed.get(device, 0.0), event.instant)


def _delete(effects: Effects, user_id: int) -> None:
    effects.users.pop(user_id, None)
    effects.choosers.discard(user_id)
    effects.registered = {key: event for key, event in effects.registered.items() if key[0] != user_id}
    effects.removed = {key: at for key, at in effects.removed.items() if key[0] != user_id}
    effects.deleted.add(user_id)
