"""What a topic that asks for runs is handed, and what one is that does not."""

from __future__ import annotations

import pytest

from stream.transport.thread import LONGEST
from tests.integration.transport.broker import Broker, until
from tests.integration.transport.harness import Reader, create_app, running


async def test_every_record_comes_once_and_in_order(broker: Broker) -> None:
    topic = await broker.topic(4)
    for partition in range(4):
        await broker.fill(topic, partition, 6_000)
    reader = Reader(app := create_app(broker.address), topic)
    async with running(app):
        await until(lambda: len(reader.records) >= 24_000)
        await until(lambda: broker.done(app.conf.id, topic))
    assert [reader.offsets(partition) for partition in range(4)] == [list(range(6_000))] * 4


async def test_a_run_is_of_one_partition_and_not_too_long(broker: Broker) -> None:
    topic = await broker.topic(2)
    for partition in range(2):
        await broker.fill(topic, partition, 6_000)
    reader = Reader(app := create_app(broker.address), topic)
    async with running(app):
        await until(lambda: len(reader.records) >= 12_000)
    assert {len({record.partition for record in run}) for run in reader.handed} == {1}
    assert max(map(len, reader.handed)) == LONGEST


async def test_records_are_as_they_were_written(broker: Broker) -> None:
    topic = await broker.topic()
    headers = [("trace", b"1"), ("trace", b"2"), ("empty", b"")]
    await broker.write(topic, 0, b"\x00\xff", key=b"\x00key", headers=headers, timestamp_ms=1_700_000_000_123)
    await broker.write(topic, 0, None, key=b"")
    reader = Reader(app := create_app(broker.address), topic)
    async with running(app):
        await until(lambda: len(reader.records) == 2)
    first, second = reader.records
    assert (first.key, first.value, first.headers) == (b"\x00key", b"\x00\xff", tuple(headers))
    assert first.timestamp == 1_700_000_000_123
    assert (second.key, second.value, second.headers) == (b"", None, ())


async def test_compressed_batches_are_records(broker: Broker) -> None:
    topic = await broker.topic(compression_type="gzip")
    await broker.write(topic, 0, *(b"%d" % n for n in range(100)))
    reader = Reader(app := create_app(broker.address), topic)
    async with running(app):
        await until(lambda: len(reader.records) == 100)
    assert [record.value for record in reader.records] == [b"%d" % n for n in range(100)]


async def test_one_app_reads_one_topic_in_runs_and_another_record_by_record(broker: Broker) -> None:
    one, other = await broker.topic(), await broker.topic()
    await broker.write(one, 0, *[b"x"] * 100)
    await broker.write(other, 0, *[b"y"] * 100, key=b"k", headers=[("h", b"1")])
    app = create_app(broker.address)
    runs, singles = Reader(app, one), Reader(app, other, in_runs=False)
    async with running(app):
        await until(lambda: len(runs.records) == len(singles.records) == 100)
        await until(lambda: broker.done(app.conf.id, one))
        await until(lambda: broker.done(app.conf.id, other))
    assert len(runs.handed) < 100
    assert [len(each) for each in singles.handed] == [1] * 100
    assert singles.offsets() == list(range(100))
    message = singles.records[0]
    assert (message.key, message.value, message.headers) == (b"k", b"y", (("h", b"1"),))


async def test_a_topic_that_is_read_both_ways_is_refused(broker: Broker) -> None:
    topic = await broker.topic()
    app = create_app(broker.address)
    Reader(app, topic)
    Reader(app, topic, in_runs=False)
    with pytest.raises(ValueError, match=f"topic {topic} is read in runs and record by record: give all its readers"):
        async with running(app):
            await until(lambda: app.crashed)


async def test_two_agents_on_one_topic_both_get_all(broker: Broker) -> None:
    topic = await broker.topic()
    await broker.fill(topic, 0, 5_000)
    app = create_app(broker.address)
    first = Reader(app, topic)
    second = Reader(app, topic, name="second")
    async with running(app):
        await until(lambda: len(first.records) >= 5_000 and len(second.records) >= 5_000)
        await until(lambda: broker.done(app.conf.id, topic))
    assert first.offsets() == second.offsets() == list(range(5_000))
