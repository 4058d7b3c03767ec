"""Our whole path: batches go into Kafka, a delivery worker does what it always does, outcomes come back by Kafka."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.bench.deliver.child import Child
from infra.bench.deliver.material import KIND, sends
from infra.bench.deliver.report import BenchError, Report
from infra.bench.latency import Latency, measure_latency
from shared.gate import RedisGate
from shared.keyspace import open_keyspace
from shared.policy.kinds import Path
from shared.producer import Producer, Record
from shared.settings import Settings
from shared.topics import Topics
from shared.wire.sends import Outcome, Platform, Result, Send, SendBatch, decode_outcomes, encode


class _Awaited:
    """Sends whose outcomes somebody waits for."""

    def __init__(self, n: int) -> None:
        self.left = n
        self.outcomes: list[Outcome] = []
        self.done: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()

    def add(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(self.outcomes)


class WholePath:
    """A worker, and this process as those who plan before it and read after it. `async with` it."""

    def __init__(self, settings: Settings, worker: Child) -> None:
        self._settings = settings
        self._worker = worker
        self._clock = settings.clock()
        self._topics = Topics.of(settings)
        self._keyspace = open_keyspace(settings)
        self._gate = RedisGate(self._keyspace, settings)
        self._producer = Producer(settings)
        self._consumer = AIOKafkaConsumer(bootstrap_servers=settings.require_kafka())
        self._awaited: dict[int, _Awaited] = {}
        self._users = 0

    async def __aenter__(self) -> WholePath:
        await self._consumer.start()
        partitions = [TopicPartition(self._topics.outcomes, n) for n in range(self._settings.partitions)]
        self._consumer.assign(partitions)
        await self._consumer.seek_to_end(*partitions)
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading
        await self._worker.close()
        await self._consumer.stop()
        await self._producer.close()
        await self._keyspace.close()

    async def push(self, pushes: int, within: float, platform: Platform) -> Report:
        """Deliver so many claimed sends; the time runs from the first write to the last outcome that is read."""
        batches = await self._planned(pushes, platform)
        awaited = self._await([send for batch in batches for send in batch.sends])
        records = [Record(self._topics.normal, None, encode(batch)) for batch in batches]
        before = await self._worker.push(0, within)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(within):
                await self._producer.write(records)
                outcomes = await awaited.done
        except TimeoutError:
            await self._worker.push(0, within)  # Where it has ended, that says more.
            raise BenchError(f"{awaited.left} of {pushes} outcomes missing after {within:.0f} s") from None
        seconds = loop.time() - began
        after = await self._worker.push(0, within)
        _all_accepted(outcomes)
        return Report(seconds, after.cpu_seconds - before.cpu_seconds, after.peak_rss_mb)

    async def latencies(self, rate: float, seconds: float) -> tuple[Latency, Latency]:
        """With so many pushes a second: from Kafka to accepted, and to the outcome that is read from Kafka.

        Accepted is when the worker calls it decided, which is after its batch is settled at the gate, too.
        """
        size = self._settings.send_batch
        messages = max(10, round(rate * seconds / size))
        batches = await self._planned(messages * size, "ios")
        took: list[float] = []

        async def one(n: int) -> None:
            awaited = self._await(batches[n].sends)
            began = self._clock.now()
            await self._producer.write([Record(self._topics.normal, None, encode(batches[n]))])
            outcomes = await awaited.done
            _all_accepted(outcomes)
            if n >= messages // 10:
                took.extend((outcome.decided_at - began) * 1000 for outcome in outcomes)

        async with asyncio.timeout(20 * seconds + 60):
            read = await measure_latency(one, rate / size, messages)
        return Latency.of(took), read

    async def _planned(self, n: int, platform: Platform) -> list[SendBatch]:
        """Sends of users that had none, claimed as the batch path claims them."""
        now = self._clock.now()
        planned = sends(self._users, n, now, platform)
        self._users += n
        size = self._settings.send_batch
        batches = [SendBatch(Path.batch, now, tuple(planned[at : at + size])) for at in range(0, n, size)]
        for batch in batches:
            users = [send.user_id for send in batch.sends]
            await self._gate.claim(Path.batch, KIND.name, batch.sends[0].local_date, users)
        return batches

    def _await(self, of: list[Send] | tuple[Send, ...]) -> _Awaited:
        awaited = _Awaited(len(of))
        self._awaited.update((send.user_id, awaited) for send in of)
        return awaited

    async def _read(self) -> None:
        async for message in self._consumer:
            for outcome in decode_outcomes(message.value).outcomes:
                if awaited := self._awaited.pop(outcome.user_id, None):
                    awaited.add(outcome)


def _all_accepted(outcomes: list[Outcome]) -> None:
    bad = Counter(f"{each.result.name} {each.reason}" for each in outcomes if each.result is not Result.delivered)
    if bad:
        raise BenchError(f"not accepted: {', '.join(f'{n} {what}' for what, n in bad.items())}")
