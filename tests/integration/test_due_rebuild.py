"""The due index filled from PostgreSQL: after an import, or when it was lost with Redis."""

from __future__ import annotations

from shared.clock import FileClock
from shared.identity import SHARDS
from shared.policy.kinds import ABANDONED_LESSON, PRACTICE, STREAK_SAVER, ReminderKind
from shared.policy.window import practice_due, streak_saver_due
from shared.settings import Settings
from stream.activity import handle_events
from stream.due.index import Practised, Started
from stream.due.rebuild import rebuild
from stream.runtime import Runtime
from tests.conftest import NOON
from tests.integration.support import (
    DAY,
    HOUR,
    add_users,
    event,
    practised_at,
    record,
    redis_state,
)

LISBON = "Europe/Lisbon"


async def due(runtime: Runtime, kind: ReminderKind) -> dict[int, float]:
    return dict(await runtime.due.due(kind, range(SHARDS), 1e12, 1000))


async def test_an_index_that_was_lost_is_as_the_events_had_made_it(settings: Settings, runtime: Runtime) -> None:
    events = [event("lesson_completed", user, NOON - user * HOUR, time_zone=LISBON) for user in range(1, 13)]
    await handle_events(runtime, [record(raw) for raw in events])
    before = {kind: await due(runtime, kind) for kind in (PRACTICE, STREAK_SAVER)}
    assert len(before[PRACTICE]) == 12
    await runtime.due.forget(range(1, 13))
    assert await rebuild(runtime) == 12
    assert {kind: await due(runtime, kind) for kind in (PRACTICE, STREAK_SAVER)} == before


async def test_only_reminders_that_are_still_worth_sending_are_scheduled(settings: Settings, runtime: Runtime) -> None:
    add_users(
        settings,
        {"id": 1, **practised_at(NOON - HOUR)},
        {"id": 2, **practised_at(NOON - 27 * HOUR)},  # Due at 08:30 today, and worth sending until 12:30.
        {"id": 3, **practised_at(NOON - 28 * HOUR)},  # Due at 08:00 today: over. The streak is still to be saved.
        {"id": 4, **practised_at(NOON - 3 * DAY)},
        {"id": 5, "last_event_at": "2026-11-21Z"},
        {"id": 6},
    )
    assert await rebuild(runtime) == 3
    quiet = runtime.quiet
    assert await due(runtime, PRACTICE) == {
        1: practice_due(NOON - HOUR, LISBON, quiet),
        2: practice_due(NOON - 27 * HOUR, LISBON, quiet),
    }
    assert await due(runtime, STREAK_SAVER) == {
        1: streak_saver_due(NOON - HOUR, LISBON),
        2: streak_saver_due(NOON - DAY, LISBON),
        3: streak_saver_due(NOON - DAY, LISBON),
    }


async def test_nothing_is_scheduled_once_every_window_has_closed(
    settings: Settings, runtime: Runtime, clock: FileClock
) -> None:
    add_users(settings, {"id": 1, **practised_at(NOON)})
    clock.set(NOON + 36 * HOUR - 1)
    assert await rebuild(runtime) == 1
    await runtime.due.forget([1])
    clock.set(NOON + 36 * HOUR)
    assert await rebuild(runtime) == 0
    assert not any(name.startswith(b"due:") for name in await redis_state(settings))


async def test_repeating_it_is_harmless(settings: Settings, runtime: Runtime) -> None:
    add_users(settings, *({"id": user, **practised_at(NOON - user * HOUR)} for user in range(1, 6)))
    assert await rebuild(runtime) == 5
    before = await redis_state(settings)
    assert await rebuild(runtime) == 5
    assert await redis_state(settings) == before


async def test_what_an_event_has_scheduled_later_stays_later_and_timers_stay(
    settings: Settings, runtime: Runtime
) -> None:
    """The rebuild may run while workers do, and the database is behind them."""
    add_users(settings, {"id": 1, **practised_at(NOON - 2 * HOUR)})
    later = NOON + 5 * DAY
    await runtime.due.update([Practised(1, later, later, 0.0)], [Started(1, NOON - 60)])
    before = await redis_state(settings)
    await rebuild(runtime)
    assert await redis_state(settings) == before
    assert await due(runtime, ABANDONED_LESSON) == {1: NOON - 60}


async def test_what_is_earlier_than_the_database_knows_is_moved_on(settings: Settings, runtime: Runtime) -> None:
    add_users(settings, {"id": 1, **practised_at(NOON)})
    await runtime.due.update([Practised(1, NOON - DAY, NOON - DAY, 0.0)], [])
    await rebuild(runtime)
    assert await due(runtime, PRACTICE) == {1: practice_due(NOON, LISBON, runtime.quiet)}


async def test_progress_tells_every_user_that_was_read(settings: Settings, runtime: Runtime) -> None:
    add_users(settings, *({"id": user, **practised_at(NOON - 30 * HOUR)} for user in range(1, 8)))
    told: list[int] = []
    await rebuild(runtime, told.append)
    assert sum(told) == 7
