"""A gate that lost its data: closed until it is rebuilt, and then it answers as it did before."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from msgspec.structs import replace
from redis import Redis

from shared.gate import Claim, GateClosedError, SendKey, Standing
from shared.gate.keys import epoch_key
from shared.identity import SHARDS, shard_of
from shared.policy.kinds import Path
from shared.policy.window import practice_due, streak_saver_due
from shared.producer import Record
from shared.settings import WEEK_HOURS, Settings
from shared.wire.sends import OutcomeBatch, Result, SendBatch, encode
from stream.activity import handle_events
from stream.due.fire import Firing
from stream.keeping.rebuild import rebuild
from stream.runtime import Runtime
from tests.conftest import NOON
from tests.integration.lost import History, due_state, gate_state, lose, outcome, send
from tests.integration.rebuilds import claim, commit, of, write_ledger, write_sends
from tests.integration.support import (
    DAY,
    HOUR,
    TODAY,
    add_users,
    event,
    practised_at,
    record,
    redis_state,
    running,
    sends_in,
    users_of_shard,
)

LISBON = "Europe/Lisbon"


@pytest.mark.parametrize("seed", range(3))
async def test_after_any_history_the_gate_is_as_it_was(settings: Settings, runtime: Runtime, seed: int) -> None:
    await History(settings, runtime, seed).happen()
    before, due_before = await gate_state(settings), await due_state(settings)
    assert len(before) > 60
    await lose(settings)
    done = await rebuild(runtime)
    assert (done.still_closed, len(done.shards), done.attempts) == ([], SHARDS, 1)
    assert all((done.claimed, done.settled, done.marks, done.opt_outs, done.reminders))
    assert await gate_state(settings) == before
    assert due_before <= await due_state(settings)
    # All that was due had been fired: what is there again is denied, as it was, and nobody has a second send.
    sends = await sends_in(settings, runtime.topics.urgent)
    await Firing(runtime).fire(range(SHARDS))
    assert await sends_in(settings, runtime.topics.urgent) == sends


async def test_two_rebuilds_at_once_and_one_more_come_to_the_same(settings: Settings, runtime: Runtime) -> None:
    await History(settings, runtime, 7).happen()
    before = await gate_state(settings)
    await lose(settings)
    async with running(settings) as other:
        for done in await asyncio.gather(rebuild(runtime), rebuild(other)):
            assert done.still_closed == []
    assert await gate_state(settings) == before
    due = await due_state(settings)
    assert (await rebuild(runtime, every=True)).changed == 0
    assert await gate_state(settings) == before
    assert await due_state(settings) == due


async def test_it_stays_closed_until_it_is_rebuilt_and_a_dry_run_writes_nothing(
    settings: Settings, runtime: Runtime
) -> None:
    await claim(runtime, of(1))
    await write_ledger(runtime, (of(1), Result.delivered, "accepted"))
    await lose(settings)
    with pytest.raises(GateClosedError, match="surnia gate rebuild"):
        await claim(runtime, of(1))
    done = await rebuild(runtime, dry_run=True)
    assert (done.settled, done.changed, len(done.still_closed)) == (1, 0, SHARDS)
    assert await redis_state(settings) == {}
    with pytest.raises(GateClosedError):
        await claim(runtime, of(1))
    assert (await rebuild(runtime)).settled == 1
    assert await claim(runtime, of(1)) == [Claim.settled_before]


async def test_an_open_gate_is_left_alone(settings: Settings, runtime: Runtime) -> None:
    await write_ledger(runtime, (of(1), Result.delivered, "accepted"))
    before = await redis_state(settings)
    done = await rebuild(runtime)
    assert (done.shards, done.attempts) == ([], 0)
    assert await redis_state(settings) == before


async def test_what_each_outcome_says_of_the_claim(settings: Settings, runtime: Runtime) -> None:
    """The ledger alone: Kafka has forgotten."""
    results = [
        (of(1), Result.delivered, "accepted"),
        (of(2), Result.failed, "unregistered"),
        (of(3), Result.expired, "expired"),
        (of(4), Result.dropped, "no_device"),
        (of(5), Result.dropped, "daily_cap"),
        (of(6), Result.dropped, "other_path"),
        (of(7), Result.denied, "quiet_hours"),
    ]
    await write_ledger(runtime, *results)
    await lose(settings)
    await rebuild(runtime)
    claims = await claim(runtime, *(each for each, *_ in results))
    assert claims == [Claim.settled_before, *[Claim.granted_again] * 3, *[Claim.granted] * 3]


async def test_the_week_before_comes_back_with_a_weekly_cap(settings: Settings) -> None:
    capped = settings.model_copy(update={"weekly_cap": 2, "gate_keep_hours": WEEK_HOURS})
    async with running(capped) as runtime:
        week = [replace(of(1), local_date=TODAY - timedelta(days=n)) for n in (6, 5)]
        await write_ledger(runtime, *((each, Result.delivered, "accepted") for each in week))
        await lose(capped)
        await rebuild(runtime)
        tomorrow = replace(of(1), local_date=TODAY + timedelta(days=1))
        assert await claim(runtime, of(1), of(2), tomorrow) == [Claim.weekly_cap, Claim.granted, Claim.granted]


async def test_what_was_handled_is_not_read_again_and_what_was_not_is(settings: Settings, runtime: Runtime) -> None:
    topics = runtime.topics
    await write_sends(runtime, of(1))
    await runtime.producer.write(
        [Record(topics.outcomes, None, encode(OutcomeBatch(Path.stream, (outcome(of(2), Result.delivered),))))]
    )
    await commit(settings, "delivery", topics.urgent, topics.normal, topics.blast, topics.parked)
    await commit(settings, "ledger", topics.outcomes)
    await write_sends(runtime, of(3))
    await runtime.producer.write(
        [
            Record(topics.outcomes, None, encode(OutcomeBatch(Path.stream, (outcome(of(4), Result.delivered),)))),
            Record(topics.outcomes, None, b"\x00 no outcome at all"),
            Record(topics.parked, None, encode(SendBatch(Path.stream, NOON, (of(5),)))),
        ]
    )
    await lose(settings)
    done = await rebuild(runtime)
    assert done.read["sends and outcomes in Kafka"] == 4
    answers = await claim(runtime, *(of(user) for user in range(1, 6)))
    assert answers == [
        Claim.granted,
        Claim.granted,
        Claim.granted_again,
        Claim.settled_before,
        Claim.granted_again,
    ]


async def test_what_comes_while_it_is_being_rebuilt_is_found(settings: Settings, runtime: Runtime) -> None:
    """A worker settled before the loss, and its outcome was not in Kafka when we first looked."""
    await write_sends(runtime, of(1))
    await lose(settings)
    writing: list[asyncio.Task[None]] = []

    def late(what: str, done: int, expected: int) -> None:
        if what == "users" and not writing:
            batch = OutcomeBatch(Path.stream, (outcome(of(1), Result.delivered),))
            record = Record(runtime.topics.outcomes, None, encode(batch))
            writing.append(asyncio.get_running_loop().create_task(runtime.producer.write([record])))

    add_users(settings, {"id": 4, **practised_at(NOON - 30 * HOUR)})
    done = await rebuild(runtime, tell=late)
    await writing[0]
    if done.read["what has come meanwhile"]:  # It may have come too late, which is what the window is.
        assert await claim(runtime, of(1)) == [Claim.settled_before]


async def test_only_closed_shards_are_touched(settings: Settings, runtime: Runtime) -> None:
    lost, kept = users_of_shard(3, 1)[0], users_of_shard(4, 1)[0]
    sends = [replace(of(1), user_id=user) for user in (lost, kept)]
    await write_ledger(runtime, *((each, Result.delivered, "accepted") for each in sends))
    add_users(settings, *({"id": user, **practised_at(NOON - DAY)} for user in (lost, kept)))
    with Redis.from_url(settings.require_redis()) as redis:
        redis.delete(epoch_key(3))
    done = await rebuild(runtime)
    assert done.shards == [3]
    assert done.settled == 1
    assert await claim(runtime, *sends) == [Claim.settled_before, Claim.granted]
    assert {shard_of(user) for _, user, _ in await due_state(settings)} == {3}


async def test_a_campaign_is_remembered_longer_than_the_dates_that_it_counts_for(
    settings: Settings, runtime: Runtime
) -> None:
    old, fresh = (
        replace(send(4, "campaign", campaign=name), local_date=TODAY - timedelta(days=ago))
        for name, ago in (("old", 20), ("fresh", 0))
    )
    await write_ledger(
        runtime, (old, Result.delivered, "accepted"), (fresh, Result.failed, "unregistered"), path=Path.blast
    )
    await lose(settings)
    await rebuild(runtime)
    assert await claim(runtime, old, fresh, path=Path.blast) == [Claim.settled_before, Claim.granted_again]
    assert await claim(runtime, of(1), of(1, "streak_saver")) == [Claim.granted, Claim.daily_cap]
    assert not [name for name in await gate_state(settings) if b"2026-11-01" in name]


async def test_practice_and_choices_come_from_the_users_rows(settings: Settings, runtime: Runtime) -> None:
    add_users(
        settings,
        {"id": 4, **practised_at(NOON - HOUR, streak=2)},
        {"id": 8, **practised_at(NOON - DAY, streak=9)},
        {"id": 12, "opted_out": 0b1001, "last_event_at": "2026-11-20Z"},
        {"id": 16, "opted_out": 0b1001, "last_event_at": "2026-10-01Z"},
        {"id": 20, "time_zone": "Mars/Olympus", **practised_at(NOON - HOUR)},
    )
    await lose(settings)
    await rebuild(runtime)
    gate = runtime.gate

    async def days(user: int, kind: str = "streak_saver") -> list[Claim]:
        return [
            answer
            for ago in (2, 1, 0, -1)
            for answer in await gate.claim(Path.stream, kind, TODAY - timedelta(days=ago), [user])
        ]

    assert await days(4) == [Claim.granted, Claim.practised, Claim.practised, Claim.granted]
    assert await days(8) == [Claim.practised, Claim.practised, Claim.granted, Claim.granted]
    assert await days(12, "practice") == [Claim.granted, *[Claim.opted_out] * 3]
    assert await days(12) == [Claim.granted] * 4
    assert await days(16, "practice") == [Claim.granted] * 4, "whoever plans it knows: it is not new"
    assert await gate.claim(Path.batch, "comeback", TODAY, [12]) == [Claim.opted_out]


async def test_the_last_choice_counts_whether_it_was_handled_or_not(settings: Settings, runtime: Runtime) -> None:
    out, back = ([event("preferences_changed", user, NOON, time_zone=LISBON, opted_out=kinds) for user in (4, 8)]
                 for kinds in (["practice"], []))  # fmt: skip
    await handle_events(runtime, [record(raw) for raw in out])
    # The rows say that both are out. One came back, and nobody has handled that; one is out in Kafka alone.
    unknown = event("preferences_changed", 12, NOON, time_zone=LISBON, opted_out=["practice"])
    await runtime.producer.write([Record(runtime.topics.activity, b"k", raw) for raw in (out[0], back[0], unknown)])
    await lose(settings)
    await rebuild(runtime)
    assert await claim(runtime, of(1), of(2), of(3)) == [Claim.granted, Claim.opted_out, Claim.opted_out]


@pytest.mark.parametrize("settled", [False, True])
async def test_opting_out_takes_back_a_claim_but_not_what_was_shown(
    settings: Settings, runtime: Runtime, settled: bool
) -> None:
    await write_ledger(runtime, (of(1), Result.delivered if settled else Result.failed, "r"))
    add_users(settings, {"id": 4, "opted_out": 1, "last_event_at": "2026-11-21Z"})
    await lose(settings)
    await rebuild(runtime)
    standing = await runtime.gate.standing(Path.stream, [SendKey(4, "practice", TODAY)])
    assert standing == [Standing.settled if settled else Standing.opted_out]


async def test_reminders_that_were_fired_are_not_scheduled_again_and_those_that_were_not_are(
    settings: Settings, runtime: Runtime
) -> None:
    add_users(settings, *({"id": user, **practised_at(NOON - DAY)} for user in (4, 8)))
    due = practice_due(NOON - DAY, LISBON, runtime.quiet)
    assert due < NOON
    await runtime.gate.claim(Path.stream, "practice", TODAY, [4])
    await write_sends(runtime, of(1))
    await lose(settings)
    await rebuild(runtime)
    streaks = {(b"streak_saver", user, streak_saver_due(NOON - DAY, LISBON)) for user in (4, 8)}
    assert await due_state(settings) == {(b"practice", 8, due), *streaks}
    assert await Firing(runtime).fire(range(SHARDS)) == 1


async def test_timers_of_lessons_that_were_not_finished_come_back_once(settings: Settings, runtime: Runtime) -> None:
    add_users(settings, *({"id": user} for user in (4, 8, 12, 16)))
    events = [
        event("lesson_started", 4, NOON - 60),
        event("lesson_started", 8, NOON - 120),
        event("lesson_completed", 8, NOON - 60),
        event("lesson_started", 12, NOON - 2400),  # Due, and fired.
        event("lesson_started", 16, NOON - 3 * HOUR),  # Over.
    ]
    await runtime.producer.write([Record(runtime.topics.activity, b"k", raw) for raw in events])
    await commit(settings, "stream", runtime.topics.activity)
    await write_sends(runtime, of(3, "abandoned_lesson"))
    await lose(settings)
    done = await rebuild(runtime)
    assert done.timers == 1
    timers = {(user, at) for kind, user, at in await due_state(settings) if kind == b"abandoned_lesson"}
    assert timers == {(4, NOON - 60 + 1800)}
