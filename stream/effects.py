"""What a batch of activity events comes to: pure, so that redelivery and order can be tested without servers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

from msgspec.structs import replace

from shared.policy.kinds import KINDS
from shared.policy.localtime import local_date
from shared.policy.window import QuietHours, abandoned_due, practice_due, streak_saver_due
from shared.wire.events import (
    ActivityEvent,
    DeviceRegistered,
    DeviceRemoved,
    LessonCompleted,
    LessonStarted,
    PreferencesChanged,
    UserDeleted,
)
from stream.due.index import Practised, Started

GATE_DAYS = 3 * 86_400.0
"""Marks of older practice are left out of the gate: nothing is planned for those dates any more. So are choices made
longer ago: by then the database's replicas know them."""

CHOICE_DAYS = (-1, 0, 1, 2)
"""Days from the user's today on which the gate denies what the user has just opted out of. Yesterday: its reminders may
still be on their way. The days after: whoever plans them reads PostgreSQL, which may be down, or a replica that is
hours behind; by the third day it knows."""


@dataclass(slots=True)
class UserActivity:
    """What a batch says of one user."""

    time_zone: str
    zone_given: bool = False
    locale: str | None = None
    event_at: float = 0.0
    practices: dict[date, float] = field(default_factory=dict)
    """Local date -> the last practice on it, unix seconds."""
    started: float | None = None
    opted_out: tuple[str, ...] | None = None
    """The last choice in the order of the partition; None: none was made."""
    email: tuple[str, float] | None = None
    """The last address that was set in that order, empty where it was taken away, and when; None: none was."""
    email_opted_out: bool | None = None
    choices: list[tuple[float, int]] = field(default_factory=list)
    """Every choice in that order: when it was made, and a bit for the code of each kind that is not wanted."""


@dataclass(slots=True)
class Effects:
    """What is to be written for a batch of events."""

    users: dict[int, UserActivity] = field(default_factory=dict)
    registered: dict[tuple[int, str], DeviceRegistered] = field(default_factory=dict)
    removed: dict[tuple[int, str], float] = field(default_factory=dict)
    """When devices were removed; what they had registered before is written first, and so known when they come back."""
    deleted: set[int] = field(default_factory=set)

    def rows(self) -> dict[str, int]:
        """What is written back to PostgreSQL, by kind."""
        return {
            "users": len(self.users),
            "devices": len(self.registered),
            "removed": len(self.removed),
            "deleted": len(self.deleted),
        }

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
        for user_id, user in self.users.items():
            fresh = [bits for at, bits in user.choices if at > now - GATE_DAYS]
            if fresh:
                today = local_date(now, user.time_zone)
                wishes += [(user_id, today + timedelta(days=n), fresh[-1]) for n in CHOICE_DAYS]
        return wishes

    def practised(self, quiet: QuietHours) -> list[Practised]:
        """The reminders that follow from each user's last practice."""
        lessons = []
        for user_id, user in self.users.items():
            if user.practices:
                last = max(user.practices.values())
                lessons.append(
                    Practised(
                        user_id,
                        practice_due(last, user.time_zone, quiet),
                        streak_saver_due(last, user.time_zone),
                        abandoned_due(last),
                    )
                )
        return lessons

    def started(self) -> list[Started]:
        """Lessons that were started and not finished within the batch."""
        return [
            Started(user_id, abandoned_due(user.started))
            for user_id, user in self.users.items()
            if user.started is not None
        ]


def effects_of(events: Iterable[ActivityEvent], zones: Mapping[int, str], default_zone: str) -> Effects:
    """Fold events, in the order of their partition, into what they come to.

    `zones` are the known zones of users whose events do not carry one.
    """
    effects = Effects()
    for event in events:
        if isinstance(event, UserDeleted):
            _delete(effects, event.user_id)
            continue
        user = effects.users.get(event.user_id)
        if user is None:
            # What was known of a deleted user is gone, the zone included.
            known = None if event.user_id in effects.deleted else zones.get(event.user_id)
            user = UserActivity(event.time_zone or known or default_zone)
            effects.users[event.user_id] = user
        if event.time_zone:
            user.time_zone, user.zone_given = event.time_zone, True
        user.event_at = max(user.event_at, event.instant)
        _apply(effects, user, event)
    return effects


def _apply(effects: Effects, user: UserActivity, event: ActivityEvent) -> None:
    if isinstance(event, LessonCompleted):
        day = local_date(event.instant, user.time_zone)
        user.practices[day] = max(user.practices.get(day, 0.0), event.instant)
        if user.started is not None and user.started <= event.instant:
            user.started = None
    elif isinstance(event, LessonStarted):
        user.started = max(user.started or 0.0, event.instant)
    elif isinstance(event, DeviceRegistered):
        _register(effects, event)
    elif isinstance(event, DeviceRemoved):
        _remove(effects, event)
    elif isinstance(event, PreferencesChanged):
        _prefer(user, event)
    locale = getattr(event, "locale", None)
    if locale:
        user.locale = locale


def _prefer(user: UserActivity, event: PreferencesChanged) -> None:
    if event.opted_out is not None:
        user.opted_out = event.opted_out
        user.choices.append((event.instant, sum(1 << KINDS[kind].code for kind in set(event.opted_out))))
    if event.email is not None:
        user.email = event.email, event.instant
    if event.email_opted_out is not None:
        user.email_opted_out = event.email_opted_out


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
    effects.registered = {key: event for key, event in effects.registered.items() if key[0] != user_id}
    effects.removed = {key: at for key, at in effects.removed.items() if key[0] != user_id}
    effects.deleted.add(user_id)
