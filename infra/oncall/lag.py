"""How far everything is behind: consumer groups by topic, in messages and by time; the due index; the outbox."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any

import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from infra.oncall.probe import Answer, ask_all, coroutine
from infra.stack.view import duration
from shared.clock import SystemClock
from shared.due.index import DUE_KINDS
from shared.gate.keys import due_key
from shared.identity import SHARDS
from shared.keyspace import Call, open_keyspace
from shared.lag import LagReader, group_of
from shared.settings import Settings
from shared.terminal import several
from shared.topics import Topics

BEHIND_SECONDS = 60.0
"""From here on a group counts as behind: a batch, a rebalance or a restart takes less."""
_PATIENCE_MS = 500


@dataclass(frozen=True, slots=True)
class TopicLag:
    """A group and a topic that it reads."""

    role: str
    topic: str
    members: int
    """Workers in the group."""
    messages: int
    oldest_seconds: float | None
    """Age in Kafka of the oldest message that is not committed; None: there is none."""


@dataclass(frozen=True, slots=True)
class DueLag:
    """A kind of the due index."""

    kind: str
    waiting: int
    """Due and not fired."""
    oldest_seconds: float | None


@dataclass(frozen=True, slots=True)
class OutboxLag:
    """Pages that are planned and not in Kafka."""

    pages: int
    oldest_seconds: float | None


@dataclass(slots=True)
class Lag:
    """All of it. What could not be asked is in `trouble`, by server."""

    topics: list[TopicLag] = field(default_factory=list)
    due: list[DueLag] = field(default_factory=list)
    outbox: OutboxLag | None = None
    trouble: dict[str, str] = field(default_factory=dict)

    @property
    def writeback_seconds(self) -> float | None:
        """An event is committed when PostgreSQL has what it changed: so the oldest that is not is the write-back's."""
        stream = [each for each in self.topics if each.role == "stream"]
        return max((each.oldest_seconds or 0.0 for each in stream), default=None)

    @property
    def behind(self) -> list[str]:
        """What is behind, in words."""
        found = [
            f"{each.role} has {several(each.messages, 'message')} of {each.topic} to read"
            + ("" if each.members else ", and no worker runs")
            for each in self.topics
            if each.messages and (not each.members or (each.oldest_seconds or 0) > BEHIND_SECONDS)
        ]
        found += [
            f"{several(each.waiting, f'{each.kind} reminder')} due and not fired"
            for each in self.due
            if (each.oldest_seconds or 0) > BEHIND_SECONDS
        ]
        if self.outbox and (self.outbox.oldest_seconds or 0) > BEHIND_SECONDS:
            found.append(f"{self.outbox.pages:,} planned pages are not in Kafka: a stream worker finishes them")
        return found

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "topics": [asdict(each) for each in self.topics],
            "due": [asdict(each) for each in self.due],
            "outbox": asdict(self.outbox) if self.outbox else None,
            "writeback_seconds": self.writeback_seconds,
            "behind": self.behind,
            "trouble": self.trouble,
        }


def look(settings: Settings, topics: Collection[str] = ()) -> Lag:
    """Ask Kafka, Redis and PostgreSQL at once, for 3 s at most."""
    answers = ask_all(
        {
            "Kafka": coroutine(lambda: kafka_lag(settings, topics)),
            "Redis": coroutine(lambda: due_lag(settings)),
            "PostgreSQL": lambda: outbox_lag(settings),
        }
    )
    return folded(answers)


def folded(answers: dict[str, Answer]) -> Lag:
    """From the answers of the three servers."""
    found = Lag(trouble={name: answer.trouble for name, answer in answers.items() if answer.trouble})
    found.topics = answers["Kafka"].value or []
    found.due = answers["Redis"].value or []
    found.outbox = answers["PostgreSQL"].value
    return found


