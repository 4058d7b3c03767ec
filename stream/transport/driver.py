"""The transport: Faust's aiokafka driver with runs, fair polls, and commits of its own reckoning.

What it and its neighbours override is private to faust-streaming 0.15 and aiokafka 0.14, which the lock pins;
tests/integration/transport/ holds every behaviour against a real broker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, cast
from weakref import WeakSet

from faust.transport.drivers import aiokafka as stock
from faust.types import TP, ConsumerMessage, Message

from stream.transport.consumer import LinedConsumer
from stream.transport.runs import Run, RunSchema
from stream.transport.thread import Take

IN_HAND = 40_000
"""Records in runs that are handed over and not acknowledged, at most, but for a partition that has none and one more
poll: what is in memory, and what others have waiting ahead of them."""


class Consumer(LinedConsumer):
    """Hands over what the thread has fetched. Runs in the app's own thread and loop."""

    def __init__(self, transport: Any, callback: Callable[[Message], Awaitable[None]], *args: Any, **options: Any):
        self.topics_in_runs: frozenset[str] = frozenset()
        self._fetched: dict[TP, deque[Take]] = {}
        """Taken from the thread and not handed over: stays until it is, or until its line is replaced."""
        self._offered: Take | None = None
        self._full = False
        """A partition is left out of polls until there is room."""
        self._assigning = self._resumed = False
        """The flow was stopped: what streams had waiting may be gone."""

        async def hand(message: Message) -> None:
            await self._hand(message, callback)

        super().__init__(transport, hand, *args, **options)
        self._unacked_messages = _Unacked(self._on_done)

    async def subscribe(self, topics: Iterable[str]) -> None:
        channels = list(self.app.topics)
        in_runs = {name for channel in channels if isinstance(channel.schema, RunSchema) for name in channel.topics}
        single = {name for channel in channels if not isinstance(channel.schema, RunSchema) for name in channel.topics}
        if both := in_runs & single:
            raise ValueError(f"topic {min(both)} is read in runs and record by record: give all its readers one schema")
        self.topics_in_runs = frozenset(in_runs)
        await super().subscribe(topics)

    # Handing over

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """Messages of one poll and what the last one left, partitions in turn, while the flow is not stopped."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type]  # mode's Event and asyncio's are alike
        if self.should_stop:
            return
        if self._resumed:
            self._resumed = False
            await self._hand_again()
        await self._fetch(timeout)
        stays = set[TP]()
        for tp, take in self.scheduler.iterate({tp: list(takes) for tp, takes in self._fetched.items()}):
            if not self.flow_active or self.should_stop:
                return
            if tp in stays:
                continue
            if take.line is not self.lines.of(tp) or take.record is None:
                if take.record is None and self.app.topics.acks_enabled_for(tp.topic):
                    take.line.skip(take.end)
                self._gone(take)
            elif self._is_active(tp):
                if (end := self._thread.ends.get(tp)) is not None:
                    self.app.monitor.track_tp_end_offset(tp, end)
                # Faust drops what lies before the last one that it saw, such as runs that were cut elsewhere before.
                self._read_offset[tp] = None
                self._offered = take
                yield tp, self._to_message(tp, take.record)
                if self._offered is take:
                    return  # The flow was stopped while it was handed over.
            else:
                stays.add(tp)  # Paused since it was fetched, or its buffer is full.

    async def _fetch(self, timeout: float) -> None:
        self._thread.woken = False
        # Without a rest: what was left may have become possible to hand over.
        rest = 0.0 if any(self._is_active(tp) for tp in self._fetched) else timeout
        await self._thread.poll(self._wanted(), rest)
        while self._thread.taken:
            take = self._thread.taken.popleft()
            self._fetched.setdefault(take.tp, deque()).append(take)

    def _wanted(self) -> set[TP] | None:
        """Partitions of which more may be taken; None for all."""
        if self.app.client_only:
            return None
        self._full = self.lines.in_hand() >= IN_HAND
        full = {tp for tp in self.lines if self._full and self.lines.of(tp).size}
        return self._get_active_partitions() - self._fetched.keys() - full

    def _is_active(self, tp: TP) -> bool:
        return bool(self.app.client_only or (tp in self._active_partitions and not self._assigning))

    async def _hand(self, message: Message, callback: Callable[[Message], Awaitable[None]]) -> None:
        take = self._offered
        assert take, "what is handed over was yielded before"
        if self.app.topics.acks_enabled_for(message.topic):
            run = take.record if isinstance(take.record, Run) else None
            take.line.hand(message, run.first if run else message.offset, take.end, len(run) if run else 0)
        try:
            await callback(message)
        except BaseException:
            take.line.withdraw(message)
            raise
        self._offered = None
        self._gone(take)

    def _gone(self, take: Take) -> None:
        takes = self._fetched.get(take.tp)
        if takes and takes[0] is take:
            takes.popleft()
            if not takes:
                del self._fetched[take.tp]

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        if not isinstance(record, Run):
            return super()._to_message(tp, record)
        message = super()._to_message(tp, record.records[-1])
        message.key, message.value, message.headers = None, cast(Any, record), None
        return message

    def _on_done(self) -> None:
        if self._full and self.lines.in_hand() < IN_HAND:
            self._full = False
            self._thread.wake()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._buffered_partitions.clear()  # The buffers were emptied when all was revoked.
        # Who had no partitions has no flow that was stopped: nothing may come before topics know their agents.
        self._assigning = True
        try:
            await super().on_partitions_assigned(assigned, generation_id)
        finally:
            self._assigning = False

    async def _hand_again(self) -> None:
        firsts = cast(dict[TP, int], self.lines.firsts())
        for tp in self.lines:
            if tp not in firsts:
                self.lines.of(tp).frozen = False
        if firsts:
            await self._thread.read_from(firsts, {tp: self.lines.of(tp) for tp in firsts})
            self._forget_acks(*firsts)

    # Pauses

    def stop_flow(self) -> None:
        super().stop_flow()
        if self.should_stop or not self.app.conf.stream_wait_empty:
            # Nobody waits for handlers: Faust cuts them off, and acknowledges what they had in hand.
            for line in self.lines.all():
                line.settle()
                line.frozen = True
        self._thread.wake()

    def resume_flow(self) -> None:
        self._resumed = self._resumed or not self.flow_active
        super().resume_flow()
        self._thread.wake()

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        super().resume_partitions(tps)
        self._thread.wake()

    def on_buffer_drop(self, tp: TP) -> None:
        # The stock driver reads paused partitions again, and such as were taken away.
        if tp in self._buffered_partitions and (tp in self._paused_partitions or tp not in self.assignment()):
            self._buffered_partitions.discard(tp)
        super().on_buffer_drop(tp)
        self._thread.wake()


class _Unacked(WeakSet[Message]):
    """Messages that streams have in hand; tells when one of them is done."""

    def __init__(self, on_done: Callable[[], None]) -> None:
        super().__init__()
        self._on_done = on_done

    def discard(self, item: Message) -> None:
        super().discard(item)
        self._on_done()


class Transport(stock.Transport):
    """For brokers of the URL scheme `kafka+runs`."""

    Consumer = Consumer
