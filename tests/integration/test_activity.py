"""The activity agent's work against real stores: the gate, the due index, the tables and the dead letters."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from shared.due.index import Due
from shared.gate import Claim, SendKey, Standing
from shared.identity import SHARDS
from shared.policy.kinds import ABANDONED_LESSON, KINDS, PRACTICE, STREAK_SAVER, Path
from shared.policy.window import practice_due, streak_saver_due
from shared.settings import Settings
from shared.wire.dead_letters import KEPT_BYTES, DeadLetter, decode_dead_letter
from stream.activity import handle_events
from stream.runtime import Runtime
from tests.conftest import NOON
from tests.integration.support import (
    HOUR,
    IOS,
    TODAY,
    YESTERDAY,
    event,
    read,
    record,
    redis_state,
    sql,
    tables,
)

USER, OTHER = 4_242, 4_243
LISBON = {"time_zone": "Europe/Lisbon"}


async def deliver(runtime: Runtime, *raw: bytes) -> None:
    await handle_events(
        runtime, [record(value, runtime.topics.activity, 2, 70 + n, b"4242") for n, value in enumerate(raw)]
    )


async def due(runtime: Runtime, kind: Any) -> list[Due]:
    return sorted(await runtime.due.due(kind, range(SHARDS), 1e12, 100))


async def claimed(runtime: Runtime, user: int, *days: date, kind: str = "practice") -> list[Claim]:
    return [(await runtime.gate.claim(KINDS[kind].path, kind, day, [user]))[0] for day in days]


async def letters(settings: Settings, runtime: Runtime) -> list[DeadLetter]:
    return [decode_dead_letter(record.value) for record in await read(settings, runtime.topics.dead_letters)]


async def test_a_completed_lesson_reaches_the_gate_the_index_and_the_tables(
    settings: Settings, runtime: Runtime
) -> None:
    await deliver(runtime, event("lesson_completed", USER, NOON, **LISBON))
    assert await claimed(runtime, USER, TODAY, YESTERDAY) == [Claim.practised, Claim.granted]
    assert await claimed(runtime, OTHER, TODAY) == [Claim.granted]
    assert await due(runtime, PRACTICE) == [(USER, practice_due(NOON, "Europe/Lisbon", runtime.quiet))]
    assert await due(runtime, STREAK_SAVER) == [(USER, streak_saver_due(NOON, "Europe/Lisbon"))]
    assert sql(settings, "SELECT id, streak, last_practice_date FROM users") == [(USER, 1, TODAY)]


async def test_a_lesson_started_and_not_finished_gets_a_timer_that_finishing_takes_away(runtime: Runtime) -> None:
    await deliver(runtime, event("lesson_started", USER, NOON), event("lesson_started", OTHER, NOON))
    assert await due(runtime, ABANDONED_LESSON) == [(USER, NOON + HOUR / 2), (OTHER, NOON + HOUR / 2)]
    await deliver(runtime, event("lesson_completed", USER, NOON + 60))
    assert await due(runtime, ABANDONED_LESSON) == [(OTHER, NOON + HOUR / 2)]


async def test_opening_the_app_is_activity_and_no_practice(settings: Settings, runtime: Runtime) -> None:
    before = await redis_state(settings)
    await deliver(runtime, event("app_opened", USER, NOON))
    assert await redis_state(settings) == before
    assert sql(settings, "SELECT last_active_date, last_practice_date FROM users") == [(TODAY, None)]


async def test_an_event_without_a_zone_is_dated_where_the_user_is_known_to_be(runtime: Runtime) -> None:
    await deliver(runtime, event("app_opened", USER, NOON - HOUR, time_zone="Pacific/Kiritimati"))
    await deliver(runtime, event("lesson_completed", USER, NOON))  # 02:00 on the 22nd there
    assert await claimed(runtime, USER, TODAY, TODAY.replace(day=22)) == [Claim.granted, Claim.practised]


async def test_bad_messages_are_dead_lettered_with_their_origin_and_the_good_ones_between_them_count(
    settings: Settings, runtime: Runtime
) -> None:
    large = b'{"pad": "' + b"x" * 20_000 + b'"}'
    good = event("lesson_completed", USER, NOON)
    await deliver(runtime, b"\x00", good, event("app_opened", USER, NOON + 301), large, b"")
    found = sorted(await letters(settings, runtime), key=lambda letter: letter.offset)
    assert [(letter.offset, letter.reason, letter.size) for letter in found] == [
        (70, "malformed_json", 1),
        (72, "in_the_future", len(event("app_opened", USER, NOON + 301))),
        (73, "too_large", len(large)),
        (74, "malformed_json", 0),
    ]
    assert {(letter.topic, letter.partition, letter.key, letter.at) for letter in found} == {
        (runtime.topics.activity, 2, b"4242", NOON)
    }
    assert found[0].value == b"\x00"
    assert found[2].value == large[:KEPT_BYTES]
    assert sql(settings, "SELECT id, streak FROM users") == [(USER, 1)]


async def test_text_that_postgresql_cannot_hold_is_a_bad_message_and_no_crash(
    settings: Settings, runtime: Runtime
) -> None:
    """PostgreSQL's text has no NUL, and JSON does."""
    device = {"device_id": "phone", "platform": "ios", "token": IOS}
    hostile = [
        event("device_registered", USER, NOON, **device | {name: f"{value}\x00"})
        for name, value in {**device, "app_version": "1.0"}.items()
    ]
    hostile += [event("app_opened", USER, NOON, locale="en\x00"), event("app_opened", USER, NOON, time_zone="UTC\x00")]
    harmless = event("lesson_started", OTHER, NOON, lesson_id="\x00")
    await deliver(runtime, *hostile, harmless)
    assert len(await letters(settings, runtime)) == len(hostile)
    assert sql(settings, "SELECT id FROM users") == [(OTHER,)]


