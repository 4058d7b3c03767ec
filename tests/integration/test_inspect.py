"""`surnia inspect`: what happened to a user, told from the ledger, the planners' pages, the gate and the due index."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from batch.oncall import commands, sources
from batch.oncall.inspection import inspect
from batch.oncall.pausing import hold
from shared.clock import FileClock, utc
from shared.due.index import Practised, Started
from shared.gate import Rule, SendKey
from shared.identity import SHARDS
from shared.outbox import Decision, Outbox
from shared.policy.kinds import ABANDONED_LESSON, PRACTICE, Path
from shared.settings import Settings
from shared.wire.sends import Outcome, OutcomeBatch, Result, Send, encode
from stream.due.fire import Firing
from stream.ledger import Ledger, handle_outcomes
from stream.runtime import Runtime
from tests.conftest import NOON, connect_redis, settings_of
from tests.integration.support import (
    DAY,
    HOUR,
    TODAY,
    YESTERDAY,
    add_users,
    message,
    practised_at,
    read,
    running,
    sends_in,
    sql,
    token_of,
)

USER = 4_242
Surnia = Callable[..., str]


def run(settings: Settings, work: Callable[[Runtime], Awaitable[object]]) -> None:
    """Some of the engine's work, as a worker does it."""

    async def with_runtime() -> None:
        async with running(settings) as runtime:
            await work(runtime)

    asyncio.run(with_runtime())


async def fire(runtime: Runtime) -> None:
    await Firing(runtime).fire(range(SHARDS))


async def deliver(runtime: Runtime, result: Result = Result.delivered, reason: str = "accepted") -> None:
    """A provider's answer to every send on the urgent lane, settled and on its way to the ledger."""
    sends = await sends_in(runtime.settings, runtime.topics.urgent)
    if result is Result.delivered:
        await runtime.gate.settle(Path.stream, [SendKey(s.user_id, s.kind, s.local_date, s.campaign) for s in sends])
    await book(runtime, *(answer(send, result, reason) for send in sends))


def answer(send: Send, result: Result, reason: str) -> Outcome:
    return Outcome(send.user_id, send.kind, send.local_date, result, reason, send.due_at, NOON + 2, 0.0842, "apns")


async def book(runtime: Runtime, *more: Outcome, path: Path = Path.stream) -> None:
    """Into the ledger: what is on the outcomes topic, and more."""
    records = await read(runtime.settings, runtime.topics.outcomes)
    values = [record.value for record in records] + [encode(OutcomeBatch(path, more))]
    messages = [message(value, runtime.topics.outcomes, 0, n) for n, value in enumerate(values)]
    await handle_outcomes(runtime, Ledger(runtime.users), messages)


