"""An hour's comebacks leave over the hour: on the virtual clock, minute by minute, whatever is repeated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from batch.plan import Plan, plan
from batch.rounds import ROUND_SECONDS
from batch.scan import Scan, ScanSummary
from shared.clock import FileClock
from shared.gate import RedisGate
from shared.identity import SHARDS, spread
from shared.producer import Producer, Record
from shared.settings import Settings
from shared.topics import Topics
from shared.wire.sends import Send, decode_sends
from tests.conftest import NOON
from tests.integration.planned import granted
from tests.integration.support import HOUR, TODAY, add_users, sends_in

START = datetime.fromtimestamp(NOON, UTC)
CROWD = range(1, 3_001)
"""50 a minute."""


class Watched(Producer):
    """Notes when each send was written; fails when it is told to."""

    def __init__(self, settings: Settings, clock: FileClock, fails_at: float = 0.0) -> None:
        super().__init__(settings)
        self._clock, self._fails_at = clock, fails_at
        self.written: list[tuple[float, Send]] = []

    async def write(self, records: Iterable[Record]) -> None:
        records = list(records)
        if self._fails_at and self._clock.now() >= self._fails_at:
            raise RuntimeError("the machine is gone")
        await super().write(records)
        self.written += [(self._clock.now(), send) for one in records for send in decode_sends(one.value).sends]


@pytest.fixture
def spread_out(settings: Settings) -> Settings:
    return settings.model_copy(update={"spread_minutes": 60, "page_size": 100})


@pytest.fixture
def crowd(spread_out: Settings) -> None:
    """Everybody's send hour is noon UTC."""
    day = TODAY - timedelta(days=7)
    add_users(spread_out, *({"id": user, "time_zone": "Asia/Dhaka", "last_active_date": day} for user in CROWD))


async def scan_on(
    settings: Settings, clock: FileClock, planned: Plan, shards: Sequence[int], fails_at: float = 0.0
) -> tuple[ScanSummary | None, list[tuple[float, Send]]]:
    """Scan while the clock goes on by what the scan waits; when each send was written."""

    async def pass_by(seconds: float) -> None:
        clock.set(clock.now() + seconds)

    url, gate = settings.require_postgres(), RedisGate.connect(settings)
    users, own = [await psycopg.AsyncConnection.connect(url, autocommit=True) for _ in range(2)]
    summary = None
    async with users, own, Watched(settings, clock, fails_at) as producer:
        try:
            summary = await Scan(settings, clock, users, own, gate, producer, sleep=pass_by).run(planned, shards)
        except RuntimeError:
            assert fails_at
        finally:
            await gate.close()
    return summary, producer.written


@pytest.mark.usefixtures("crowd")
async def test_an_hours_comebacks_are_a_flat_line(spread_out: Settings, clock: FileClock) -> None:
    planned = plan(START, START + timedelta(hours=1), spread_out)
    clock.set(NOON - 60)
    summary, written = await scan_on(spread_out, clock, planned, range(SHARDS))
    assert summary and summary.granted == len(CROWD)
    assert Counter(send.user_id for _, send in written) == Counter(CROWD)
    for at, send in written:
        assert send.due_at == NOON + (spread(send.user_id) * 3600 >> 12)
        assert 0 <= at - send.due_at <= ROUND_SECONDS + 1
        assert send.expires_at == NOON + 4 * HOUR  # Quiet hours begin there.
    minutes = Counter(int(at - NOON - 1) // 60 for at, _ in written)
    expected = len(CROWD) / 60
    assert sorted(minutes) == list(range(60))
    # 59 degrees of freedom: chance alone gives more than 98 once in a thousand times.
    assert sum((n - expected) ** 2 / expected for n in minutes.values()) < 98
    assert max(minutes.values()) < 1.6 * expected


@pytest.mark.usefixtures("crowd")
async def test_a_rerun_and_other_groups_give_everybody_the_same_minute(spread_out: Settings, clock: FileClock) -> None:
    planned = plan(START, START + timedelta(hours=1), spread_out)
    clock.set(NOON)
    _, first = await scan_on(spread_out, clock, planned, range(128), fails_at=NOON + 1_000)
    assert first and max(at for at, _ in first) < NOON + 1_000
    clock.set(NOON + 1_500)
    _, second = await scan_on(spread_out, clock, planned, range(SHARDS))
    due: dict[int, set[float]] = {}
    for _, send in first + second:
        due.setdefault(send.user_id, set()).add(send.due_at)
    assert due == {user: {float(NOON + (spread(user) * 3600 >> 12))} for user in CROWD}
    assert granted(spread_out) == set(CROWD)
    assert {send.user_id for _, send in first}.isdisjoint(send.user_id for _, send in second)
    # What was due during the break leaves at once, and nothing of the rest before its time.
    assert {at for at, send in second if send.due_at <= NOON + 1_500} == {NOON + 1_500}
    assert all(at >= send.due_at for at, send in second)


@pytest.mark.usefixtures("crowd")
async def test_a_spread_over_the_end_of_an_interval_goes_on_in_the_next(spread_out: Settings, clock: FileClock) -> None:
    half = timedelta(minutes=30)
    for n in range(2):
        planned = plan(START + n * half, START + (n + 1) * half, spread_out)
        clock.set(planned.interval_end.timestamp())
        _, written = await scan_on(spread_out, clock, planned, range(SHARDS))
        assert {int(send.due_at - NOON) // 1800 for _, send in written} == {n}
    assert Counter(send.user_id for send in await sends_in(spread_out, Topics.of(spread_out).normal)) == Counter(CROWD)
