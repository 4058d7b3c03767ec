"""A deleted user is gone from everywhere, whatever crashes, comes again or comes late."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any

import pytest

from shared import outbox
from shared.gate import Claim, Standing
from shared.policy.kinds import Path
from shared.settings import Settings
from shared.topics import Topics
from shared.wire.sends import Result
from stream.activity import handle_events
from stream.erasure import deletions
from stream.erasure.erase import Erasing
from stream.runtime import Runtime
from stream.sweeper import sweep
from tests.conftest import NOON
from tests.integration.erasures import (
    OTHER,
    USER,
    answer,
    erased,
    in_redis,
    key,
    live,
    plan,
    proofs,
    send,
    tombstones,
    traces,
    users_in_ledger,
)
from tests.integration.planned import in_outbox
from tests.integration.support import (
    DAY,
    HOUR,
    IOS,
    TODAY,
    add_users,
    event,
    record,
    redis_state,
    sends_in,
    sql,
    tables,
)

EVERYWHERE = {
    "users": 1,
    "devices": 1,
    # Practice, choice and claims of three dates, and the campaign.
    "gate_fields": 4,
    "due_entries": 3,
    "outbox_pages": 0,
    "ledger_rows": 3,
    "planned_entries": 2,
}


@pytest.fixture
def known(settings: Settings) -> None:
    add_users(settings, {"id": USER}, {"id": OTHER})


@pytest.mark.usefixtures("known")
async def test_nothing_is_left_but_tombstones_and_a_proof_and_nobody_else_is_touched(
    settings: Settings, runtime: Runtime
) -> None:
    await live(runtime, USER, OTHER)
    places = traces(settings, USER)
    assert {"users", "devices", "scan_checkpoints", "ledger_20261120", "planned_20261121"} <= set(places)
    others = await in_redis(settings, OTHER)
    await erased(runtime)
    assert traces(settings, USER) == []
    assert await in_redis(settings, USER) == tombstones(settings, USER)
    assert proofs(settings) == [EVERYWHERE]
    assert traces(settings, OTHER) == places
    assert await in_redis(settings, OTHER) == others


@pytest.mark.usefixtures("known")
async def test_tombstones_go_with_their_keys(settings: Settings, runtime: Runtime) -> None:
    await erased(runtime)
    calls = [await runtime.keyspace.everywhere("TTL", name) for name in tombstones(settings, USER)]
    assert {ttl for call in calls for ttl in call.values()} <= set(range(1, settings.gate_keep_hours * 3600 + 1))


@pytest.mark.usefixtures("known")
async def test_the_same_deletion_again_changes_nothing_more(settings: Settings, runtime: Runtime) -> None:
    await live(runtime, USER, OTHER)
    await erased(runtime)
    before = tables(settings), await redis_state(settings), proofs(settings)
    await erased(runtime)
    assert (tables(settings), await redis_state(settings), proofs(settings)) == before


class CrashError(Exception):
    """A worker dies."""


@pytest.mark.parametrize("step", ["_name", "_finish", "_rename"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.usefixtures("known")
async def test_a_worker_that_dies_in_the_middle_leaves_what_the_next_one_ends(
    settings: Settings, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    await live(runtime, USER, OTHER)
    real = getattr(Erasing, step)

    async def dying(*arguments: Any) -> Any:
        if after:
            await real(*arguments)
        raise CrashError

    with monkeypatch.context() as patched:
        patched.setattr(Erasing, step, dying)
        with pytest.raises(CrashError):
            await erased(runtime)
    await erased(runtime)
    assert traces(settings, USER) == []
    assert await in_redis(settings, USER) == tombstones(settings, USER)
    (proof,) = proofs(settings)
    # What was found at the gate and in the index is told with the users.
    lost = {"gate_fields", "due_entries"} if step == "_name" and not after else set()
    assert {name: n for name, n in proof.items() if name not in lost} == {
        name: n for name, n in EVERYWHERE.items() if name not in lost
    }


@pytest.mark.usefixtures("known")
async def test_what_was_claimed_is_dropped_and_nothing_is_claimed_any_more(runtime: Runtime) -> None:
    blast = key(USER, kind="campaign", campaign="spring")
    await plan(runtime, [send(USER), send(OTHER)])
    await plan(runtime, [send(USER, "campaign", campaign="spring")], Path.blast)
    await erased(runtime)
    assert await runtime.gate.standing(Path.stream, [key(USER), key(OTHER)]) == [Standing.opted_out, Standing.clear]
    assert await runtime.gate.standing(Path.blast, [blast]) == [Standing.opted_out]
    for days in range(-1, 3):
        day = TODAY + timedelta(days=days)
        assert await runtime.gate.claim(Path.stream, "practice", day, [USER]) == [Claim.opted_out]
        assert await runtime.gate.claim(Path.batch, "comeback", day, [USER]) == [Claim.opted_out]
        assert await runtime.gate.claim(Path.blast, "campaign", day, [USER], "summer") == [Claim.opted_out]


@pytest.mark.usefixtures("known")
async def test_no_choice_of_whoever_comes_back_lifts_a_tombstone(runtime: Runtime) -> None:
    await plan(runtime, [send(USER)])
    await erased(runtime)
    await runtime.gate.opt_out([(USER, TODAY, 31)])
    await runtime.gate.opt_out([(USER, TODAY, 0)])
    await runtime.gate.practised([(USER, TODAY)])
    assert await runtime.gate.standing(Path.stream, [key(USER)]) == [Standing.opted_out]
    assert await runtime.gate.claim(Path.stream, "practice", TODAY, [USER]) == [Claim.opted_out]


@pytest.mark.usefixtures("known")
async def test_what_a_provider_has_taken_meanwhile_is_a_fact(runtime: Runtime) -> None:
    await plan(runtime, [send(USER)])
    await erased(runtime)
    await runtime.gate.settle(Path.stream, [key(USER)])
    assert await runtime.gate.standing(Path.stream, [key(USER)]) == [Standing.settled]
    await erased(runtime)
    assert await runtime.gate.standing(Path.stream, [key(USER)]) == [Standing.opted_out]


@pytest.mark.usefixtures("known")
async def test_a_page_that_waits_for_kafka_goes_there_at_once(settings: Settings, runtime: Runtime) -> None:
    await plan(runtime, [send(USER), send(OTHER)], keep_in_outbox=True)
    page = await plan(runtime, [send(OTHER, "streak_saver")], keep_in_outbox=True)
    await erased(runtime)
    assert sql(settings, "SELECT page_id FROM outbox") == [(page,)]
    assert [each.user_id for each in await sends_in(settings, Topics.of(settings).urgent)].count(USER) == 2
    assert proofs(settings)[0]["outbox_pages"] == 1
    assert traces(settings, USER) == []


@pytest.mark.usefixtures("known")
async def test_a_planner_that_had_read_the_user_writes_no_id_down(settings: Settings, runtime: Runtime) -> None:
    candidates = [send(USER), send(OTHER)]
    await erased(runtime)
    await plan(runtime, candidates)
    assert traces(settings, USER) == []
    found = sql(settings, "SELECT answer, users FROM planned ORDER BY answer")
    assert [(answer, [user < 0 for user in users]) for answer, users in found] == [
        ("granted", [False]), ("opted_out", [True])
    ]  # fmt: skip


@pytest.mark.usefixtures("known")
async def test_a_page_of_a_planner_that_died_is_mended_by_who_finishes_it(
    settings: Settings, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dying(*_: Any) -> None:
        raise CrashError

    await erased(runtime)
    with monkeypatch.context() as patched:
        patched.setattr("shared.store.late.PlannedPages.mend", dying)
        with pytest.raises(CrashError):
            await plan(runtime, [send(USER), send(OTHER)])
    sql(settings, "UPDATE outbox SET recorded_at = now() - interval '1 hour'")
    assert await sweep(runtime) == 1
    assert in_outbox(settings) == []
    assert traces(settings, USER) == []


@pytest.mark.usefixtures("known")
async def test_outcomes_that_come_later_are_written_under_the_pseudonym(settings: Settings, runtime: Runtime) -> None:
    await plan(runtime, [send(USER), send(OTHER)])
    await answer(runtime, USER, result=Result.dropped)
    await erased(runtime)
    for result in (Result.dropped, Result.delivered, Result.denied):
        await answer(runtime, USER, OTHER, result=result)
    assert traces(settings, USER) == []
    pseudonym, other = users_in_ledger(settings)
    assert (pseudonym < 0, other) == (True, OTHER)
    assert sql(settings, "SELECT result FROM ledger") == [(Result.delivered,)] * 2


@pytest.mark.usefixtures("known")
async def test_who_comes_back_is_a_new_user(settings: Settings, runtime: Runtime) -> None:
    await answer(runtime, USER)
    await erased(runtime)
    add_users(settings, {"id": USER})
    # One that was due before is the old one's, whenever it comes.
    await answer(runtime, USER, kind="streak_saver", due=NOON - 60)
    later = TODAY + timedelta(days=5)
    await answer(runtime, USER, day=later, due=NOON + 5 * DAY)
    await plan(runtime, [send(USER, day=later)])
    rows = sql(settings, "SELECT user_id < 0, kind, local_date FROM ledger ORDER BY 1, 2")
    assert rows == [(False, 0, later), (True, 0, TODAY), (True, 1, TODAY)]
    assert sql(settings, "SELECT users, answer FROM planned") == [([USER], "granted")]
    # Once more: the same person under the same name.
    await erased(runtime, offset=8)
    assert len(set(users_in_ledger(settings))) == 1
    assert traces(settings, USER) == []
    assert len(proofs(settings)) == 2


async def deliver(runtime: Runtime, *raw: bytes, first: int = 70) -> None:
    await handle_events(runtime, [record(value, runtime.topics.activity, 2, first + n) for n, value in enumerate(raw)])


async def test_events_around_a_deletion_leave_what_came_after_it(settings: Settings, runtime: Runtime) -> None:
    phone = {"device_id": "phone", "platform": "ios", "token": IOS}
    events = [
        event("device_registered", USER, NOON - HOUR, **phone),
        event("lesson_completed", USER, NOON - HOUR),
        event("user_deleted", USER, NOON - 60),
        event("device_registered", USER, NOON - 30, **(phone | {"device_id": "tablet"})),
    ]
    await deliver(runtime, *events[:2])
    await deliver(runtime, *events[2:], first=72)
    assert sql(settings, "SELECT user_id, device_id FROM devices") == [(USER, "tablet")]
    assert sql(settings, "SELECT last_practice_at FROM users") == [(None,)]
    assert sql(settings, "SELECT topic, kafka_partition, kafka_offset FROM erasures") == [
        (runtime.topics.activity, 2, 72)
    ]
    before = sql(settings, "SELECT device_id, registered_at FROM devices"), await redis_state(settings)
    await deliver(runtime, *events)
    assert (sql(settings, "SELECT device_id, registered_at FROM devices"), await redis_state(settings)) == before
    assert len(proofs(settings)) == 1


async def test_deletions_are_found_whatever_else_a_batch_has(runtime: Runtime) -> None:
    raw = [
        event("user_deleted", USER, NOON - 60), b"not an event", event("app_opened", OTHER, NOON),
        event("user_deleted", USER, NOON), b'{"type":"user\\u005fdeleted","user_id":5,"at":"2026-11-21T11:00:00Z"}',
    ]  # fmt: skip
    found = deletions([record(value, "t", 1, n) for n, value in enumerate(raw)], NOON)
    assert [(each.user_id, each.at, each.offset) for each in found] == [(USER, NOON, 3), (5, NOON - HOUR, 4)]


async def test_an_outbox_page_is_finished_once(settings: Settings, runtime: Runtime) -> None:
    page = await plan(runtime, [send(OTHER)], keep_in_outbox=True)
    assert page
    async with runtime.pool.connection() as connection:
        for _ in range(2):
            await outbox.finish(connection, runtime.producer, page)
    assert len(await sends_in(settings, Topics.of(settings).urgent)) == 2  # The planner's and this one.


async def test_planners_and_the_ledger_may_be_at_it_at_the_same_moment(settings: Settings, runtime: Runtime) -> None:
    """Whoever comes first, no id of an erased user is left, and nobody else loses a row."""
    users = random.Random(1).sample(range(10**12, 10**15), 40)
    gone, stay = users[::2], users[1::2]
    add_users(settings, *({"id": user} for user in users))

    async def busy(mine: list[int]) -> None:
        for n in range(4):
            await plan(runtime, [send(user) for user in mine])
            await answer(runtime, *mine, kafka=False, day=TODAY - timedelta(days=n))

    async def erasing() -> None:
        for n in range(0, len(gone), 5):
            await erased(runtime, *gone[n : n + 5], offset=n)

    await asyncio.gather(*(busy(users[n::4]) for n in range(4)), erasing())
    assert {user: found for user in gone if (found := traces(settings, user))} == {}
    assert sorted(set(users_in_ledger(settings)))[len(gone) :] == sorted(stay)
    per_day = sql(settings, "SELECT local_date, count(*) FROM ledger GROUP BY 1")
    assert {n for _, n in per_day} == {len(users)}
    planned = sql(
        settings, "SELECT count(DISTINCT u) FILTER (WHERE u < 0), count(DISTINCT u) FROM planned, unnest(users) u"
    )
    assert planned == [(len(gone), len(users))]