async def test_ids_and_times_at_their_limits_are_written(settings: Settings, runtime: Runtime) -> None:
    await deliver(
        runtime,
        event("lesson_completed", 2**63 - 1, NOON + 300, time_zone="Pacific/Kiritimati"),
        event("lesson_completed", 1, 946_684_800.0, time_zone="America/Los_Angeles"),
    )
    days = sql(settings, "SELECT id, last_practice_date::text FROM users ORDER BY id")
    assert days == [(1, "1999-12-31"), (2**63 - 1, "2026-11-22")]
    assert await claimed(runtime, 2**63 - 1, TODAY.replace(day=22)) == [Claim.practised]


async def test_who_opts_out_is_denied_at_the_gate_from_yesterday_to_the_day_after_tomorrow(runtime: Runtime) -> None:
    await deliver(runtime, event("preferences_changed", USER, NOON, opted_out=["comeback", "practice"], **LISBON))
    days = [TODAY + timedelta(days=n) for n in range(-2, 4)]
    expected = [Claim.granted, *[Claim.opted_out] * 4, Claim.granted]
    assert await claimed(runtime, USER, *days, kind="comeback") == expected
    assert await claimed(runtime, USER, *days) == expected
    assert await claimed(runtime, USER, TODAY, kind="streak_saver") == [Claim.granted]
    assert await claimed(runtime, OTHER, TODAY, kind="comeback") == [Claim.granted]


async def test_who_opts_in_again_is_reminded_again(runtime: Runtime) -> None:
    await deliver(runtime, event("preferences_changed", USER, NOON, opted_out=["practice"]))
    await deliver(runtime, event("preferences_changed", USER, NOON + 1, opted_out=[]))
    assert await claimed(runtime, USER, TODAY) == [Claim.granted]


