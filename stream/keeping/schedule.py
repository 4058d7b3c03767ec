"""The due index of a gate that is being rebuilt: what is still to be fired, and not what was."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from shared.due.index import DueIndex, Practised, Started
from shared.gate.contract import SendKey
from shared.gate.keeper import Keeper
from shared.policy.kinds import ABANDONED_LESSON, PRACTICE, STREAK_SAVER, ReminderKind
from shared.policy.localtime import local_date
from stream.due.rebuild import ahead, has_reminder


class Scheduled(NamedTuple):
    """How much was put into the index."""

    lessons: int
    """Users with a reminder ahead of their last practice."""
    timers: int
    """Lessons that may turn out to be abandoned."""


async def schedule(
    due: DueIndex,
    keeper: Keeper,
    lessons: Sequence[Practised],
    timers: Sequence[Started],
    zones: Mapping[int, str],
    now: float,
) -> Scheduled:
    """Put it into the index but for what is over, and what is due and taken at the gate: it was fired, and a second
    copy would be on its way beside the first. `zones`: the users' time zones."""
    lessons = [ahead(lesson, now) for lesson in lessons]
    timers = [timer for timer in timers if timer.due + ABANDONED_LESSON.life > now]
    fired = await _fired(keeper, lessons, timers, zones, now)
    if fired:
        lessons = [
            lesson._replace(
                practice_due=None if (lesson.user_id, PRACTICE.name) in fired else lesson.practice_due,
                streak_saver_due=None if (lesson.user_id, STREAK_SAVER.name) in fired else lesson.streak_saver_due,
            )
            for lesson in lessons
        ]
        timers = [timer for timer in timers if (timer.user_id, ABANDONED_LESSON.name) not in fired]
    # Also those without a reminder ahead: a finished lesson takes its timer away.
    await due.update(lessons, timers)
    return Scheduled(sum(map(has_reminder, lessons)), len(timers))


async def _fired(
    keeper: Keeper, lessons: Sequence[Practised], timers: Sequence[Started], zones: Mapping[int, str], now: float
) -> Collection[tuple[int, str]]:
    """(user, kind) of what is due and taken."""
    keys: list[SendKey] = []

    def note(kind: ReminderKind, user_id: int, due: float | None) -> None:
        if due is not None and due <= now:
            keys.append(SendKey(user_id, kind.name, local_date(due, zones[user_id])))

    for lesson in lessons:
        note(PRACTICE, lesson.user_id, lesson.practice_due)
        note(STREAK_SAVER, lesson.user_id, lesson.streak_saver_due)
    for timer in timers:
        note(ABANDONED_LESSON, timer.user_id, timer.due)
    taken = await keeper.taken(keys) if keys else []
    return {(key.user_id, key.kind) for key, is_taken in zip(keys, taken, strict=True) if is_taken}
