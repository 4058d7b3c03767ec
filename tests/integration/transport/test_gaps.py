"""Offsets that no record has: what was compacted, deleted, taken back, or marks a transaction's end."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.transport.broker import Broker, until
from tests.integration.transport.harness import Reader, commit, create_app, running

BOTH = pytest.mark.parametrize("in_runs", [True, False], ids=["runs", "singles"])


@BOTH
async def test_a_compacted_topic_is_read_over_its_gaps(broker: Broker, in_runs: bool) -> None:
    await broker.configure(log_cleaner_backoff_ms="50")
    quick: dict[str, Any] = {"segment_ms": "100", "min_cleanable_dirty_ratio": "0.001", "delete_retention_ms": "0"}
    topic = await broker.topic(cleanup_policy="compact", max_compaction_lag_ms="100", **quick)
    kept: list[int] = []

    async def compacted() -> bool:
        # A segment is closed by a write that comes when it is old enough.
        kept.extend(await broker.write(topic, 0, b"new", key=b"%d" % len(kept)))
        return await broker.count(topic) < 400

    for n in range(1_000):
        await broker.write(topic, 0, b"old", key=b"%d" % (n % 7)) if n < 10 else None
    for _ in range(10):
        await broker.write(topic, 0, *[b"old"] * 100, key=b"same")
    await until(compacted)
    reader = Reader(app := create_app(broker.address), topic, in_runs=in_runs)
    async with running(app):
        await until(lambda: broker.done(app.conf.id, topic))
    offsets = reader.offsets()
    assert offsets == sorted(set(offsets))
    assert len(offsets) < 400 < offsets[-1]
    assert kept[-1] == offsets[-1]


@BOTH
async def test_records_deleted_before_the_start_are_passed(broker: Broker, in_runs: bool) -> None:
    topic = await broker.topic()
    await broker.write(topic, 0, *[b"x"] * 100)
    await broker.delete_before(topic, 0, 60)
    reader = Reader(app := create_app(broker.address), topic, in_runs=in_runs)
    async with running(app):
        await until(lambda: broker.done(app.conf.id, topic))
    assert reader.offsets() == list(range(60, 100))


async def test_records_deleted_while_the_app_is_away_are_passed(broker: Broker) -> None:
    topic = await broker.topic()
    await broker.write(topic, 0, *[b"x"] * 50)
    first = Reader(app := create_app(broker.address), topic)
    async with running(app):
        await until(lambda: broker.done(app.conf.id, topic))
    await broker.write(topic, 0, *[b"x"] * 50)
    await broker.delete_before(topic, 0, 80)
    second = Reader(app := create_app(broker.address, app.conf.id), topic)
    async with running(app):
        await until(lambda: broker.done(app.conf.id, topic))
    assert first.offsets() + second.offsets() == [*range(50), *range(80, 100)]


@BOTH
async def test_an_aborted_transaction_is_never_handed_over(broker: Broker, in_runs: bool) -> None:
    topic = await broker.topic()
    await broker.write(topic, 0, b"before")
    async with broker.transaction() as producer:
        for _ in range(10):
            await producer.send_and_wait(topic, b"taken back", partition=0)
        await producer.abort_transaction()
    await broker.write(topic, 0, b"after")
    reader = Reader(app := create_app(broker.address), topic, in_runs=in_runs)
    async with running(app):
        await until(lambda: broker.done(app.conf.id, topic))
    assert [record.value for record in reader.records] == [b"before", b"after"]


@BOTH
@pytest.mark.parametrize("ends", ["commit", "abort"])
async def test_a_transaction_at_the_end_leaves_no_lag(broker: Broker, in_runs: bool, ends: str) -> None:
    topic = await broker.topic()
    reader = Reader(app := create_app(broker.address), topic, in_runs=in_runs)
    async with running(app):
        await broker.write(topic, 0, b"before")
        async with broker.transaction() as producer:
            await producer.send_and_wait(topic, b"in it", partition=0)
            await (producer.commit_transaction() if ends == "commit" else producer.abort_transaction())
        await until(lambda: broker.done(app.conf.id, topic))
    assert (await broker.ends(topic))[0] == 3
    assert [record.value for record in reader.records] == [b"before", b"in it"][: 2 if ends == "commit" else 1]


async def test_a_topic_of_nothing_but_aborted_transactions_is_committed_to_its_end(broker: Broker) -> None:
    topic = await broker.topic()
    async with broker.transaction() as producer:
        await producer.send_and_wait(topic, b"taken back", partition=0)
        await producer.abort_transaction()
    reader = Reader(app := create_app(broker.address), topic)
    async with running(app):
        await until(lambda: broker.done(app.conf.id, topic))
    assert reader.records == []


async def test_an_open_transaction_holds_back_what_comes_after_it(broker: Broker) -> None:
    topic = await broker.topic(2)
    await broker.write(topic, 0, b"before")
    reader = Reader(app := create_app(broker.address), topic)
    async with broker.transaction() as producer, running(app):
        await producer.send_and_wait(topic, b"in it", partition=0)
        await broker.write(topic, 0, b"after")
        await broker.write(topic, 1, b"elsewhere")
        await until(lambda: len(reader.records) == 2)
        await commit(app)
        assert {record.value for record in reader.records} == {b"before", b"elsewhere"}
        assert await broker.committed(app.conf.id, topic) == {0: 1, 1: 1}
        await producer.commit_transaction()
        await until(lambda: broker.done(app.conf.id, topic))
    assert [record.value for record in reader.records if record.partition == 0] == [b"before", b"in it", b"after"]
