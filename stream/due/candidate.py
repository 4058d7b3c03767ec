"""Who is due becomes a send, a denial, or due later: the index was told in the zone of the last lesson, and users travel."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

from shared.policy.kinds import PRACTICE, STREAK_SAVER, ReminderKind
from shared.policy.localtime import local_date
from shared.policy.window import QuietHours, expires_at, streak_saver_on
from shared.wire.sends import Send, Target


class Moment(NamedTuple):
    """When and until when a reminder is meant, where its user is now; unix seconds."""

    at: float
    """The due time of the index or later: a reminder whose time has not come there is not fired, but moved."""
    local_date: date
    expires_at: float
    quiet: bool


def moment(kind: ReminderKind, due: float, time_zone: str, practice_date: date | None, quiet: QuietHours) -> Moment:
    """`due` as the index has it, seen from where the user's row says that they are.

    A streak saver belongs to the evening after the last practice: whoever flew west is reminded when it is 22:00 there.
    Practice moves to the end of quiet hours, as it would have where they practised. Neither is ever earlier than it was,
    and the identity stays: practice's local date is that of `at`, a streak saver's the day after the last practice.
    """
    at = due
    if kind is STREAK_SAVER:
        if practice_date is not None:
            at = max(due, streak_saver_on(practice_date, time_zone))
    elif kind is PRACTICE and quiet.covers(due, time_zone):
        at = quiet.next_end(due, time_zone)
    is_quiet = not kind.quiet_exempt and quiet.covers(at, time_zone)
    return Moment(at, local_date(at, time_zone), expires_at(kind, at, time_zone, quiet), is_quiet)


def candidate(kind: ReminderKind, when: Moment, row: Sequence[Any], email: bool = True) -> tuple[Send, str]:
    """The send for a user that is due (a row of fire_users.sql), and the reason it is denied, or "".

    `email`: whether there is a server to send e-mails with.
    """
    user_id, time_zone, locale, streak, opted_out, practice_date, active_date, *devices, address = row
    day = when.local_date
    send = Send(
        user_id=user_id,
        kind=kind.name,
        local_date=day,
        due_at=when.at,
        expires_at=when.expires_at,
        time_zone=time_zone,
        locale=locale,
        streak=streak,
        silent_days=max(0, (day - active_date).days) if active_date else 0,
        targets=tuple(map(Target, *devices)) if devices[0] else (),
        email=address if email else "",
    )
    if opted_out >> kind.code & 1:
        return send, "opted_out"
    if not send.targets and not send.email:
        return send, "no_device"
    if kind is STREAK_SAVER and (streak < 1 or practice_date is None or practice_date < day - timedelta(days=1)):
        return send, "no_streak"
    if when.quiet:
        return send, "quiet_hours"
    return send, ""
