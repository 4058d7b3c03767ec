"""What Kafka knows of a date: every outcome that was written, and the sends that nobody has answered for yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Self

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaTimeoutError

from batch.audit.facts import RANKING, RECORD, Group, Numbers
from batch.audit.spool import Spool
from batch.audit.tables import Watch
from shared.lag import group_of
from shared.settings import Settings
from shared.topics import Topics
from shared.wire.sends import decode_outcomes, decode_sends

Offsets = dict[TopicPartition, int]
Take = Callable[[TopicPartition, Sequence[Any]], None]

_EARLY = timedelta(hours=14 + 24)
"""A local date begins 14 hours before UTC's in the east; and a day more, for the clocks of who stamps the messages."""
_SILENCE_SECONDS = 30.0
_MESSAGES = 500
"""Fetched at a time, each of up to 500 outcomes."""


class Reader:
    """Reads topics beside the engine, as no member of its groups. `async with` it; raises aiokafka's `KafkaError`."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.topic_prefix
        self._partitions = settings.partitions
        self._admin = AIOKafkaAdminClient(bootstrap_servers=settings.require_kafka())
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.require_kafka(),
            enable_auto_commit=False,
            # What retention deletes while we read must not be skipped in silence.
            auto_offset_reset="none",
        )

    async def __aenter__(self) -> Self:
        try:
            await self._admin.start()
            await self._consumer.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()
        await self._admin.close()

    async def beginnings(self, *topics: str) -> Offsets:
        """The first offsets that are left."""
        return dict(await self._consumer.beginning_offsets(self._of(topics)))

    async def ends(self, *topics: str) -> Offsets:
        """The offsets that the next messages will have."""
        return dict(await self._consumer.end_offsets(self._of(topics)))

    async def since(self, topic: str, instant: datetime) -> Offsets:
        """The first offsets that were written at an instant or later, by the writers' clocks."""
        # The ends first: what arrives in between is found by its time.
        ends = await self.ends(topic)
        found = await self._consumer.offsets_for_times(dict.fromkeys(ends, int(instant.timestamp() * 1000)))
        return {partition: found[partition].offset if found.get(partition) else end for partition, end in ends.items()}

    async def committed(self, role: str, *topics: str) -> Offsets:
        """How far a role's group has come, in one look at all partitions."""
        partitions = self._of(topics)
        try:
            found = await self._admin.list_consumer_group_offsets(group_of(role, self._prefix), partitions=partitions)
        except GroupCoordinatorNotAvailableError:
            found = {}  # No group has ever committed on this cluster: its offsets topic is being made.
        beginnings = await self.beginnings(*topics)
        return {
            partition: max(beginnings[partition], found[partition].offset if partition in found else 0)
            for partition in partitions
        }

    async def read(self, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int], take: Take) -> None:
        """Hand over every message from the starts up to the ends, and none behind them."""
        left = {partition: end for partition, end in ends.items() if starts[partition] < end}
        if not left:
            return
        self._consumer.assign(list(left))
        for partition in left:
            self._consumer.seek(partition, starts[partition])
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _SILENCE_SECONDS
        while left:
            for partition, found in (await self._consumer.getmany(timeout_ms=200, max_records=_MESSAGES)).items():
                deadline = loop.time() + _SILENCE_SECONDS
                take(partition, [record for record in found if record.offset < ends[partition]])
            for partition in list(left):
                # Not the last record's offset: some have no record, a transaction's end for one.
                if await self._consumer.position(partition) >= left[partition]:
                    del left[partition]
                    self._consumer.pause(partition)
            if loop.time() > deadline:
                raise KafkaTimeoutError(f"no message of {', '.join(map(str, left))} came")

    def _of(self, topics: Sequence[str]) -> list[TopicPartition]:
        return [TopicPartition(topic, n) for topic in topics for n in range(self._partitions)]


