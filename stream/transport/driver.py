"""The transport: Faust's aiokafka driver with runs, fair polls, and commits of its own reckoning.

What it overrides is private to faust-streaming 0.15 and aiokafka 0.14, which the lock pins;
tests/integration/transport/ holds every behaviour against a real broker.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, cast

from faust.transport.drivers import aiokafka as stock
from faust.types import TP, ConsumerMessage, Message

from stream.transport.positions import Positions
from stream.transport.runs import Run, RunSchema
from stream.transport.thread import ConsumerThread


class Consumer(stock.Consumer):
    """Runs in the app's own thread and loop."""

    _thread: ConsumerThread

    def __init__(self, transport: Any, callback: Callable[[Message], Awaitable[None]], *args: Any, **options: Any):
        self._positions = Positions()
        self.topics_in_runs: frozenset[str] = frozenset()

        async def hand(message: Message) -> None:
            if self.app.topics.acks_enabled_for(message.topic):
                self._positions.hand(message.tp, message)
            await callback(message)

        super().__init__(transport, hand, *args, **options)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def subscribe(self, topics: Iterable[str]) -> None:
        channels = list(self.app.topics)
        in_runs = {name for channel in channels if isinstance(channel.schema, RunSchema) for name in channel.topics}
        single = {name for channel in channels if not isinstance(channel.schema, RunSchema) for name in channel.topics}
        if both := in_runs & single:
            raise ValueError(f"topic {min(both)} is read in runs and record by record: give all its readers one schema")
        self.topics_in_runs = frozenset(in_runs)
        await super().subscribe(topics)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """Messages of one poll, partitions in turn; ends early when the group shares out the partitions anew."""
        turns = dict(self._positions.turns)
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if records is None or self.should_stop:
            return
        if not self.flow_active:
            await self._seek_back()
            return
        passed, kept_back = self._thread.passed, dict[TP, int]()
        for tp, record in self.scheduler.iterate(records):
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if self._positions.turns.get(tp, 0) != turns.get(tp, 0) or tp in kept_back:
                continue  # Somebody has sought elsewhere since it was fetched.
            if active is None or tp in active or tp in self._buffered_partitions:
                self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
                yield tp, self._to_message(tp, record)
            else:
                kept_back[tp] = record.first if isinstance(record, Run) else record.offset
        for tp, offset in kept_back.items():
            # Paused since it was fetched. The stock driver drops it; here it is fetched again, when the time comes.
            await self._thread.seek_back(tp, offset)
        for tp, position in passed.items():
            fresh = self._positions.turns.get(tp, 0) == turns.get(tp, 0) and tp not in kept_back
            if fresh and self.app.topics.acks_enabled_for(tp.topic):
                self._positions.reach(tp, position)
                self._acked[tp]  # A commit looks at the partitions that are listed here.

    async def _seek_back(self) -> None:
        # As the stock driver does: what was fetched meanwhile is dropped, so it must be fetched again.
        try:
            await self.perform_seek()
        except Exception as error:
            self.log.warning("could not seek to what was committed: %r", error)

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        if not isinstance(record, Run):
            return super()._to_message(tp, record)
        message = super()._to_message(tp, record.records[-1])
        message.key, message.value, message.headers = None, cast(Any, record), None
        return message

    def _new_offset(self, tp: TP) -> int | None:
        # Faust keeps lists of what was acknowledged; ours is the line. Emptied, so that they do not grow.
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self._positions.committable(tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: a line has no gaps."""

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        # Waits for what is in hand and commits it, then forgets the rest.
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._positions.forget(tp)

    async def seek(self, partition: TP, offset: int) -> None:
        self._positions.forget(partition)
        self._committed_offset.pop(partition, None)
        await super().seek(partition, offset)

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        for tp in partitions:
            self._positions.forget(tp)
            self._committed_offset.pop(tp, None)
        await super().seek_wait(partitions)


class Transport(stock.Transport):
    """For brokers of the URL scheme `kafka+runs`."""

    Consumer = Consumer
