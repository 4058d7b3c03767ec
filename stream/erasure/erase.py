"""Erasing users: in which order, so that nobody brings them back and a crash anywhere is mended by doing it again.

    gate        first: from here on nothing is claimed for them, and what is on its way is dropped
    due index   nothing more becomes due
    name        PostgreSQL knows that they are erased, under pseudonyms; users and devices go
    outbox      pages that name them go to Kafka, where the gate's tombstone waits for them
    record      ledger and planned pages under pseudonyms, and the proof, in one transaction

Who writes an erased user's id into PostgreSQL later, because of what was read before, looks for names when that is
committed, and mends it (shared/store/late.py, stream/erasure/late.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from typing import NamedTuple
from uuid import UUID, uuid4

import structlog

from shared import outbox
from shared.clock import utc
from shared.gate.forgetting import Forgetting
from shared.store.erased import Erasure
from shared.store.partitions import Connection
from shared.wire.events import BadEventError, UserDeleted, decode_event
from stream.erasure.store import Store, by_user, campaigns_of
from stream.readable import Raw
from stream.runtime import Runtime

log = structlog.get_logger()


class Deletion(NamedTuple):
    """A user who was deleted, and the event that said so."""

    user_id: int
    at: float
    """When it happened, unix seconds."""
    topic: str
    partition: int
    offset: int


def deletions(batch: Iterable[Raw], now: float) -> list[Deletion]:
    """The deletions of a batch, the last one of each user. Decodes it once more: few batches have any."""
    found: dict[int, Deletion] = {}
    for message in batch:
        try:
            event = decode_event(message.value or b"", now)
        except BadEventError:
            continue
        if isinstance(event, UserDeleted):
            found[event.user_id] = Deletion(
                event.user_id, event.instant, message.topic, message.partition, message.offset
            )
    return list(found.values())


async def erase(runtime: Runtime, gone: Sequence[Deletion]) -> None:
    """Erase users altogether; returns when it is done and proved. Waits for servers; harmless to repeat.

    What they did after their deletion must be written after it, and nothing that they did before.
    """
    await Erasing(runtime, gone).run()


class Erasing:
    """One erasure of some users."""

    def __init__(self, runtime: Runtime, gone: Sequence[Deletion]) -> None:
        self._runtime = runtime
        self._gone = gone
        self._users = sorted({each.user_id for each in gone})
        self._now = runtime.clock.now()
        self._forgetting = Forgetting(runtime.keyspace, runtime.settings)
        self._store = Store(runtime.users.databases, runtime.settings.erasure_key_days)
        self._note = (files("stream") / "queries" / "note_erasure.sql").read_text()
        self._ids: dict[Deletion, UUID] = {each: uuid4() for each in gone}

    async def run(self) -> None:
        """All of it, in the order that this module's head tells."""
        patience = self._runtime.patience
        fields = await patience.until_done(
            "forgetting deleted users at the gate",
            lambda: self._forgetting.forget(self._users, utc(self._now).date()),
        )
        entries = await patience.until_done(
            "forgetting deleted users' reminders", lambda: self._runtime.due.forget(self._users)
        )
        named = await patience.until_done("erasing deleted users", partial(self._name, fields, entries))
        pages = await patience.until_done("finishing pages with deleted users", self._finish)
        renamed = await patience.until_done("erasing deleted users' history", partial(self._rename, named, pages))
        log.info("users were erased", users=len(self._users), rows=renamed)

    async def _name(self, fields: Mapping[int, int], entries: Mapping[int, int]) -> dict[int, Erasure]:
        pools = self._runtime.users
        shares = pools.databases.group(self._users)
        devices: dict[int, int] = {}
        # Users in databases of their own go before they are named: a crash between the two leaves a number out of the
        # proof, and nobody in place. Whoever meets the id meanwhile and finds no name leaves it, to be renamed at last.
        for database, mine in shares.items():
            if not database.is_main:
                async with pools.of(database).connection() as connection:
                    devices |= await self._store.remove_users(connection, mine)
        async with pools.main.connection() as connection:
            named = await self._store.name(connection, self._users, utc(self._now))
            for database, mine in shares.items():
                if database.is_main:
                    devices |= await self._store.remove_users(connection, mine)
            users = dict.fromkeys(devices, 1)
            await self._prove(
                connection, {"gate_fields": fields, "due_entries": entries, "users": users, "devices": devices}
            )
        return named

    async def _finish(self) -> Counter[int]:
        """User -> pages. Kafka may have them already: a repeated message is what delivery and ledger expect."""
        runtime = self._runtime
        async with runtime.pool.connection() as connection:
            pages = await self._store.pages_with(connection, self._users)
            await connection.commit()
            for page_id in pages:
                await outbox.finish(connection, runtime.producer, page_id)
        return Counter(user_id for users in pages.values() for user_id in users)

    async def _rename(self, named: Mapping[int, Erasure], pages: Mapping[int, int]) -> int:
        async with self._runtime.pool.connection() as connection:
            rows = await self._store.rename_ledger(connection, named)
            entries = await self._store.rename_planned(connection, named)
            await self._store.move_checkpoints(connection, self._users)
            # Before it is committed: afterwards nobody knows any more which campaigns they were in.
            lists = await self._forgetting.forget_campaigns(campaigns_of([*rows, *entries], named))
            counts = {
                "gate_fields": lists,
                "outbox_pages": pages,
                "ledger_rows": by_user(rows, named),
                "planned_entries": by_user(entries, named),
            }
            await self._prove(connection, counts, done=True)
        return len(rows) + len(entries)

    async def _prove(
        self, connection: Connection, counts: Mapping[str, Mapping[int, int]], *, done: bool = False
    ) -> None:
        now = utc(self._runtime.clock.now())
        names = (
            "users", "devices", "gate_fields", "due_entries", "outbox_pages", "ledger_rows", "planned_entries",
        )  # fmt: skip
        async with connection.cursor() as cursor:
            await cursor.executemany(
                self._note,
                [
                    {name: counts.get(name, {}).get(each.user_id, 0) for name in names}
                    | {
                        "erasure_id": self._ids[each],
                        "topic": each.topic,
                        "partition": each.partition,
                        "offset": each.offset,
                        "asked_at": utc(each.at),
                        "now": now,
                        "done_at": now if done else None,
                    }
                    for each in self._gone
                ],
            )
