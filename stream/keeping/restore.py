"""Restoring the gate's data: from the ledger, the outbox, the users and what Kafka has that nobody has dealt with yet.

Everything merges upwards. In which order things are read matters:

    outbox, then Kafka      a planner writes a page to Kafka before it takes it out of the outbox
    offsets, then the rest  an agent writes what a message came to before it commits the message
    all sends, then users   whose reminders are due and have not been fired yet is found by their claims
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import date, timedelta
from typing import Any

from aiokafka import TopicPartition

from shared.clock import utc
from shared.due.index import Practised, Started
from shared.gate.forgetting import stone_days
from shared.gate.keeper import Fact, Keeper
from shared.identity import shard_of
from shared.policy.kinds import ABANDONED_AFTER, ABANDONED_LESSON
from shared.policy.localtime import known_zones, local_date
from shared.store.erased import Erased
from shared.tails import Offsets, TailReader, between
from shared.wire.events import MAX_AHEAD_SECONDS, ActivityEvent, BadEventError, decode_event
from stream.due.rebuild import DAYS, practised
from stream.effects import CHOICE_DAYS, GATE_DAYS, Effects, effects_of
from stream.keeping import facts, tables
from stream.keeping.account import Rebuilt, Tell
from stream.keeping.schedule import schedule
from stream.runtime import Runtime

_EVENTS = 5_000
_MESSAGES = 40
"""Messages at a time, each of up to 500 sends or outcomes."""


class Restoring:
    """One attempt. Memory is bounded by a page, but for the choices of users that Kafka has and PostgreSQL has not."""

    def __init__(
        self, runtime: Runtime, keeper: Keeper, shards: Sequence[int], closed: set[int], done: Rebuilt, tell: Tell
    ) -> None:
        self._runtime = runtime
        self._keeper = keeper
        self._shards = shards
        self._mine = frozenset(shards)
        self._closed = closed
        self._done = done
        self._tell = tell
        self._now = runtime.clock.now()
        self._today = utc(self._now).date()
        self._first_day = self._today - timedelta(hours=runtime.settings.gate_keep_hours)
        self._erased = Erased()
        self._choices: dict[int, tuple[str, int]] = {}
        """User -> zone and bits of the last choice in Kafka."""

    async def restore(self) -> None:
        """Everything but the opening."""
        settings, topics = self._runtime.settings, self._runtime.topics
        lanes = (topics.urgent, topics.normal, topics.blast, topics.parked)
        async with await tables.connect(settings) as connection, TailReader(settings) as reader:
            await self._outbox(connection)
            committed = await reader.committed("delivery", *lanes) | await reader.committed("ledger", topics.outcomes)
            handled = await reader.committed("stream", topics.activity)
            ends = await reader.ends(*lanes, topics.outcomes)
            last_event = await reader.ends(topics.activity)
            await self._ledger(connection)
            await self._messages(reader, "sends and outcomes in Kafka", committed, ends)
            await self._activity(reader, await self._events_from(reader, handled), last_event)
            await self._users()
            # What was under way when the gate was lost has been written down by now, but for moments.
            await self._outbox(connection)
            newest = await reader.ends(*lanes, topics.outcomes)
            await self._messages(reader, "what has come meanwhile", ends, newest)

    async def _ledger(self, connection: tables.Connection) -> None:
        query = tables.ledger(self._today, self._first_day, self._shards)
        async for rows in self._watched("ledger rows", connection, query):
            await self._facts(fact for row in rows if (fact := facts.of_ledger(row)))

    async def _outbox(self, connection: tables.Connection) -> None:
        async for rows in self._watched("pages of the outbox", connection, tables.outbox()):
            await self._facts(fact for (records,) in rows for fact in facts.of_outbox(records, self._runtime.topics))

    async def _messages(
        self,
        reader: TailReader,
        what: str,
        starts: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> None:
        count = self._counter(what, between(starts, ends))
        async with aclosing(reader.read(starts, ends, _MESSAGES)) as pages:
            async for messages in pages:
                await self._facts(
                    fact
                    for message in messages
                    for fact in facts.of_messages(message.topic, message.value, self._runtime.topics)
                )
                count(len(messages))

    async def _facts(self, found: Iterable[Fact]) -> None:
        mine = await self._living([fact for fact in found if shard_of(fact.key.user_id) in self._mine])
        settled = sum(fact.settled for fact in mine)
        self._done.settled += settled
        self._done.claimed += len(mine) - settled
        if not self._done.dry_run:
            self._done.changed += await self._keeper.restore(mine, self._first_day)

    async def _living(self, found: list[Fact]) -> list[Fact]:
        """Without what was of users who were erased, who get their tombstones back: of them Kafka may still have sends,
        and nothing but the gate keeps those from being delivered."""
        async with self._runtime.pool.connection() as connection:
            erased = await self._erased.among(connection, [fact.key.user_id for fact in found])
        if not erased:
            return found
        stones = {user_id: stone_days(utc(each.at.timestamp()).date()) for user_id, each in erased.items()}
        if not self._done.dry_run:
            self._done.changed += await self._keeper.restore_erased(
                [(user_id, day) for user_id, days in stones.items() for day in days]
            )
        # Later dates are those of somebody who came back.
        return [
            fact
            for fact in found
            if fact.key.user_id not in stones or fact.key.local_date > stones[fact.key.user_id][-1]
        ]

    async def _events_from(self, reader: TailReader, handled: Offsets) -> Offsets:
        """Where to begin with the activity: what nobody has handled, and what may have left a timer."""
        topic, settings = self._runtime.topics.activity, self._runtime.settings
        if settings.clock_file:
            # Messages carry the machine's time, which says nothing of a virtual clock's.
            return await reader.beginnings(topic)
        oldest = self._now - ABANDONED_AFTER - ABANDONED_LESSON.life - MAX_AHEAD_SECONDS
        recent = await reader.since(topic, utc(oldest))
        return {partition: min(offset, recent[partition]) for partition, offset in handled.items()}

    async def _activity(self, reader: TailReader, starts: Offsets, ends: Offsets) -> None:
        count = self._counter("events", between(starts, ends))
        async with aclosing(reader.read(starts, ends, _EVENTS)) as pages:
            async for messages in pages:
                events = [event for message in messages if (event := self._event(message.value))]
                zoneless = [event.user_id for event in events if not event.time_zone]
                found = await self._runtime.writeback.zones(zoneless) if zoneless else {}
                zones = {user_id: zone for user_id, zone in found.items() if zone in known_zones()}
                await self._effects(effects_of(events, zones, self._runtime.settings.default_time_zone))
                count(len(messages))

    def _event(self, value: bytes | None) -> ActivityEvent | None:
        try:
            event = decode_event(value or b"", self._now)
        except BadEventError:
            return None
        return event if shard_of(event.user_id) in self._mine else None

    async def _effects(self, effects: Effects) -> None:
        for user_id in effects.deleted:
            self._choices.pop(user_id, None)
        for user_id, user in effects.users.items():
            if fresh := [bits for at, bits in user.choices if at > self._now - GATE_DAYS]:
                self._choices[user_id] = user.time_zone, fresh[-1]
        await self._marks(effects.marks(self._now))
        if not self._done.dry_run:
            await self._runtime.due.forget(effects.deleted)
        zones = {user_id: user.time_zone for user_id, user in effects.users.items()}
        await self._schedule(effects.practised(self._runtime.quiet), effects.started(), zones)

    async def _users(self) -> None:
        for database, shards in self._runtime.users.databases.parts(self._shards).items():
            async with await database.connect("surnia gate") as connection:
                await self._users_of(connection, shards)
        # Users that PostgreSQL does not know yet, or has not heard of for days.
        await self._opt_outs([(user_id, zone, bits) for user_id, (zone, bits) in self._choices.items() if bits])

    async def _users_of(self, connection: tables.Connection, shards: Sequence[int]) -> None:
        query = tables.users(self._now - DAYS, shards)
        async for rows in self._watched("users", connection, query):
            marks: list[tuple[int, date]] = []
            lessons: list[Practised] = []
            wishes: list[tuple[int, str, int]] = []
            zones: dict[int, str] = {}
            for user_id, zone, practised_at, practised_on, streak, opted_out in rows:
                if zone not in known_zones():
                    continue  # Somebody wrote it past our checks; nobody can be reminded there (stream/due/fire.py).
                zones[user_id] = zone
                last_zone, bits = self._choices.pop(user_id, (zone, opted_out))
                if bits:
                    wishes.append((user_id, last_zone, bits))
                if practised_at is not None and practised_at.timestamp() > self._now - DAYS:
                    marks += [(user_id, day) for day in facts.practised(practised_on, streak, self._today)]
                    at = practised_at.timestamp()
                    lessons.append(practised(user_id, zone, at, self._runtime.quiet, practised_on))
            await self._marks(marks)
            await self._opt_outs(wishes)
            await self._schedule(lessons, [], zones)

    async def _marks(self, marks: Sequence[tuple[int, date]]) -> None:
        self._done.marks += len(marks)
        if not self._done.dry_run:
            self._done.changed += await self._keeper.restore_practised(marks)

    async def _opt_outs(self, wishes: Sequence[tuple[int, str, int]]) -> None:
        """(user, zone, bits). Only where the gate is closed: an open one knows what the user has said since."""
        mine = [wish for wish in wishes if shard_of(wish[0]) in self._closed]
        self._done.opt_outs += len(mine)
        if not self._done.dry_run:
            self._done.changed += await self._keeper.restore_opt_outs(
                [
                    (user_id, local_date(self._now, zone) + timedelta(days=n), bits)
                    for user_id, zone, bits in mine
                    for n in CHOICE_DAYS
                ]
            )

    async def _schedule(
        self, lessons: Sequence[Practised], timers: Sequence[Started], zones: Mapping[int, str]
    ) -> None:
        if self._done.dry_run:
            return
        scheduled = await schedule(self._runtime.due, self._keeper, lessons, timers, zones, self._now)
        self._done.reminders += scheduled.lessons
        self._done.timers += scheduled.timers

    async def _watched(
        self, what: str, connection: tables.Connection, query: tables.Query
    ) -> AsyncGenerator[list[Any], None]:
        """A query's pages, each counted when it has been dealt with."""
        count = self._counter(what, await tables.expected(connection, query))
        async with aclosing(tables.pages(connection, query)) as pages:
            async for rows in pages:
                yield rows
                count(len(rows))
        self._tell(what, self._done.read[what], self._done.read[what])

    def _counter(self, what: str, total: int) -> Callable[[int], None]:
        read = self._done.read
        read.setdefault(what, 0)
        total += read[what]

        def count(n: int) -> None:
            read[what] += n
            self._tell(what, read[what], max(total, read[what]))

        self._tell(what, read[what], total)
        return count
