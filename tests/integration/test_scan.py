"""A scan against real stores: every due user once, whatever crashes, repeats or runs at the same time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from batch import checkpoints
from batch.checkpoints import Checkpoint
from batch.plan import Plan, plan
from batch.scan import Scan, ScanSummary, record, scan
from shared.clock import FileClock
from shared.gate import Claim, Gate, RedisGate, Rule
from shared.outbox import GRANTED
from shared.patience import Sleep
from shared.policy.kinds import Path
from shared.producer import Producer, Record
from shared.settings import Settings
from shared.store.partitions import Connection
from shared.topics import Topics, count_messages
from shared.wire.sends import Result, Send, Target
from tests.conftest import NOON
from tests.integration.planned import accounted, answers, decided, granted, in_outbox, put_in_force
from tests.integration.support import (
    HOUR,
    TODAY,
    add_users,
    batches_in,
    moment,
    outcomes_in,
    sends_in,
    sql,
    token_of,
    users_of_shard,
)

START = datetime.fromtimestamp(NOON, UTC)
ZONES = ("Asia/Dhaka", "Asia/Omsk")
"""UTC+6 without summer time: the send hour, 18:00, is noon in UTC."""
CROWD = {3: 25, 4: 20, 5: 9, 7: 11}
"""Shard -> due users: pages end in the middle of one, with one, and with the last of all. Nobody is in shard 6."""
SHARDS = [3, 4, 5, 6, 7]


@pytest.fixture
def small(settings: Settings) -> Settings:
    """Pages of ten, messages of four, and everybody due at the send hour."""
    return settings.model_copy(update={"page_size": 10, "send_batch": 4, "spread_minutes": 0})


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


@asynccontextmanager
async def connections(settings: Settings) -> AsyncIterator[tuple[Connection, Connection]]:
    """For users and for Surnia's own tables."""
    url = settings.require_postgres()
    users, own = [await psycopg.AsyncConnection.connect(url, autocommit=True) for _ in range(2)]
    async with users, own:
        yield users, own


async def crash(settings: Settings, planned: Plan, pages: int, after: bool) -> None:
    """A scan that ends in its page after `pages`."""
    gate = RedisGate.connect(settings)
    async with connections(settings) as (users, own), BreakingProducer(settings, pages, after) as producer:
        with pytest.raises(RuntimeError, match="gone"):
            await Scan(settings, settings.clock(), users, own, gate, producer).run(planned, SHARDS)
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
    assert summary == ScanSummary(noon.run_id, len(SHARDS), 7, len(due), len(due), {})
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
    assert answers(small) == {(Path.batch, "comeback", GRANTED): len(due)}
    assert counted(small) == {"granted": len(due)}
    assert (summary.candidates, summary.granted) == (len(due), len(due))


@pytest.mark.parametrize("after", [False, True], ids=["before Kafka has the page", "after it"])
async def test_who_opts_out_between_a_crash_and_the_rerun_was_granted_all_the_same_and_has_a_send(
    small: Settings, noon: Plan, due: dict[int, tuple[str, int]], after: bool
) -> None:
    await crash(small, noon, 0, after)
    page = granted(small)
    assert len(page) == 10
    sql(small, "UPDATE users SET opted_out = 8")
    summary = await scan(small, noon, SHARDS)
    assert summary.denied == {"opted_out": len(due)}, "the rerun knows of itself alone"
    assert granted(small) == page, "granted beats a denial"
    assert len(decided(small)) == len(due)
    assert await accounted(small) == page
    assert bool(in_outbox(small)), "the page of the crash is still to be finished by a sweeper"


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
    assert answers(small) == {(Path.batch, "comeback", GRANTED): len(due)}
    assert counted(small) == {"granted": len(due)}
    assert {summary.granted for summary in summaries} == {len(due)}


async def test_overlapping_intervals_plan_everybody_once(
    small: Settings, noon: Plan, due: dict[int, tuple[str, int]]
) -> None:
    """A backfill over hours that were scanned already, while one of them still runs."""
    wider = plan(START - timedelta(hours=2), START + timedelta(hours=2), small)
    assert wider.run_id != noon.run_id and set(noon.slots) < set(wider.slots)
    await record(small, wider)
    await asyncio.gather(scan(small, noon, SHARDS), scan(small, wider, SHARDS[::-1]))
    found = decided(small)
    assert {user for _, _, _, user in found} == set(due)
    assert set(found.values()) == {GRANTED}
    assert {send.user_id for send in await sends_in(small, Topics.of(small).normal)} == set(due)