@pytest.fixture
def surnia(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Surnia:
    """Runs a command line in this process; what it printed."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    app = typer.Typer()
    commands.register(app)

    def run(*words: str, code: int = 0, **changed: str) -> str:
        done = CliRunner(env={"COLUMNS": "200"} | changed).invoke(app, words)
        assert done.exit_code == code, f"{words}: {done.output}{done.exception!r}"
        return done.output

    return run


def inspected(settings: Settings) -> dict[str, Any]:
    """As `--json` says it."""
    return asyncio.run(inspect(settings, USER, 7)).document()


def candidates(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    return [(one["kind"], one["path"], one["result"], one["words"]) for one in found["candidates"]]


async def practice_due(runtime: Runtime, due: float = NOON - 60) -> None:
    await runtime.due.update([Practised(USER, due, None, 0.0)], [])


def test_one_who_practised_that_day(settings: Settings, surnia: Surnia) -> None:
    add_users(settings, {"id": USER, **practised_at(NOON - DAY)})

    async def work(runtime: Runtime) -> None:
        await practice_due(runtime)
        await runtime.gate.practised([(USER, TODAY)])
        await fire(runtime)
        await book(runtime)

    run(settings, work)
    found = inspected(settings)
    assert candidates(found) == [("practice", "stream", "denied", "denied: the user practised that day")]
    (one,) = found["candidates"]
    assert (one["gate"], one["reason"]) == ("practised", "practised")
    assert (one["due_at"], one["decided_at"]) == ("2026-11-21T11:59:00Z", "2026-11-21T12:00:00Z")
    assert found["gate"]["days"] == [
        {"local_date": "2026-11-21", "practised": True, "kinds": {}, "campaigns": 0, "count": 0, "erased": False}
    ]
    text = surnia("inspect", str(USER))
    print(text)
    assert "11:59:00 UTC+00:00  practice (stream): denied: the user practised that day" in text


def test_one_who_had_had_the_days_reminders(settings: Settings, surnia: Surnia) -> None:
    add_users(settings, {"id": USER, "locale": "pt", **practised_at(NOON - DAY)})

    async def work(runtime: Runtime) -> None:
        await runtime.gate.claim(Path.batch, "comeback", TODAY, [USER])
        await runtime.gate.claim(Path.stream, ABANDONED_LESSON.name, TODAY, [USER])
        await practice_due(runtime)
        await fire(runtime)
        await book(runtime)

    run(settings, work)
    found = inspected(settings)
    words = {kind: words for kind, _, _, words in candidates(found)}
    assert (
        words["practice"] == "denied: the daily cap of 2 was reached by abandoned_lesson (stream) and comeback (batch)"
    )
    text = surnia("inspect", str(USER))
    print(text)
    assert "counts for the daily cap: 2" in text


def test_one_whose_reminder_was_delivered(settings: Settings, surnia: Surnia, clock: FileClock) -> None:
    add_users(settings, {"id": USER, **practised_at(NOON - DAY), "time_zone": "Asia/Kathmandu"})

    async def work(runtime: Runtime) -> None:
        await practice_due(runtime)
        await fire(runtime)
        await deliver(runtime)

    run(settings, work)
    clock.set(NOON + 3 * HOUR)
    found = inspected(settings)
    assert candidates(found) == [
        ("practice", "stream", "delivered", "granted and delivered: apns accepted it in 84 ms")
    ]
    (one,) = found["candidates"]
    assert (one["due_at"], one["decided_at"]) == ("2026-11-21T17:44:00+05:45", "2026-11-21T17:45:02+05:45")
    assert (one["provider"], one["latency_ms"]) == ("apns", 84.2)
    assert found["gate"]["days"][0]["kinds"] == {"practice": "settled by stream"}
    assert found["now"] == "2026-11-21T20:45:00+05:45"
    text = surnia("inspect", str(USER))
    print(text)
    assert "17:44:00 UTC+05:45  practice (stream): granted and delivered" in text
    assert token_of(USER) not in text
    assert token_of(USER) not in json.dumps(found)
    assert found["facts"]["devices"][0]["token"] == token_of(USER)[:6]


@pytest.mark.parametrize(
    ("result", "reason", "said"),
    [
        (Result.expired, "expired", "granted, but expired: it was still on its way when its window closed"),
        (Result.dropped, "practised", "granted, but dropped: the user practised before it was delivered"),
        (Result.failed, "unregistered", "granted, but failed: the app is gone from every device"),
        (Result.failed, "apns_403_bad_topic", "granted, but failed: apns answered apns_403_bad_topic in 84 ms"),
    ],
)
def test_every_ending_is_said(settings: Settings, result: Result, reason: str, said: str) -> None:
    add_users(settings, {"id": USER, **practised_at(NOON - DAY)})

    async def work(runtime: Runtime) -> None:
        await practice_due(runtime)
        await fire(runtime)
        await deliver(runtime, result, reason)

    run(settings, work)
    assert candidates(inspected(settings)) == [("practice", "stream", result.name, said)]


def test_the_other_path_is_named(settings: Settings) -> None:
    add_users(settings, {"id": USER})

    async def work(runtime: Runtime) -> None:
        await runtime.gate.claim(Path.stream, "comeback", TODAY, [USER])
        outcome = Outcome(USER, "comeback", TODAY, Result.denied, "other_path", NOON, NOON)
        await book(runtime, outcome, path=Path.batch)

    run(settings, work)
    assert ("comeback", "batch", "denied", "denied: the stream path had it") in candidates(inspected(settings))


def test_what_is_under_way_is_told_at_every_step(settings: Settings) -> None:
    add_users(settings, {"id": USER, **practised_at(NOON - DAY)})

    async def claimed(runtime: Runtime) -> None:
        await runtime.gate.claim(Path.stream, PRACTICE.name, TODAY, [USER])

    async def planned(runtime: Runtime) -> None:
        await practice_due(runtime)
        await fire(runtime)
        decision = Decision(YESTERDAY, "campaign", "autumn", "granted")
        async with runtime.pool.connection() as connection:
            await Outbox().record(connection, Path.blast, {decision: [USER, 7]}, [])

    async def accepted(runtime: Runtime) -> None:
        sql(settings, "TRUNCATE planned")
        await runtime.gate.settle(Path.stream, [SendKey(USER, PRACTICE.name, TODAY)])

    run(settings, claimed)
    say = "granted, under way: "
    assert candidates(inspected(settings))[0][2:] == (
        "under_way",
        say + "claimed at the gate, without an outcome yet",
    )
    run(settings, planned)
    campaign, practice = inspected(settings)["candidates"]
    assert (campaign["local_date"], campaign["campaign"]) == ("2026-11-20", "autumn")
    assert practice["words"] == campaign["words"] == say + "planned, without an outcome yet"
    run(settings, accepted)
    (one,) = inspected(settings)["candidates"]
    assert one["words"] == say + "a provider accepted it, the ledger has yet to hear of it"


def test_what_is_coming_and_what_is_paused(settings: Settings, surnia: Surnia) -> None:
    add_users(settings, {"id": USER, **practised_at(NOON - DAY)})

    async def work(runtime: Runtime) -> None:
        await runtime.due.update([Practised(USER, NOON - 60, NOON + 10 * HOUR, 0.0)], [])
        await hold(settings, Rule(kind="practice"), "wrong [b]text[/b]", "ana")
        await hold(settings, Rule(provider="fcm"), "android only", "ana")
        await fire(runtime)

    run(settings, work)
    found = inspected(settings)
    assert found["candidates"] == []
    assert [(one["kind"], one["due_at"]) for one in found["coming"]] == [
        ("practice", "2026-11-21T11:59:00Z"),
        ("streak_saver", "2026-11-21T22:00:00Z"),
        ("comeback", "2026-11-27T18:00:00Z"),
    ]
    held = "waits to be fired (paused: kind practice, by ana: wrong [b]text[/b])"
    assert [one["words"] for one in found["coming"]] == [held, "", "if the user stays silent"]
    assert [pause["reason"] for pause in found["pauses"]] == ["wrong [b]text[/b]", "android only"]
    text = surnia("inspect", str(USER))
    assert held in text and "provider fcm, since 2026-11-21 12:00:00 UTC by ana: android only" in text


@pytest.mark.parametrize(
    ("routes", "retired", "held_by"),
    [("apns,fcm,email", False, "apns"), ("fcm,apns", False, "fcm"), ("fcm,apns", True, "apns"), ("fcm", True, None)],
    ids=["APNs first", "FCM first", "FCM first and its token retired", "no way left"],
)
def test_the_first_way_to_a_device_decides_which_pause_concerns_it(
    settings: Settings, surnia: Surnia, routes: str, retired: bool, held_by: str | None
) -> None:
    add_users(settings, {"id": USER, **practised_at(NOON - DAY)})
    sql(settings, "UPDATE devices SET fcm_token = 'dYZ:APA91b-one'")
    if retired:
        sql(settings, "UPDATE devices SET fcm_retired_at = %s, fcm_retired_reason = 'unregistered'", utc(NOON - HOUR))

    async def work(runtime: Runtime) -> None:
        for provider in ("apns", "fcm"):
            await hold(settings, Rule(provider=provider), f"trouble with {provider}", "ana")

    run(settings, work)
    coming = inspected(settings.model_copy(update={"routes_ios": routes}))["coming"]
    assert coming, "the ladder"
    said = coming[0]["words"]
    assert [name for name in ("apns", "fcm") if f"trouble with {name}" in said] == ([held_by] if held_by else [])
    text = surnia("inspect", str(USER))
    assert "FCM token dYZ:AP…" in text and "APA91b" not in text
    assert ("(retired 2026-11-21 11:00: unregistered), registered" in text) is retired


def test_opted_out_and_without_a_device(settings: Settings) -> None:
    add_users(settings, {"id": USER, "opted_out": 1, **practised_at(NOON - DAY)}, devices=False)

    async def work(runtime: Runtime) -> None:
        await runtime.gate.opt_out([(USER, TODAY, 1 | 1 << 4)])
        await practice_due(runtime)
        await runtime.due.update([], [Started(USER, NOON)])
        await fire(runtime)
        await book(runtime)

    run(settings, work)
    found = inspected(settings)
    assert {kind: words for kind, _, _, words in candidates(found)} == {
        "practice": "denied: the user does not want this kind",
        "abandoned_lesson": "denied: the user had no device to show it on",
    }
    assert found["gate"]["days"][0]["kinds"] == {"practice": "opted out", "campaign": "opted out"}
    assert found["facts"]["opted_out"] == ["practice"]


def test_no_escape_sequence_of_a_device_reaches_the_terminal(settings: Settings, surnia: Surnia) -> None:
    add_users(settings, {"id": USER, "locale": "[/red]"})
    sql(settings, "UPDATE devices SET device_id = %s", "\x1b]0;owned\x07[bold]\n\u202e")
    text = surnia("inspect", str(USER))
    assert "device \ufffd]0;owned\ufffd[bold]\ufffd\ufffd: ios" in text and "locale [/red]" in text


def test_it_works_while_the_gate_is_down_or_closed(
    settings: Settings, environment: dict[str, str], surnia: Surnia
) -> None:
    add_users(settings, {"id": USER, **practised_at(NOON - DAY)})

    async def work(runtime: Runtime) -> None:
        await practice_due(runtime)
        await fire(runtime)
        await deliver(runtime)

    run(settings, work)
    down = settings_of(environment | {"SURNIA_REDIS_URL": "redis://127.0.0.1:1/0"})
    found = inspected(down)
    assert candidates(found)[0][2] == "delivered"
    assert (found["gate"]["answers"], found["gate"]["days"]) == (False, [])
    text = surnia("inspect", str(USER), SURNIA_REDIS_URL="redis://127.0.0.1:1/0")
    assert "does not answer" in text and "what only it knows is missing" in text

    async def empty() -> None:
        async with connect_redis(settings) as redis:
            await redis.flushdb()

    asyncio.run(empty())
    assert "surnia gate rebuild" in surnia("inspect", str(USER))


def test_pages_that_would_take_too_long_are_skipped_and_that_is_said(
    settings: Settings, surnia: Surnia, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_users(settings, {"id": USER})
    monkeypatch.setattr(sources, "PLANNED_SECONDS", 0.0)
    assert len(inspected(settings)["planned_not_read"]) == 8
    assert "the planners' pages of 2026-11-15, " in surnia("inspect", str(USER))


def test_nobody_and_a_deleted_user_are_told_apart(settings: Settings, surnia: Surnia) -> None:
    assert "Nobody knows user 4242" in surnia("inspect", str(USER), code=4)
    assert json.loads(surnia("inspect", str(USER), "--json", code=4)) == {"user_id": USER, "known": False}
    surnia("inspect", "0", code=2)
    surnia("inspect", "1; DROP TABLE users", code=2)
    outcome = Outcome(USER, "comeback", TODAY, Result.delivered, "accepted", NOON, NOON, 0.01, "apns")
    run(settings, lambda runtime: book(runtime, outcome, path=Path.batch))
    text = surnia("inspect", str(USER))
    assert "is not in the database (any more)" in text and "apns accepted it in 10 ms" in text


def test_only_the_days_that_were_asked_for(settings: Settings, surnia: Surnia) -> None:
    add_users(settings, {"id": USER})
    days = [YESTERDAY, TODAY]
    outcomes = [Outcome(USER, "comeback", day, Result.expired, "expired", NOON, NOON) for day in days]
    run(settings, lambda runtime: book(runtime, *outcomes, path=Path.batch))
    found = json.loads(surnia("inspect", str(USER), "--days", "1", "--json"))
    assert [one["local_date"] for one in found["candidates"]] == ["2026-11-21"]


def test_a_zone_that_does_not_exist_explains_the_silence(settings: Settings, surnia: Surnia) -> None:
    add_users(settings, {"id": USER, "time_zone": "Mars/Olympus_Mons", "last_event_at": utc(NOON)})
    assert "gets no reminders: unknown time zone" in surnia("inspect", str(USER), code=1)
