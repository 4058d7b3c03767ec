"""The thread that fetches: every partition that has something gets its share of each poll."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import aiokafka
from aiokafka.errors import ConsumerStoppedError
from faust.transport.drivers import aiokafka as stock
from faust.types import TP

from stream.transport.runs import Run

if TYPE_CHECKING:
    from stream.transport.driver import Consumer

POLL = 10_000
"""Records that a poll brings of all partitions that are handed over in runs, about: what is in memory stays small,
and so does what is handled again after a crash."""
SHORTEST, LONGEST = 100, 2_500
"""Of a run, where more is waiting; larger ones win little."""

Records = dict[TP, list[Any]]


class ConsumerThread(stock.AIOKafkaConsumerThread):
    """The stock driver lets one partition fill a poll: where all have a backlog, they take turns of a megabyte each."""

    passed: dict[TP, int]
    """How far the last poll came in each partition it looked at, records or not."""
    _trouble: Exception | None = None

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # What a producer's transaction took back has not happened. Faust asks for it with exactly-once alone.
        consumer._isolation_level = "read_committed"
        return consumer

    def highwater(self, tp: TP) -> int:
        """Up to where records may be read: a transaction that is still open ends it."""
        return cast(int, self._ensure_consumer().last_stable_offset(tp))

    async def _fetch_records(
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        active_partitions: set[TP] | None,
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Records:
        """What every partition has, at most `max_records` each, or a `Run` each for topics that ask for it."""
        self.passed = {}
        if not self.consumer.flow_active:
            return {}
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        if self._trouble:
            trouble, self._trouble = self._trouble, None
            raise trouble
        with fetcher._subscriptions.fetch_context():
            if not _ready(fetcher, active_partitions):
                waiter = fetcher._create_fetch_waiter()
                done, _ = await asyncio.wait([waiter], timeout=timeout)
                if not done:
                    waiter.cancel()
                    return {}
                waiter.result()  # Raises what the group's coordinator found, such as a missing permission.
            return await self._take(fetcher, _ready(fetcher, active_partitions), max_records)

    async def seek_back(self, partition: TP, offset: int) -> None:
        """Fetch from there again; for the loop of the app."""

        async def seek() -> None:
            self._ensure_consumer().seek(partition, offset)

        await self.call_thread(seek)

    async def _take(self, fetcher: Any, ready: list[TP], max_records: int | None) -> Records:
        topics_in_runs = cast("Consumer", self.consumer).topics_in_runs
        share = min(LONGEST, max(SHORTEST, POLL // max(1, len(ready))))
        found: Records = {}
        for tp in ready:
            in_runs = tp.topic in topics_in_runs
            try:
                taken = await fetcher.fetched_records({tp}, 0, max_records=share if in_runs else max_records)
            except Exception as error:
                if not found:
                    raise
                # What was taken of the others is to be handed over first: nobody would fetch it again.
                self._trouble = error
                break
            if records := taken.get(tp):
                found[tp] = [Run(records)] if in_runs else records
            assignment = fetcher._subscriptions.subscription.assignment
            state = assignment.state_value(tp) if assignment and tp in assignment.tps else None
            if state and state.has_valid_position:
                self.passed[tp] = state.position
        return found


def _ready(fetcher: Any, active: set[TP] | None) -> list[TP]:
    """Partitions of which something was fetched; of what was assigned before the fetcher lets go by itself."""
    return [tp for tp in fetcher._records if active is None or tp in active]