async def test_a_page_leaves_the_outbox_with_its_checkpoint_and_not_before(
    small: Settings, noon: Plan, due: dict[int, tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crashing(*_: Any) -> None:
        raise RuntimeError("the machine is gone")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", crashing)
        with pytest.raises(RuntimeError, match="gone"):
            await scan(small, noon, SHARDS)
    assert counted(small) == {}
    assert len(in_outbox(small)) == 3
    await scan(small, noon, SHARDS)
    assert counted(small) == {"granted": len(due)}
    assert len(in_outbox(small)) == 3, "the crash's page waits for a sweeper; those of the rerun are gone"


class Hold(RedisGate):
    """A gate that holds some users back until somebody resumes them."""

    held: frozenset[int] = frozenset()

    async def claim(self, path: Path, kind: str, day: date, user_ids: Sequence[int], campaign: str = "") -> list[Claim]:
        found = iter(await super().claim(path, kind, day, [n for n in user_ids if n not in self.held], campaign))
        return [Claim.paused if n in self.held else next(found) for n in user_ids]


@pytest.fixture
async def hold(small: Settings) -> AsyncIterator[Hold]:
    gate = Hold.connect(small)
    yield gate
    await gate.close()


async def scan_with(settings: Settings, planned: Plan, gate: Gate, sleep: Sleep) -> ScanSummary:
    async with connections(settings) as (users, own), Producer(settings) as producer:
        return await Scan(settings, settings.clock(), users, own, gate, producer, sleep=sleep).run(planned, SHARDS)


async def test_a_paused_scan_waits_and_goes_on_where_it_was(
    small: Settings, noon: Plan, due: dict[int, tuple[str, int]]
) -> None:
    await put_in_force(small, Rule(path=Path.batch, kind="comeback"))
    waits: list[float] = []

    async def resumed_at_the_third_look(seconds: float) -> None:
        waits.append(seconds)
        assert await sends_in(small, Topics.of(small).normal) == []
        assert (decided(small), in_outbox(small), counted(small)) == ({}, [], {})
        if len(waits) == 3:
            await put_in_force(small)

    gate = RedisGate.connect(small)
    with capture_logs() as logs:
        summary = await scan_with(small, noon, gate, resumed_at_the_third_look)
    await gate.close()
    assert waits == [1.0] * 3
    assert Counter(send.user_id for send in await sends_in(small, Topics.of(small).normal)) == Counter(due.keys())
    assert summary == ScanSummary(noon.run_id, len(SHARDS), 7, len(due), len(due), {})
    assert [line["event"] for line in logs] == ["paused: the scan waits", "the scan goes on"]


async def test_what_is_past_its_window_by_the_end_of_a_pause_is_reported_as_expired(
    small: Settings, noon: Plan, due: dict[int, tuple[str, int]], clock: FileClock
) -> None:
    """And the scan does not wait for longer than that, however long the pause is."""
    await put_in_force(small, Rule())
    waits: list[float] = []

    async def hours(seconds: float) -> None:
        waits.append(seconds)
        clock.set(NOON + len(waits) * HOUR)

    gate = RedisGate.connect(small)
    summary = await scan_with(small, noon, gate, hours)
    await gate.close()
    assert len(waits) == 4
    assert await sends_in(small, Topics.of(small).normal) == []
    found = [(outcome.user_id, outcome.reason) for outcome in await outcomes_in(small)]
    assert Counter(found) == Counter((user, "expired") for user in due)
    assert summary.granted == len(due)
    assert answers(small) == {(Path.batch, "comeback", GRANTED): len(due)}


async def test_the_part_of_a_page_that_is_not_paused_is_sent_at_once_and_left_to_no_sweeper(
    small: Settings, noon: Plan, hold: Hold
) -> None:
    users = users_of_shard(3, 6)
    add_users(small, *map(silent, users[:5]), silent(users[5], opted_out=8))
    hold.held = frozenset(users[:2])
    looks: list[set[int]] = []

    async def one_at_a_time(seconds: float) -> None:
        looks.append({send.user_id for send in await sends_in(small, Topics.of(small).normal)})
        assert in_outbox(small) == []
        assert counted(small) == {}
        hold.held = frozenset(users[1:2] if len(looks) == 1 else ())

    summary = await scan_with(small, noon, hold, one_at_a_time)
    assert looks == [set(users[2:5]), {users[0], *users[2:5]}]
    assert (summary.pages, summary.granted, summary.denied) == (1, 5, {"opted_out": 1})
    assert answers(small) == {(Path.batch, "comeback", GRANTED): 5, (Path.batch, "comeback", "opted_out"): 1}
    assert len(await outcomes_in(small)) == 1
    assert in_outbox(small) == []


async def test_a_scan_that_is_cut_off_while_it_waits_starts_the_page_again(
    small: Settings, noon: Plan, hold: Hold
) -> None:
    users = users_of_shard(3, 5)
    add_users(small, *map(silent, users))
    hold.held = frozenset(users[:2])

    async def cut_off(seconds: float) -> None:
        raise RuntimeError("the machine is gone")

    with pytest.raises(RuntimeError, match="gone"):
        await scan_with(small, noon, hold, cut_off)
    assert (granted(small), counted(small)) == (set(users[2:]), {})
    summary = await scan(small, noon, SHARDS)
    assert summary.granted == 5
    assert granted(small) == set(users) == {send.user_id for send in await sends_in(small, Topics.of(small).normal)}


async def test_a_checkpoint_never_moves_back_within_a_slot_either(small: Settings, noon: Plan) -> None:
    """A try that was overtaken saves its older place: the rerun must not repeat what the other has done."""
    async with await psycopg.AsyncConnection.connect(small.require_postgres(), autocommit=True) as connection:
        ahead, behind = Checkpoint(after_slot=2, after_id=30, pages=3), Checkpoint(after_slot=2, after_id=20, pages=2)
        for checkpoint in (ahead, behind):
            await checkpoints.save(connection, noon.run_id, {3: checkpoint})
        assert (await checkpoints.load(connection, noon.run_id, [3]))[3] == ahead


async def test_denials_are_outcomes_with_their_reasons(small: Settings, noon: Plan) -> None:
    users = users_of_shard(3, 6)
    add_users(small, *map(silent, users[:2]), silent(users[2], opted_out=0b1000), silent(users[3], opted_out=0b0111))
    add_users(small, silent(users[4]), devices=False)
    add_users(small, silent(users[5]))
    sql(small, "UPDATE devices SET retired_at = now() WHERE user_id = %s", users[5])
    gate = RedisGate.connect(small)
    await gate.practised([(users[0], TODAY)])
    for kind in ("practice", "streak_saver"):
        await gate.claim(Path.stream, kind, TODAY, [users[1]])
    await gate.close()
    summary = await scan(small, noon, [3])
    found = {outcome.user_id: (outcome.result, outcome.reason) for outcome in await outcomes_in(small)}
    reasons = ["practised", "daily_cap", "opted_out", "", "no_device", "no_device"]
    expected = zip(users, reasons, strict=True)
    assert found == {user: (Result.denied, reason) for user, reason in expected if reason}
    assert [send.user_id for send in await sends_in(small, Topics.of(small).normal)] == [users[3]]
    assert summary.denied == {"practised": 1, "daily_cap": 1, "opted_out": 1, "no_device": 2}
    assert counted(small) == {**summary.denied, "granted": 1}


async def test_ios_devices_go_with_their_fcm_tokens_that_are_in_use(small: Settings, noon: Plan) -> None:
    users = users_of_shard(3, 3)
    add_users(small, *map(silent, users))
    sql(small, "UPDATE devices SET fcm_token = 'fcm-token-' || user_id WHERE user_id = ANY(%s)", users[:2])
    sql(small, "UPDATE devices SET fcm_retired_at = now() WHERE user_id = %s", users[1])
    sql(
        small,
        "INSERT INTO devices (user_id, device_id, platform, token) VALUES (%s, 'tablet', 'android', 'android-token')",
        users[0],
    )
    await scan(small, noon, [3])
    found = {send.user_id: send.targets for send in await sends_in(small, Topics.of(small).normal)}
    phones = [Target("phone", "ios", token_of(user)) for user in users]
    assert found == {
        users[0]: (
            Target("phone", "ios", token_of(users[0]), f"fcm-token-{users[0]}"),
            Target("tablet", "android", "android-token"),
        ),
        users[1]: (phones[1],),
        users[2]: (phones[2],),
    }


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
    night = settings.model_copy(update={"send_hour": 2, "quiet_start": 0, "quiet_end": 0, "spread_minutes": 0})
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
