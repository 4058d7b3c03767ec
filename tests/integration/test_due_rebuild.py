"""The due index filled from PostgreSQL: after an import, or when it was lost with Redis."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shared.clock import FileClock
from shared.due.index import Practised, Started
from shared.identity import SHARDS
from shared.policy.kinds import ABANDONED_LESSON, PRACTICE, STREAK_SAVER, ReminderKind
from shared.policy.localtime import instant_of
from shared.policy.window import practice_due, streak_saver_due
from shared.settings import Settings
from stream.activity import handle_events
from stream.due import rebuild as due_rebuild
from stream.due.rebuild import expected, rebuild
from stream.keeping.rebuild import rebuild as rebuild_gate
from stream.runtime import Runtime
from tests.conftest import NOON, connect_redis
from tests.integration.support import (
    DAY,
    HOUR,
    TODAY,
    add_users,
    event,
    practised_at,
    record,
    redis_state,
    sql,
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
    assert await rebuild(runtime) == (12, 0)
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
    assert await rebuild(runtime) == (3, 0)
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
    assert await rebuild(runtime) == (1, 0)
    await runtime.due.forget([1])
    clock.set(NOON + 36 * HOUR)
    assert await rebuild(runtime) == (0, 0)
    assert not any(name.startswith(b"due:") for name in await redis_state(settings))


async def test_repeating_it_is_harmless(settings: Settings, runtime: Runtime) -> None:
    add_users(settings, *({"id": user, **practised_at(NOON - user * HOUR)} for user in range(1, 6)))
    assert await rebuild(runtime) == (5, 0)
    before = await redis_state(settings)
    assert await rebuild(runtime) == (5, 0)
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


async def test_an_index_that_was_lost_with_all_of_redis_is_as_before(settings: Settings, runtime: Runtime) -> None:
    events = [event("lesson_completed", user, NOON - user * HOUR, time_zone=LISBON) for user in range(1, 30)]
    events += [event("lesson_started", user, NOON - 60, time_zone=LISBON) for user in range(1, 4)]
    await handle_events(runtime, [record(raw) for raw in events])
    before = {kind: await due(runtime, kind) for kind in (PRACTICE, STREAK_SAVER)}
    redis = connect_redis(settings)
    await redis.flushall()
    await redis.aclose()
    await rebuild_gate(runtime)
    await runtime.due.forget(range(1, 30))  # what the gate's rebuild has brought back of it by itself
    await rebuild(runtime)
    assert {kind: await due(runtime, kind) for kind in (PRACTICE, STREAK_SAVER)} == {
        kind: {user: at for user, at in dues.items() if at + kind.life > NOON} for kind, dues in before.items()
    }
    assert len(await due(runtime, PRACTICE)) == 27, "27 hours ago was due at 08:30 and is worth it until 12:30"
    # Timers of abandoned lessons are in Redis alone.
    assert await due(runtime, ABANDONED_LESSON) == {}


async def test_the_evening_of_who_travelled_is_that_after_the_day_of_the_lesson(
    settings: Settings, runtime: Runtime
) -> None:
    """A lesson in Tokyo's morning was the evening before in Honolulu, but counts for Tokyo's date."""
    row = {"id": 1, **practised_at(NOON - 12 * HOUR)}
    assert str(row["last_practice_date"]) == "2026-11-21"
    add_users(settings, {**row, "time_zone": "Pacific/Honolulu"})
    await rebuild(runtime)
    tomorrow = TODAY + timedelta(days=1)
    assert await due(runtime, STREAK_SAVER) == {1: instant_of(tomorrow, 22, "Pacific/Honolulu")}


async def test_an_impossible_time_zone_holds_up_nobody(settings: Settings, runtime: Runtime) -> None:
    row = practised_at(NOON - HOUR)
    add_users(settings, {"id": 1, **row, "time_zone": "Mars/Olympus_Mons"}, {"id": 2, **row})
    assert await rebuild(runtime) == (1, 1)
    assert list(await due(runtime, PRACTICE)) == [2]


async def test_however_many_there_are_only_two_pages_are_in_hand(
    settings: Settings, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due_rebuild, "_PAGE", 3)
    add_users(settings, *({"id": user, **practised_at(NOON - HOUR)} for user in range(1, 12)), devices=False)
    update, sizes, in_hand, most = runtime.due.update, [], 0, 0

    async def counted(lessons: Any, timers: Any) -> None:
        nonlocal in_hand, most
        sizes.append(len(lessons))
        in_hand += 1
        most = max(most, in_hand)
        await update(lessons, timers)
        in_hand -= 1

    monkeypatch.setattr(runtime.due, "update", counted)
    told: list[int] = []
    assert await rebuild(runtime, told.append) == (11, 0)
    assert (sizes, told, most) == ([3, 3, 3, 2], [3, 3, 3, 2], 1)
    assert len(await due(runtime, PRACTICE)) == 11


async def test_about_how_many_will_be_read_is_known_before(settings: Settings, runtime: Runtime) -> None:
    add_users(settings, *({"id": user, **practised_at(NOON - HOUR)} for user in range(1, 40)), devices=False)
    sql(settings, "ANALYZE users")
    assert 30 <= await expected(runtime) <= 50
