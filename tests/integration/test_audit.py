"""The audit against real stores: it holds where nothing is missing, and names what is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from batch.audit import Account, Audit
from batch.audit import audit as patient_audit
from batch.plan import plan
from batch.scan import record, scan
from shared.gate import SendKey, connect_redis
from shared.identity import SHARDS
from shared.lag import group_of
from shared.policy.kinds import Path
from shared.producer import Record
from shared.settings import Settings
from shared.wire.sends import Outcome, OutcomeBatch, Result
from stream.ledger import Ledger, handle_outcomes
from stream.runtime import Runtime
from tests.conftest import NOON
from tests.integration.support import (
    TODAY,
    YESTERDAY,
    add_users,
    message,
    read,
    running,
    sends_in,
    users_of_shard,
)

audit = partial(patient_audit, patience=0.0)
"""Nothing is under way in these tests: what looks lost is lost."""
ALL_FOUR = (Result.delivered, Result.expired, Result.failed, Result.dropped)


@pytest.fixture
async def runtime(settings: Settings) -> AsyncIterator[Runtime]:
    async with running(settings) as runtime:
        yield runtime


async def grant(runtime: Runtime, users: Sequence[int], path: Path = Path.stream, day: date = TODAY) -> None:
    await runtime.gate.claim(path, [SendKey(user, "practice", day) for user in users])


async def settle(runtime: Runtime, results: dict[int, Result], path: Path = Path.stream, day: date = TODAY) -> None:
    """Write outcomes to the ledger."""
    outcomes = [Outcome(user, "practice", day, result, result.name, NOON, NOON) for user, result in results.items()]
    await Ledger(runtime.pool).write([OutcomeBatch(path, tuple(outcomes))])


async def leave_unread(runtime: Runtime, topic: str) -> None:
    await runtime.producer.write([Record(topic, None, b"{}")])


async def read_everything(settings: Settings, role: str, topic: str) -> None:
    """Commit a topic's end, as the group of a role that has handled all of it."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.require_kafka(),
        group_id=group_of(role, settings.topic_prefix),
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(topic, n) for n in range(settings.partitions)])
        consumer.assign(list(ends))
        await consumer.commit(ends)
    finally:
        await consumer.stop()


def one(found: Audit) -> Account:
    (account,) = found.accounts
    return account


async def test_a_day_without_reminders_holds(settings: Settings) -> None:
    assert await audit(settings, TODAY) == Audit(TODAY, [], 0, [], [])


async def test_it_holds_when_every_granted_send_has_its_outcome(settings: Settings, runtime: Runtime) -> None:
    await grant(runtime, range(1, 5))
    await settle(runtime, dict(enumerate(ALL_FOUR, start=1)) | {5: Result.denied})
    found = await audit(settings, TODAY)
    assert found.holds
    assert one(found) == Account(
        path="stream", kind="practice", candidates=5, granted=4, denied={"denied": 1}, delivered=1, expired=1,
        failed={"failed": 1}, dropped={"dropped": 1}, in_flight=0, lost=0,
    )  # fmt: skip


async def test_another_days_counts_and_another_paths_stay_out_of_it(settings: Settings, runtime: Runtime) -> None:
    await grant(runtime, [1, 2], day=YESTERDAY)
    await grant(runtime, [1])
    await grant(runtime, [2, 3], Path.batch)
    await settle(runtime, {1: Result.delivered})
    await settle(runtime, {2: Result.delivered, 3: Result.failed}, Path.batch)
    found = await audit(settings, TODAY)
    assert found.holds
    assert [(a.path, a.granted, a.outcomes) for a in found.accounts] == [("stream", 1, 1), ("batch", 2, 2)]
    assert one(await audit(settings, YESTERDAY)).lost == 2


async def test_a_missing_outcome_is_lost_when_nothing_is_left_in_kafka(settings: Settings, runtime: Runtime) -> None:
    await grant(runtime, [1, 2, 3])
    await settle(runtime, {1: Result.delivered})
    found = await audit(settings, TODAY)
    assert (one(found).lost, one(found).in_flight, found.lag) == (2, 0, 0)
    assert found.problems == ["stream practice: 2 granted sends have no outcome, and nothing is left in Kafka"]