def read_by(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Role -> the topics that its group reads."""
    topics = Topics.of(settings)
    lanes = (topics.urgent, topics.normal, topics.blast, topics.parked)
    return {"stream": (topics.activity,), "delivery": lanes, "ledger": (topics.outcomes,)}


async def kafka_lag(settings: Settings, only: Collection[str] = ()) -> list[TopicLag]:
    """Every group and topic, or these topics. Raises aiokafka's errors."""
    wanted = {role: [name for name in names if not only or name in only] for role, names in read_by(settings).items()}
    wanted = {role: names for role, names in wanted.items() if names}
    behind: dict[tuple[str, str], int] = {}
    at: dict[tuple[str, TopicPartition], int] = {}
    async with LagReader(settings, wanted) as reader:
        for role, names in wanted.items():
            behind |= {(role, name): 0 for name in names}
            for partition, position in (await reader.positions(role)).items():
                behind[role, partition.topic] += position.behind
                if position.behind:
                    at[role, partition] = position.committed
    ages = await _ages(settings, at)
    members = await _members(settings, wanted)
    return [TopicLag(role, name, members[role], n, ages.get((role, name))) for (role, name), n in behind.items()]


async def _ages(settings: Settings, at: dict[tuple[str, TopicPartition], int]) -> dict[tuple[str, str], float]:
    """(role, topic) -> age of the oldest message at these offsets, by the clock of who wrote it."""
    if not at:
        return {}
    now = SystemClock().now()
    found: dict[tuple[str, str], float] = {}
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.require_kafka(), enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        # A topic is read by one group, so a partition is asked for once.
        places = {partition: (role, offset) for (role, partition), offset in at.items()}
        consumer.assign(list(places))
        for partition, (_, offset) in places.items():
            consumer.seek(partition, offset)
        left = set(places)
        while left:
            page = await consumer.getmany(*left, timeout_ms=_PATIENCE_MS, max_records=len(left))
            if not page:
                break  # Only the end of a transaction, say.
            for partition, records in page.items():
                left.discard(partition)
                role, key = places[partition][0], partition.topic
                age = max(0.0, now - records[0].timestamp / 1000)
                found[role, key] = max(age, found.get((role, key), 0.0))
    finally:
        await consumer.stop()
    return found


async def _members(settings: Settings, roles: Collection[str]) -> dict[str, int]:
    """Role -> workers in its group."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.require_kafka())
    await admin.start()
    try:
        found = dict.fromkeys(roles, 0)
        for role in roles:
            for answer in await admin.describe_consumer_groups([group_of(role, settings.topic_prefix)]):
                # (error, group, state, protocol type, protocol, members, …)
                found[role] = sum(len(group[5]) for group in answer.groups)
        return found
    finally:
        await admin.close()


async def due_lag(settings: Settings) -> list[DueLag]:
    """What is due and not fired. Raises `GateUnavailableError`."""
    now, keyspace = settings.clock().now(), open_keyspace(settings)
    found = []
    try:
        for kind in DUE_KINDS:
            calls = [Call(shard, ("ZCOUNT", due_key(shard, kind), "-inf", now)) for shard in range(SHARDS)]
            calls += [Call(shard, ("ZRANGE", due_key(shard, kind), 0, 0, "WITHSCORES")) for shard in range(SHARDS)]
            answers = await keyspace.run(calls)
            waiting = sum(answers[:SHARDS])
            first = [float(pair[1]) for pair in answers[SHARDS:] if pair]
            found.append(DueLag(kind.name, waiting, now - min(first) if waiting else None))
    finally:
        await keyspace.close()
    return found


def outbox_lag(settings: Settings) -> OutboxLag:
    """Raises psycopg's errors."""
    query = "SELECT count(*), extract(epoch FROM now() - min(recorded_at))::float8 FROM outbox"
    with psycopg.connect(settings.require_postgres(), connect_timeout=2, application_name="surnia lag") as connection:
        (pages, oldest) = connection.execute(query).fetchone() or (0, None)
    return OutboxLag(pages, oldest)


def view(found: Lag) -> RenderableType:
    """Tables for a person."""
    parts: list[RenderableType] = []
    if found.topics:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for heading in ("group", "topic"):
            table.add_column(heading, no_wrap=True)
        for heading in ("workers", "messages", "oldest"):
            table.add_column(heading, justify="right", no_wrap=True)
        for each in found.topics:
            workers = Text(str(each.members), style="" if each.members else "red")
            table.add_row(each.role, each.topic, workers, f"{each.messages:,}", _age(each.oldest_seconds))
        parts.append(table)
    if found.due:
        waiting = ", ".join(
            f"{each.kind} {each.waiting:,}" + (f" (the first for {_age(each.oldest_seconds)})" if each.waiting else "")
            for each in found.due
        )
        parts.append(Text(f"Due and not fired: {waiting}"))
    if found.writeback_seconds is not None:
        parts.append(Text(f"PostgreSQL is behind the events by: {_age(found.writeback_seconds)}"))
    if found.outbox:
        first = f", the oldest for {_age(found.outbox.oldest_seconds)}" if found.outbox.pages else ""
        parts.append(Text(f"Planned pages that are not in Kafka: {found.outbox.pages:,}{first}"))
    parts += [Text(f"{name} does not answer: {why}", style="red") for name, why in found.trouble.items()]
    parts += [Text(f"Behind: {words}.", style="yellow") for words in found.behind]
    return Group(*parts)


def _age(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)