class Outcomes:
    """The outcomes of a date, read on from look to look."""

    def __init__(self, reader: Reader, settings: Settings, day: date, groups: Numbers[Group], watch: Watch) -> None:
        self._reader = reader
        self._topic = Topics.of(settings).outcomes
        # Messages carry the machine's time, which says nothing of a virtual clock's dates.
        self._timed = settings.clock_file is None
        self._day = day
        self._groups = groups
        self._watch = watch
        self._positions: Offsets = {}
        self._last: Offsets = {}
        """Behind each partition's last message with an outcome of the date."""
        self.complete = True
        """Whether the topic reaches back to the date's beginning. If not, only what the ledger has not read is read."""

    async def open(self) -> None:
        """Find where to begin."""
        beginnings = await self._reader.beginnings(self._topic)
        starts = beginnings
        if self._timed:
            midnight = datetime.combine(self._day, time(), UTC)
            starts = await self._reader.since(self._topic, midnight - _EARLY)
        # Where a message is left that is older than the date, none of the date was deleted.
        self.complete = all(not first or starts[partition] > first for partition, first in beginnings.items())
        self._positions = starts if self.complete else await self._reader.committed("ledger", self._topic)

    async def read_on(self, spool: Spool) -> None:
        """Append what the topic has by now."""
        ends = await self._reader.ends(self._topic)
        total = sum(ends.values()) - sum(self._positions.values())
        read = 0

        def take(partition: TopicPartition, messages: Sequence[Any]) -> None:
            nonlocal read
            facts: list[tuple[int, int, int]] = []
            for message in messages:
                known = len(facts)
                self._decode(message.value, facts)
                if len(facts) > known:
                    self._last[partition] = message.offset + 1
            if facts:
                spool.add(np.array(facts, RECORD))
            read += len(messages)
            self._watch("messages of outcomes", read, total)

        await self._reader.read(self._positions, ends, take)
        self._positions = ends

    def unread(self, committed: Mapping[TopicPartition, int]) -> bool:
        """Whether a message with outcomes of the date lies behind these offsets, of what has been read here."""
        return any(end > committed[partition] for partition, end in self._last.items())

    def _decode(self, value: bytes | None, facts: list[tuple[int, int, int]]) -> None:
        try:
            batch = decode_outcomes(value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return  # The ledger can't read it either; it is in the dead letters.
        numbers: dict[tuple[str, str], int] = {}  # A message has few groups and hundreds of outcomes.
        for outcome in batch.outcomes:
            if outcome.local_date == self._day:
                names = outcome.kind, outcome.campaign
                if names not in numbers:
                    numbers[names] = self._groups.of(Group(batch.path, *names))
                facts.append((outcome.user_id, numbers[names], _MARKS[outcome.result]))


_MARKS = {result: mark for mark, result in enumerate(RANKING)}


async def read_under_way(reader: Reader, settings: Settings, day: date, groups: Numbers[Group], spool: Spool) -> int:
    """The date's sends that delivery has not answered for; how many messages of all dates they are among.

    One look at all offsets: whoever moves a send from one topic to another writes it there before he commits here.
    """
    topics = Topics.of(settings)
    names = (topics.urgent, topics.normal, topics.blast, topics.parked)
    starts = await reader.committed("delivery", *names)
    ends = await reader.ends(*names)

    def take(_: TopicPartition, messages: Sequence[Any]) -> None:
        for message in messages:
            try:
                batch = decode_sends(message.value or b"")
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            facts = [
                (send.user_id, groups.of(Group(batch.path, send.kind, send.campaign)), 0)
                for send in batch.sends
                if send.local_date == day
            ]
            if facts:
                spool.add(np.array(facts, RECORD))

    await reader.read(starts, ends, take)
    return lag(starts, ends)


def lag(committed: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> int:
    """Messages between offsets."""
    return sum(max(0, end - committed[partition]) for partition, end in ends.items())
