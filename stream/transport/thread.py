"""The thread that fetches: every partition that has something gets its share of each poll."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import aiokafka
from aiokafka.errors import ConsumerStoppedError
from aiokafka.structs import ConsumerRecord
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as stock
from faust.types import TP

from stream.transport.positions import Line
from stream.transport.runs import Run

if TYPE_CHECKING:
    from stream.transport.driver import Consumer

POLL = 10_000
"""Records that a poll brings of all partitions that are handed over in runs, about: so few are handled again after a
crash, and a partition's turn comes soon."""
SHORTEST, LONGEST = 100, 2_500
"""Of a run, where more is waiting; larger ones win little."""
FETCH_WAIT_MS = 100
"""The broker answers after so long where there is nothing. Faust's own 1.5 s is what a partition with a backlog
waits for its next megabyte whenever the others are idle: there is one request at a time to a broker."""


class Take(NamedTuple):
    """What was fetched, to be handed over while its line is in force."""

    tp: TP
    line: Line
    record: ConsumerRecord[bytes, bytes] | Run | None
    """None: what was passed had no record to hand over."""
    end: int
    """Where the next one begins."""


class ConsumerThread(stock.AIOKafkaConsumerThread):
    """The stock driver lets one partition fill a poll: where all have a backlog, they take turns of a megabyte each.

    Where to read from is changed here and nowhere else, and with it the partition's line: so what was fetched belongs
    to the line that was in force when it was.
    """

    consumer: Consumer

    def __post_init__(self) -> None:
        super().__post_init__()
        self.taken: deque[Take] = deque()
        """For the app's loop, which may give up waiting for a poll: nothing of it is lost."""
        self.ends: dict[TP, int] = {}
        """Up to where the partitions may be read, as the last fetch found it."""
        self.woken = False
        self._waiter: asyncio.Future[None] | None = None
        self._trouble: Exception | None = None

    def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_consumer(loop)
        # What a producer's transaction took back has not happened. Faust asks for it with exactly-once alone.
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer

    def highwater(self, tp: TP) -> int:
        """Up to where records may be read: a transaction that is still open ends it."""
        consumer = self._ensure_consumer()
        stable = consumer.last_stable_offset(tp)
        # Not known before the first fetch, and to old brokers never.
        return cast(int, consumer.highwater(tp) if stable is None or stable < 0 else stable)

    def wake(self) -> None:
        """A poll that waits ends: what it waits for may have changed. From any thread."""
        self.woken = True
        if self._consumer is not None:
            with suppress(RuntimeError):  # Its loop is closed: nothing waits any more.
                self.thread_loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    async def poll(self, partitions: Collection[TP] | None, timeout: float) -> None:
        """Wait until one of these has something, and take of each that has; of all, if None."""
        await self.call_thread(self._poll, partitions, timeout)

    async def _poll(self, partitions: Collection[TP] | None, timeout: float) -> None:
        consumer = self._ensure_consumer()
        fetcher = consumer._fetcher
        if not self.consumer.flow_active:
            return
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        if self._trouble:
            trouble, self._trouble = self._trouble, None
            raise trouble
        with fetcher._subscriptions.fetch_context():
            if not _ready(fetcher, partitions) and not self.woken:
                self._waiter = fetcher._create_fetch_waiter()
                done, _ = await asyncio.wait([self._waiter], timeout=timeout)
                if not done:
                    self._waiter.cancel()
                    return
                self._waiter.result()  # Raises what the group's coordinator found, such as a missing permission.
            await self._take(consumer, _ready(fetcher, partitions))

    async def _take(self, consumer: aiokafka.AIOKafkaConsumer, ready: list[Any]) -> None:
        fetcher = consumer._fetcher
        share = min(LONGEST, max(SHORTEST, POLL // max(1, len(ready))))
        for at, tp in enumerate(map(ensure_TP, ready)):
            in_runs = tp.topic in self.consumer.topics_in_runs
            try:
                # Nothing is awaited in there: no seek and no other assignment comes between.
                records = await fetcher.fetched_records({tp}, 0, share if in_runs else consumer._max_poll_records)
            except Exception as error:
                if not at:
                    raise
                # What was taken of the others is to be handed over first: nobody would fetch it again.
                self._trouble = error
                return
            state = fetcher._subscriptions.subscription.assignment.state_value(tp)
            if state is not None and state.has_valid_position:
                self.ends[tp] = state.highwater if state.lso is None or state.lso < 0 else state.lso
                self.taken.extend(_takes(tp, self.consumer.lines.of(tp), records.get(tp), in_runs, state.position))

    async def read_from(self, offsets: Mapping[TP, int], lines: Mapping[TP, Line] | None = None) -> None:
        """Go on from there; where `lines` are given only partitions for which they are still in force."""
        await self.call_thread(self._read_from, offsets, lines)

    async def _read_from(self, offsets: Mapping[TP, int], lines: Mapping[TP, Line] | None = None) -> None:
        consumer = self._ensure_consumer()
        for tp, offset in offsets.items():
            if lines is None:
                consumer.seek(tp, offset)  # First: it may refuse.
                self.consumer.lines.replace(tp)
            elif lines[tp] is self.consumer.lines.of(tp) and tp in consumer.assignment():
                consumer.seek(tp, offset)
                self.consumer.lines.replace(tp)

    async def _seek_wait(self, consumer: aiokafka.AIOKafkaConsumer, partitions: Mapping[TP, int]) -> None:
        await self._read_from(partitions)
        await super()._seek_wait(consumer, partitions)

    async def read_from_committed(self, otherwise: Mapping[TP, int]) -> dict[TP, int | None]:
        """Go on from what is committed, and where nothing is from `otherwise`; what is committed."""
        found = await self.call_thread(self._read_from_committed, otherwise)
        return cast(dict[TP, int | None], found)

    async def _read_from_committed(self, otherwise: Mapping[TP, int]) -> dict[TP, int | None]:
        consumer = self._ensure_consumer()
        subscription = consumer._subscription.subscription
        assignment = subscription and subscription.assignment
        if not assignment:
            return {}
        found = await consumer._coordinator.fetch_committed_offsets(list(assignment.tps))
        if not assignment.active:
            return {}  # Shared out anew meanwhile: what is assigned now begins at its commits by itself.
        committed = {ensure_TP(tp): found[tp].offset if tp in found else -1 for tp in assignment.tps}
        # aiokafka's own leaves partitions where they are that are committed at 0, or not yet.
        places = {tp: otherwise.get(tp, -1) if at < 0 else at for tp, at in committed.items()}
        await self._read_from({tp: at for tp, at in places.items() if at >= 0})
        return {tp: at if at >= 0 else None for tp, at in committed.items()}


def _ready(fetcher: Any, partitions: Collection[TP] | None) -> list[Any]:
    """Partitions of which something was fetched; of what was assigned before the fetcher lets go by itself."""
    if fetcher._subscriptions.reassignment_in_progress:
        return []
    return [tp for tp in fetcher._records if partitions is None or tp in partitions]


def _takes(tp: TP, line: Line, records: list[Any] | None, in_runs: bool, position: int) -> Iterator[Take]:
    # Behind the last record may lie some that nobody gets: the position of the fetcher is after them.
    if not records:
        yield Take(tp, line, None, position)
    elif in_runs:
        yield Take(tp, line, Run(records), position)
    else:
        yield from (Take(tp, line, record, record.offset + 1) for record in records[:-1])
        yield Take(tp, line, records[-1], position)