@pytest.mark.parametrize("topic", ["urgent", "normal", "blast", "outcomes"])
async def test_a_missing_outcome_is_in_flight_while_kafka_has_messages(
    settings: Settings, runtime: Runtime, topic: str
) -> None:
    await grant(runtime, [1, 2, 3])
    await settle(runtime, {1: Result.delivered})
    await leave_unread(runtime, getattr(runtime.topics, topic))
    found = await audit(settings, TODAY)
    assert (one(found).lost, one(found).in_flight, found.lag) == (0, 2, 1)
    assert found.holds


async def test_messages_that_were_read_are_not_in_flight_any_more(settings: Settings, runtime: Runtime) -> None:
    await grant(runtime, [1])
    await leave_unread(runtime, runtime.topics.urgent)
    await read_everything(settings, "delivery", runtime.topics.urgent)
    found = await audit(settings, TODAY)
    assert (found.lag, one(found).lost) == (0, 1)


async def test_activity_that_waits_is_no_send_in_flight(settings: Settings, runtime: Runtime) -> None:
    await grant(runtime, [1])
    await leave_unread(runtime, runtime.topics.activity)
    assert one(await audit(settings, TODAY)).lost == 1


async def test_more_outcomes_than_the_gate_granted_are_a_problem(settings: Settings, runtime: Runtime) -> None:
    await grant(runtime, [1])
    await settle(runtime, {1: Result.delivered, 2: Result.delivered})
    await leave_unread(runtime, runtime.topics.urgent)
    (problem,) = (await audit(settings, TODAY)).problems
    assert problem == "stream practice: the ledger has 2 outcomes for 1 claims that the gate granted"


async def scan_three(settings: Settings) -> None:
    """Scan three users: one granted, one opted out, one who has no device."""
    users = users_of_shard(3, 3)
    silent = {"time_zone": "Asia/Dhaka", "last_active_date": TODAY - timedelta(days=7)}
    add_users(settings, {"id": users[0], **silent}, {"id": users[1], **silent, "opted_out": 8})
    add_users(settings, {"id": users[2], **silent}, devices=False)
    start = datetime.fromtimestamp(NOON, UTC)
    planned = plan(start, start + timedelta(hours=1), settings)
    await record(settings, planned)
    await scan(settings, planned, range(SHARDS))


async def write_ledger(settings: Settings, runtime: Runtime) -> None:
    """Do what the delivery and ledger workers would."""
    topic = runtime.topics.outcomes
    await handle_outcomes(runtime, Ledger(runtime.pool), [message(r.value) for r in await read(settings, topic)])
    for send in await sends_in(settings, runtime.topics.normal):
        delivered = Outcome(send.user_id, send.kind, send.local_date, Result.delivered, "accepted", NOON, NOON)
        await Ledger(runtime.pool).write([OutcomeBatch(Path.batch, (delivered,))])
    await read_everything(settings, "ledger", topic)
    await read_everything(settings, "delivery", runtime.topics.normal)


async def test_the_scans_own_counts_agree_with_gate_and_ledger(settings: Settings, runtime: Runtime) -> None:
    await scan_three(settings)
    before = await audit(settings, TODAY)
    assert before.holds, "denials that are still in Kafka are under way, not missing"
    assert one(before).in_flight == 1
    await write_ledger(settings, runtime)
    after = await audit(settings, TODAY)
    assert after.holds
    assert (one(after).candidates, one(after).delivered, one(after).denied) == (3, 1, {"no_device": 1, "opted_out": 1})


async def test_a_denial_that_never_reached_the_ledger_is_a_problem(settings: Settings, runtime: Runtime) -> None:
    await scan_three(settings)
    for role, topic in (("ledger", runtime.topics.outcomes), ("delivery", runtime.topics.normal)):
        await read_everything(settings, role, topic)
    assert (await audit(settings, TODAY)).problems == [
        "batch comeback: 1 granted sends have no outcome, and nothing is left in Kafka",
        "batch: the scans denied 1 for no_device, the ledger has 0",
        "batch: the scans denied 1 for opted_out, the ledger has 0",
    ]


async def test_a_gate_that_lost_its_counts_is_a_problem(settings: Settings, runtime: Runtime) -> None:
    await scan_three(settings)
    await write_ledger(settings, runtime)
    redis = connect_redis(settings)
    await redis.flushdb()
    await redis.aclose()
    problems = (await audit(settings, TODAY)).problems
    assert "batch: the scans counted 1 granted, the gate 0" in problems
    assert "batch comeback: the ledger has 1 outcomes for 0 claims that the gate granted" in problems
