"""Who is due becomes a send, a denial, or due later: the index was told in the last lesson's zone, and users travel."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from operator import attrgetter
from typing import Any, NamedTuple

from shared.policy.holdout import HOLDOUT, NOBODY, Holdout
from shared.policy.kinds import PRACTICE, STREAK_SAVER, ReminderKind
from shared.policy.localtime import local_date
from shared.policy.window import QuietHours, expires_at, streak_saver_on
from shared.wire.sends import Send, Target


class User(NamedTuple):
    """A user whose reminder is due, as PostgreSQL has them."""

    id: int
    time_zone: str
    locale: str
    streak: int
    opted_out: int
    """A bit for the code of each kind that is not wanted."""
    practice_date: date | None
    active_date: date | None
    email: str
    targets: list[Target]


def users_of(rows: Iterable[Any]) -> dict[int, User]:
    """By id, from rows of fire_users.sql."""
    users: dict[int, User] = {}
    for row in rows:
        user = users.get(row[0])
        if user is None:
            user = users[row[0]] = User._make((*row[:8], []))
        if row[8] is not None:
            user.targets.append(Target(*row[8:]))
    return users


class Moment(NamedTuple):
    """When and until when a reminder is meant, where its user is now; unix seconds."""

    at: float
    """The due time of the index or later: a reminder whose time has not come there is not fired, but moved."""
    local_date: date
    expires_at: float
    quiet: bool


def moment(kind: ReminderKind, due: float, time_zone: str, practice_date: date | None, quiet: QuietHours) -> Moment:
    """`due` as the index has it, seen from where the user's row says that they are.

    A streak saver belongs to the evening after the last practice: who flew west is reminded when it is 22:00 there.
    Practice moves to the end of quiet hours, as it would have where they practised. Nothing ever becomes earlier.
    """
    at = due
    if kind is STREAK_SAVER:
        if practice_date is not None:
            at = max(due, streak_saver_on(practice_date, time_zone))
    elif kind is PRACTICE and quiet.covers(due, time_zone):
        at = quiet.next_end(due, time_zone)
    is_quiet = not kind.quiet_exempt and quiet.covers(at, time_zone)
    return Moment(at, local_date(at, time_zone), expires_at(kind, at, time_zone, quiet), is_quiet)


def candidate(
    kind: ReminderKind, when: Moment, user: User, email: bool = True, holdout: Holdout = NOBODY
) -> tuple[Send, str]:
    """The send for a user that is due, and the reason it is denied, or "".

    `email`: whether there is a server to send e-mails with. `holdout`: who is held out, asked last, so that a group is
    of those who would have been reminded.
    """
    day, devices = when.local_date, user.targets
    if len(devices) > 1:
        devices = sorted(devices, key=attrgetter("device_id"))
    send = Send(
        user_id=user.id,
        kind=kind.name,
        local_date=day,
        due_at=when.at,
        expires_at=when.expires_at,
        time_zone=user.time_zone,
        locale=user.locale,
        streak=user.streak,
        silent_days=max(0, (day - user.active_date).days) if user.active_date else 0,
        targets=tuple(devices),
        email=user.email if email else "",
    )
    if user.opted_out >> kind.code & 1:
        return send, "opted_out"
    if not devices and not send.email:
        return send, "no_device"
    if kind is STREAK_SAVER and (
        user.streak < 1 or user.practice_date is None or user.practice_date < day - timedelta(days=1)
    ):
        return send, "no_streak"
    if when.quiet:
        return send, "quiet_hours"
    if holdout and holdout.holds(kind.name, user.id):
        return send, HOLDOUT
    return send, ""
