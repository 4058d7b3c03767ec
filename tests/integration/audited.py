"""What the audit is to find: decisions, sends and outcomes put into the places where the engine would put them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from functools import partial
from itertools import count

import msgspec
import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from batch.audit import Account, Audit
from batch.audit import audit as patient_audit
from shared.lag import group_of
from shared.policy.kinds import KINDS, KindName, Path
from shared.producer import Record
from shared.settings import Settings
from shared.store.partitions import ensure_partition
from shared.wire.sends import Outcome, OutcomeBatch, Result, Send, SendBatch, encode
from stream.ledger import Ledger
from stream.runtime import Runtime
from tests.conftest import NOON
from tests.integration.support import TODAY

audit = partial(patient_audit, patience=0.0)
"""Nothing is under way in these tests: what looks lost is lost."""
GRANTED = "granted"

_pages = count(1)


class Day:
    """Puts into the places of one date, path and kind what the engine would."""

    def __init__(
        self,
        runtime: Runtime,
        path: Path = Path.stream,
        kind: KindName = "practice",
        day: date = TODAY,
        campaign: str = "",
    ) -> None:
        self._runtime = runtime
        self._path, self._kind, self._day, self._campaign = path, kind, day, campaign

    async def plan(self, answers: Mapping[int, str], *, outbox: bool = False) -> None:
        """One page of decisions, by user; `outbox`: that its planner has not brought to Kafka."""
        async with await psycopg.AsyncConnection.connect(
            self._runtime.settings.require_postgres(), autocommit=True
        ) as connection:
            await ensure_partition(connection, self._day, "planned")
            page = next(_pages)
            if outbox:
                cursor = await connection.execute("INSERT INTO outbox (records) VALUES ('') RETURNING page_id")
                (page,) = msgspec.convert(await cursor.fetchone(), tuple[int])
            for answer in set(answers.values()):
                users = [user for user, given in answers.items() if given == answer]
                await connection.execute(
                    "INSERT INTO planned (local_date, page_id, path, kind, campaign, answer, users) "
                    "VALUES (%s, %s, %s, %s, %s, %s, %s::bigint[])",
                    (self._day, page, int(self._path), KINDS[self._kind].code, self._campaign, answer, users),
                )

    async def answer(
        self, results: Mapping[int, Result], *, kafka: bool = True, ledger: bool = True, key: bytes | None = None
    ) -> None:
        """Outcomes in Kafka, in the ledger, or both; then the ledger has read them."""
        batch = OutcomeBatch(self._path, tuple(self._outcome(user, result) for user, result in results.items()))
        topic = self._runtime.topics.outcomes
        if kafka:
            await self._runtime.producer.write([Record(topic, key, encode(batch))])
        if ledger:
            await Ledger(self._runtime.users).write([batch])
        if kafka and ledger:
            await read_everything(self._runtime.settings, "ledger", topic)

    async def send(self, users: Iterable[int], topic: str) -> None:
        """Sends that delivery has not read."""
        sends = tuple(
            Send(user, self._kind, self._day, NOON, NOON + 60, "UTC", "en", 1, 0, (), self._campaign) for user in users
        )
        await self._runtime.producer.write([Record(topic, None, encode(SendBatch(self._path, NOON, sends)))])

    def _outcome(self, user: int, result: Result) -> Outcome:
        return Outcome(user, self._kind, self._day, result, result.name, NOON, NOON, campaign=self._campaign)


async def read_everything(settings: Settings, role: str, topic: str) -> None:
    """Commit a topic's end, as the group of a role that has handled all of it."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.require_kafka(),
        group_id=group_of(role, settings.topic_prefix),
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(topic, n) for n in range(settings.partitions)])
        consumer.assign(list(ends))
        await consumer.commit(ends)
    finally:
        await consumer.stop()


async def delete_everything(settings: Settings, topic: str) -> None:
    """What retention does in the end."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.require_kafka())
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.require_kafka())
    await consumer.start()
    await admin.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(topic, n) for n in range(settings.partitions)])
        await admin.delete_records({p: RecordsToDelete(before_offset=end) for p, end in ends.items() if end})
    finally:
        await admin.close()
        await consumer.stop()


def granted(*users: int) -> dict[int, str]:
    return dict.fromkeys(users, GRANTED)


def one(found: Audit) -> Account:
    (account,) = found.accounts
    return account