async def test_the_last_choice_in_a_batch_wins_at_the_gate_as_in_the_database(
    settings: Settings, runtime: Runtime
) -> None:
    await deliver(
        runtime,
        event("preferences_changed", USER, NOON, opted_out=["practice"]),
        event("preferences_changed", USER, NOON - 60, opted_out=["comeback"]),
    )
    assert await claimed(runtime, USER, TODAY) == [Claim.granted]
    assert await claimed(runtime, USER, TODAY, kind="comeback") == [Claim.opted_out]
    assert sql(settings, "SELECT opted_out FROM users") == [(1 << KINDS["comeback"].code,)]


async def test_a_send_on_its_way_is_stopped_by_an_opt_out(runtime: Runtime) -> None:
    assert await claimed(runtime, USER, TODAY) == [Claim.granted]
    await deliver(runtime, event("preferences_changed", USER, NOON, opted_out=["practice"]))
    assert await runtime.gate.standing(Path.stream, [SendKey(USER, "practice", TODAY)]) == [Standing.opted_out]


async def test_the_gate_knows_of_an_opt_out_before_the_database_does(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Claim] = []

    async def write(_: object) -> dict[str, int]:
        answers.extend(await claimed(runtime, USER, TODAY))
        return {}

    monkeypatch.setattr(runtime.writeback, "write", write)
    await deliver(runtime, event("preferences_changed", USER, NOON, opted_out=["practice"]))
    assert answers == [Claim.opted_out]


async def test_a_deleted_user_leaves_the_tables_and_the_index(settings: Settings, runtime: Runtime) -> None:
    await deliver(runtime, event("lesson_completed", USER, NOON), event("lesson_started", OTHER, NOON))
    await deliver(runtime, event("user_deleted", USER, NOON + 1))
    assert await due(runtime, PRACTICE) == await due(runtime, STREAK_SAVER) == []
    assert await due(runtime, ABANDONED_LESSON) == [(OTHER, NOON + HOUR / 2)]
    assert sql(settings, "SELECT id FROM users") == [(OTHER,)]


async def test_who_comes_back_in_the_batch_of_the_deletion_is_reminded_again(
    settings: Settings, runtime: Runtime
) -> None:
    await deliver(runtime, event("lesson_started", USER, NOON))
    await deliver(runtime, event("user_deleted", USER, NOON + 1), event("lesson_completed", USER, NOON + 2))
    assert [user for user, _ in await due(runtime, PRACTICE)] == [USER]
    assert await due(runtime, ABANDONED_LESSON) == []
    assert sql(settings, "SELECT id, streak FROM users") == [(USER, 1)]


async def test_a_batch_that_comes_again_changes_nothing_anywhere(settings: Settings, runtime: Runtime) -> None:
    device = {"device_id": "phone", "platform": "ios", "token": IOS}
    batch = [
        event("lesson_completed", USER, NOON - 24 * HOUR, **LISBON), event("lesson_started", USER, NOON),
        event("lesson_started", OTHER, NOON - 60), event("lesson_completed", OTHER, NOON), b"{",
        event("device_registered", USER, NOON, **device), event("lesson_started", 9, NOON),
        event("preferences_changed", OTHER, NOON, opted_out=["streak_saver"]), event("user_deleted", 9, NOON),
    ]  # fmt: skip
    await deliver(runtime, *batch)
    before = tables(settings), await redis_state(settings)
    assert all(before)
    await deliver(runtime, *batch)
    assert (tables(settings), await redis_state(settings)) == before
    first, again = await letters(settings, runtime)  # Of a bad message one may come twice, and says so.
    assert first == again


async def test_a_key_as_large_as_a_message_may_be_does_not_keep_its_letter_from_being_written(
    settings: Settings, runtime: Runtime
) -> None:
    await handle_events(runtime, [record(b"{", runtime.topics.activity, 2, 70, b"k" * 2_097_000)])
    (letter,) = await letters(settings, runtime)
    assert len(letter.key) == 256
