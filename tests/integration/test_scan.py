"""A scan against real stores: every due user once, whatever crashes, repeats or runs at the same time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest

from batch.plan import Plan, plan
from batch.scan import Scan, ScanSummary, record, scan
from shared.clock import FileClock
from shared.gate import RedisGate, SendKey
from shared.policy.kinds import Path
from shared.producer import Producer, Record
from shared.settings import Settings
from shared.topics import Topics, count_messages
from shared.wire.sends import Result, Send
from tests.conftest import NOON
from tests.integration.support import (
    HOUR,
    TODAY,
    add_users,
    batches_in,
    moment,
    outcomes_in,
    sends_in,
    sql,
    users_of_shard,
)

START = datetime.fromtimestamp(NOON, UTC)
ZONES = ("Asia/Dhaka", "Asia/Omsk")
"""UTC+6 without summer time: the send hour, 18:00, is noon in UTC."""
CROWD = {3: 25, 4: 20, 5: 9, 7: 11}
"""Shard -> due users: two and a half pages, whole pages, less than one, one more than one. Nobody is in shard 6."""
SHARDS = [3, 4, 5, 6, 7]


@pytest.fixture
def small(settings: Settings) -> Settings:
    """Pages of ten, messages of four."""
    return settings.model_copy(update={"page_size": 10, "send_batch": 4})


@pytest.fixture
async def noon(small: Settings) -> Plan:
    """The plan of the hour from noon, written down."""
    planned = plan(START, START + timedelta(hours=1), small)
    await record(small, planned)
    return planned


@pytest.fixture
def due(small: Settings) -> dict[int, tuple[str, int]]:
    """User -> (zone, rung) of a crowd over four slots; beside them others whose day, zone or shard is not due."""
    crowd = [user for shard, n in CROWD.items() for user in users_of_shard(shard, n)]
    due = {user: (ZONES[n % 2], (7, 30)[n // 2 % 2]) for n, user in enumerate(crowd)}
    add_users(small, *(silent(user, *slot) for user, slot in due.items()))
    others = users_of_shard(3, 30)[25:]
    add_users(small, silent(others[0], ZONES[0], 8), silent(others[1], "Asia/Tokyo", 7), silent(others[2], ZONES[0], 0))
    add_users(small, silent(users_of_shard(8, 1)[0], ZONES[0], 7), {"id": others[3], "time_zone": ZONES[0]})
    return due


def silent(user: int, zone: str = ZONES[0], days: int = 7, **columns: object) -> dict[str, object]:
    return {"id": user, "time_zone": zone, "last_active_date": TODAY - timedelta(days=days), **columns}


async def granted(settings: Settings, day: date = TODAY) -> dict[tuple[Path, str], int]:
    gate = RedisGate.connect(settings)
    try:
        return await gate.granted(day)
    finally:
        await gate.close()


def counted(settings: Settings) -> dict[str, int]:
    """What the checkpoints counted, by answer."""
    query = (
        "SELECT c.item ->> 1, sum((c.item ->> 2)::int)::int FROM scan_checkpoints, "
        "jsonb_array_elements(counts) AS c(item) GROUP BY 1"
    )
    return dict(sql(settings, query))


class BreakingProducer(Producer):
    """Writes so many pages and then fails, before or after the brokers have the page."""

    def __init__(self, settings: Settings, pages: int, after: bool) -> None:
        super().__init__(settings)
        self.pages, self.after = pages, after

    async def write(self, records: Iterable[Record]) -> None:
        self.pages -= 1
        if self.pages >= 0 or self.after:
            await super().write(records)
        if self.pages < 0:
            raise RuntimeError("the machine is gone")


async def crash(settings: Settings, planned: Plan, pages: int, after: bool) -> None:
    """A scan that ends in its page after `pages`."""
    gate = RedisGate.connect(settings)
    connection = await psycopg.AsyncConnection.connect(settings.require_postgres(), autocommit=True)
    async with connection, BreakingProducer(settings, pages, after) as producer:
        with pytest.raises(RuntimeError, match="gone"):
            await Scan(settings, settings.clock(), connection, gate, producer).run(planned, SHARDS)
    await gate.close()


async def test_every_due_user_is_visited_once_over_page_shard_and_slot_boundaries(
    small: Settings, noon: Plan, due: dict[int, tuple[str, int]]
) -> None:
    pages: list[int] = []
    summary = await scan(small, noon, SHARDS, pages.append)
    sends = await sends_in(small, Topics.of(small).normal)
    assert Counter(send.user_id for send in sends) == Counter(due.keys())
    assert {send.user_id: (send.time_zone, send.silent_days) for send in sends} == due
    assert {(send.kind, send.local_date, send.due_at, send.expires_at) for send in sends} == {
        ("comeback", TODAY, NOON, NOON + 4 * HOUR)
    }
    assert summary == ScanSummary(noon.run_id, len(SHARDS), 8, len(due), len(due), {})
    assert (sum(pages), max(pages)) == (len(due), 10)
    assert counted(small) == {"granted": len(due)}
    assert {(batch.path, len(batch.sends) <= 4) for batch in await batches_in(small, Topics.of(small).normal)} == {
        (Path.batch, True)
    }


@pytest.mark.parametrize("after", [False, True], ids=["before Kafka has the page", "after it"])
@pytest.mark.parametrize("pages", [0, 1, 4])
async def test_a_rerun_continues_a_crashed_scan_and_misses_nobody(
    small: Settings, noon: Plan, due: dict[int, tuple[str, int]], pages: int, after: bool
) -> None:
    await crash(small, noon, pages, after)
    before = counted(small).get("granted", 0)
    assert before < len(due)
    summary = await scan(small, noon, SHARDS)
    sends = await sends_in(small, Topics.of(small).normal)
    times = Counter(send.user_id for send in sends)
    assert set(times) == set(due)
    assert sum(times.values()) - len(due) == (10 if after else 0), "only the page that was not checkpointed comes again"
    assert len({send.send_id for send in sends}) == len(due)
    assert await granted(small) == {(Path.batch, "comeback"): len(due)}
    assert counted(small) == {"granted": len(due)}
    assert (summary.candidates, summary.granted) == (len(due), len(due))


@pytest.mark.parametrize("after", [False, True], ids=["before Kafka has the page", "after it"])
async def test_who_opts_out_between_a_crash_and_the_rerun_is_counted_as_granted_all_the_same(
    small: Settings, noon: Plan, due: dict[int, tuple[str, int]], after: bool
) -> None:
    await crash(small, noon, 0, after)
    sql(small, "UPDATE users SET opted_out = 8")
    summary = await scan(small, noon, SHARDS)
    assert await granted(small) == {(Path.batch, "comeback"): summary.granted}
    assert summary.denied == {"opted_out": len(due) - summary.granted}
    outcomes = await outcomes_in(small)
    dropped = [outcome.reason for outcome in outcomes if outcome.result is Result.dropped]
    assert dropped == ["opted_out"] * summary.granted, "what was claimed has an outcome, whether Kafka had it or not"


async def test_a_finished_scan_that_runs_again_sends_nothing(
    small: Settings, noon: Plan, due: dict[int, tuple[str, int]]
) -> None:
    first = await scan(small, noon, SHARDS)
    messages = await count_messages(small, Topics.of(small).normal)
    add_users(small, silent(users_of_shard(6, 1)[0]))
    assert await scan(small, noon, SHARDS) == first
    assert await count_messages(small, Topics.of(small).normal) == messages


async def test_two_scans_of_one_run_at_once_claim_and_count_everybody_once(
    small: Settings, noon: Plan, due: dict[int, tuple[str, int]]
) -> None:
    """Airflow may start a task again while the first try still runs."""
    summaries = await asyncio.gather(scan(small, noon, SHARDS), scan(small, noon, SHARDS[::-1]))
    sends = await sends_in(small, Topics.of(small).normal)
    assert {send.user_id for send in sends} == set(due)
    assert await granted(small) == {(Path.batch, "comeback"): len(due)}
    assert counted(small) == {"granted": len(due)}
    assert {summary.granted for summary in summaries} == {len(due)}


async def test_a_checkpoint_never_moves_back_within_a_slot_either(small: Settings, noon: Plan) -> None:
    """A try that was overtaken saves its older place: the rerun must not repeat what the other has done."""
    from batch import checkpoints
    from batch.checkpoints import Checkpoint

    async with await psycopg.AsyncConnection.connect(small.require_postgres(), autocommit=True) as connection:
        ahead, behind = Checkpoint(after_slot=2, after_id=30, pages=3), Checkpoint(after_slot=2, after_id=20, pages=2)
        for checkpoint in (ahead, behind):
            await checkpoints.save(connection, noon.run_id, 3, checkpoint)
        assert (await checkpoints.load(connection, noon.run_id, [3]))[3] == ahead


async def test_denials_are_outcomes_with_their_reasons(small: Settings, noon: Plan) -> None:
    users = users_of_shard(3, 6)
    add_users(small, *map(silent, users[:2]), silent(users[2], opted_out=0b1000), silent(users[3], opted_out=0b0111))
    add_users(small, silent(users[4]), devices=False)
    add_users(small, silent(users[5]))
    sql(small, "UPDATE devices SET retired_at = now() WHERE user_id = %s", users[5])
    gate = RedisGate.connect(small)
    await gate.practised([(users[0], TODAY)])
    await gate.claim(Path.stream, [SendKey(users[1], kind, TODAY) for kind in ("practice", "streak_saver")])
    await gate.close()
    summary = await scan(small, noon, [3])
    found = {outcome.user_id: (outcome.result, outcome.reason) for outcome in await outcomes_in(small)}
    reasons = ["practised", "daily_cap", "opted_out", "", "no_device", "no_device"]
    expected = zip(users, reasons, strict=True)
    assert found == {user: (Result.denied, reason) for user, reason in expected if reason}
    assert [send.user_id for send in await sends_in(small, Topics.of(small).normal)] == [users[3]]
    assert summary.denied == {"practised": 1, "daily_cap": 1, "opted_out": 1, "no_device": 2}
    assert counted(small) == {**summary.denied, "granted": 1}


@pytest.mark.parametrize(("late", "sent"), [(4 * HOUR - 1, True), (4 * HOUR, False)])
async def test_a_scan_that_runs_late_sends_nothing_past_its_window_and_reports_it(
    small: Settings, noon: Plan, clock: FileClock, late: float, sent: bool
) -> None:
    (user,) = users_of_shard(3, 1)
    add_users(small, silent(user))
    clock.set(NOON + late)
    summary = await scan(small, noon, [3])
    assert summary.granted == 1
    assert bool(await sends_in(small, Topics.of(small).normal)) is sent
    results = [(outcome.result, outcome.reason) for outcome in await outcomes_in(small)]
    assert results == ([] if sent else [(Result.expired, "expired")])


TURNS = {
    "the hour is left out": ("2026-03-29", "2026-03-29 01:00"),
    "the hour comes twice": ("2026-10-25", "2026-10-25 00:00"),
    "an ordinary summer day": ("2026-07-01", "2026-07-01 00:00"),
}


@pytest.mark.parametrize(("day", "expected"), TURNS.values(), ids=TURNS)
async def test_hourly_scans_remind_once_on_the_day_the_clocks_turn(
    settings: Settings, clock: FileClock, day: str, expected: str
) -> None:
    """At 02:00 in Berlin, which is skipped in spring and comes twice in autumn."""
    night = settings.model_copy(update={"send_hour": 2, "quiet_start": 0, "quiet_end": 0})
    local = date.fromisoformat(day)
    (user,) = users_of_shard(3, 1)
    add_users(night, {"id": user, "time_zone": "Europe/Berlin", "last_active_date": local - timedelta(days=7)})
    first = datetime.fromisoformat(f"{day}T00:00+00:00") - timedelta(hours=3)
    for hour in range(8):
        planned = plan(first + timedelta(hours=hour), first + timedelta(hours=hour + 1), night)
        await record(night, planned)
        clock.set(planned.interval_end.timestamp())
        await scan(night, planned, [3])
    sends: list[Send] = await sends_in(night, Topics.of(night).normal)
    found: list[Any] = [(send.user_id, send.local_date, send.due_at) for send in sends]
    assert found == [(user, local, moment(expected))]
