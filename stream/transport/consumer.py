"""What is committed, and from where a partition is read: the consumer's lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from faust.transport.drivers import aiokafka as stock
from faust.types import TP
from faust.types.transports import TPorTopicSet
from faust.types.tuples import ack_lock

from stream.transport.positions import Lines
from stream.transport.thread import ConsumerThread


class LinedConsumer(stock.Consumer):
    """Commits up to where a line is done; whoever reads from somewhere else begins a new one."""

    _thread: ConsumerThread

    def __init__(self, *args: Any, **options: Any) -> None:
        self.lines = Lines()
        super().__init__(*args, **options)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def _filter_tps_with_pending_acks(self, topics: TPorTopicSet | None = None) -> Iterator[TP]:
        mine = cast(Iterator[TP], iter(self.lines))
        return (tp for tp in mine if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        # Faust keeps lists of what was acknowledged; ours is the line. Emptied, so that they do not grow.
        self._forget_acks(tp)
        return self.lines.of(tp).settle()

    def _forget_acks(self, *partitions: TP) -> None:
        with ack_lock:
            for tp in partitions:
                self._acked.pop(tp, None)
                self._acked_index.pop(tp, None)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: a line has no gaps."""

    async def commit_and_end_transactions(self) -> None:
        # Faust's last words for what is done: while another commit is under way it would wait for that one instead.
        await self.maybe_wait_for_commit_to_finish()
        await super().commit_and_end_transactions()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        # Waits for what is in hand and commits it, where the app is set so; then nothing of it counts any more.
        await super().on_partitions_revoked(revoked)
        if revoked and not self.app.should_stop:
            await self.commit_and_end_transactions()
        for tp in revoked:
            self.lines.replace(tp)

    async def _seek(self, partition: TP, offset: int) -> None:
        await self._thread.read_from({partition: offset})
        # What is committed follows, also backwards.
        self._committed_offset.pop(partition, None)
        self._forget_acks(partition)

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        await super().seek_wait(partitions)
        for tp in partitions:
            self._committed_offset.pop(tp, None)
        self._forget_acks(*partitions)

    async def perform_seek(self) -> None:
        committed = await self._thread.read_from_committed(cast(Mapping[TP, int], self.lines.firsts()))
        self._committed_offset.update(committed)
        self._forget_acks(*committed)
