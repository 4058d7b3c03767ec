"""`scan`: walk one group of shards by keyset pages; claim, write to Kafka and checkpoint page by page."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from importlib.resources import files
from typing import NamedTuple

import msgspec
import numpy as np
import psycopg
import structlog

from batch import checkpoints
from batch.checkpoints import Checkpoint
from batch.denials import REASONS, Candidates, turned_down
from batch.pace import Constant, Pace
from batch.plan import Plan, Slot
from batch.pressure import Adaptive, protected
from shared import outbox
from shared.clock import Clock
from shared.gate import Gate, RedisGate
from shared.patience import Sleep
from shared.planning import Denial, Page, Planner
from shared.policy.kinds import COMEBACK, Path
from shared.policy.window import QuietHours, expires_at
from shared.producer import Producer
from shared.settings import Settings
from shared.store.databases import Databases
from shared.store.partitions import Connection
from shared.wire.sends import Send, Target

_ASK_AGAIN_SECONDS = 1.0
"""How often a scan asks whether a pause is over: one page a second costs the gate nothing."""

log = structlog.get_logger()


class ScanSummary(msgspec.Struct):
    """What a scan of a group of shards came to, reruns included."""

    run_id: str
    shards: int
    pages: int
    candidates: int
    granted: int
    denied: dict[str, int]


class _Row(msgspec.Struct, array_like=True):
    """A row of page.sql."""

    user_id: int
    locale: str
    streak: int
    opted_out: int
    slot: int
    """The number of its slot in the plan, from 1."""
    email: str
    device_ids: list[str] | None
    platforms: list[str] | None
    tokens: list[str] | None
    fcm_tokens: list[str] | None


class _Arrays(NamedTuple):
    """The slots that are left as PostgreSQL array literals: made once, since every shard asks with the same ones."""

    numbers: str
    zones: str
    dates: str

    @classmethod
    def of(cls, slots: Sequence[Slot], after_slot: int) -> _Arrays:
        # Slots before the checkpoint's are behind us; its own may have users left.
        left = list(enumerate(slots, start=1))[max(0, after_slot - 1) :]
        # No quoting: the names are those of the IANA database, letters, digits and "/+-_".
        columns = (
            (str(n) for n, _ in left),
            (slot.time_zone for _, slot in left),
            (slot.last_active.isoformat() for _, slot in left),
        )
        return cls(*("{" + ",".join(column) + "}" for column in columns))


class Scan:
    """A scan of one run. `on_page` is told the users of every page once it is acknowledged and checkpointed.

    `users` reads users and devices, and may be a replica's; `own` holds Surnia's own tables: checkpoints, outbox,
    planned pages. They may be the same, and are in autocommit mode: what belongs together says so.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        users: Connection,
        own: Connection,
        gate: Gate,
        producer: Producer,
        on_page: Callable[[int], None] = lambda _: None,
        sleep: Sleep = asyncio.sleep,
        pace: Pace | None = None,
    ) -> None:
        self._settings = settings
        self._users = users
        self._own = own
        self._pace = pace or Constant(settings.page_size)
        self._planner = Planner(Path.batch, gate, producer, settings, clock)
        self._on_page = on_page
        self._sleep = sleep
        self._quiet = QuietHours.of(settings)
        self._query = (files("batch") / "queries" / "page.sql").read_text()

    async def run(self, plan: Plan, shards: Sequence[int]) -> ScanSummary:
        """Scan these shards from their checkpoints on. Idempotent: a finished scan reads only its checkpoints."""
        slots = await checkpoints.record_run(self._own, plan)
        found = await checkpoints.load(self._own, plan.run_id, list(shards))
        whole = _Arrays.of(slots, 0)
        for shard, checkpoint in found.items():
            while not checkpoint.done:
                arrays = _Arrays.of(slots, checkpoint.after_slot) if checkpoint.after_slot else whole
                size = await self._pace.page_size()
                began = time.monotonic()
                rows = await self._read(arrays, shard, checkpoint, size)
                await self._pace.report(time.monotonic() - began, len(rows))
                written = await self._page(plan.run_id, shard, slots, rows)
                if rows:
                    checkpoint.counts += written.counts
                    checkpoint.pages += 1
                    checkpoint.after_slot, checkpoint.after_id = rows[-1].slot, rows[-1].user_id
                checkpoint.done = len(rows) < size
                async with self._own.transaction():
                    if written.id is not None:
                        await outbox.delete(self._own, written.id)
                    await checkpoints.save(self._own, plan.run_id, shard, checkpoint)
                self._on_page(len(rows))
        counts: Counter[str] = Counter()
        for checkpoint in found.values():
            for (_, answer), n in checkpoint.counts.items():
                counts[answer] += n
        granted = counts.pop("granted", 0)
        pages = sum(checkpoint.pages for checkpoint in found.values())
        return ScanSummary(plan.run_id, len(found), pages, granted + counts.total(), granted, dict(counts))

    async def _page(self, run_id: str, shard: int, slots: Sequence[Slot], rows: Sequence[_Row]) -> Page:
        """Plan a page and bring it to Kafka; returns when nothing of it is paused any more."""
        sends = [_send(row, slots[row.slot - 1], self._quiet, self._settings.sends_email) for row in rows]
        reasons = turned_down(
            Candidates(
                np.array([row.user_id for row in rows], np.int64),
                np.array([row.opted_out for row in rows], np.int16),
                np.array([bool(send.targets or send.email) for send in sends], np.bool_),
            )
        ).tolist()
        candidates = [send for send, reason in zip(sends, reasons, strict=True) if not reason]
        denied = [Denial(send, REASONS[reason]) for send, reason in zip(sends, reasons, strict=True) if reason]
        written = await self._planner.write(self._own, candidates, denied)
        if not written.paused:
            return written
        log.warning("paused: the scan waits", run_id=run_id, shard=shard, users=len(written.paused))
        counts = written.counts
        while written.paused:
            if written.id is not None:
                # Kafka has this part. The checkpoint may be hours away, and nobody must take it for unfinished.
                await outbox.delete(self._own, written.id)
            await self._sleep(_ASK_AGAIN_SECONDS)
            written = await self._planner.write(self._own, written.paused, [])
            counts += written.counts
        log.info("the scan goes on", run_id=run_id, shard=shard)
        return written._replace(counts=counts)

    async def _read(self, arrays: _Arrays, shard: int, checkpoint: Checkpoint, size: int) -> list[_Row]:
        cursor = await self._users.execute(
            self._query,
            {
                "shard": shard,
                "numbers": arrays.numbers,
                "zones": arrays.zones,
                "dates": arrays.dates,
                "after_slot": checkpoint.after_slot,
                "after_id": checkpoint.after_id,
                "limit": size,
            },
            binary=True,
        )
        return msgspec.convert(await cursor.fetchall(), list[_Row])


def _send(row: _Row, slot: Slot, quiet: QuietHours, email: bool) -> Send:
    return Send(
        user_id=row.user_id,
        kind=COMEBACK.name,
        local_date=slot.local_date,
        due_at=slot.due_at,
        expires_at=expires_at(COMEBACK, slot.due_at, slot.time_zone, quiet),
        time_zone=slot.time_zone,
        locale=row.locale,
        streak=row.streak,
        silent_days=slot.ladder_day,
        targets=tuple(
            map(Target, row.device_ids or (), row.platforms or (), row.tokens or (), row.fcm_tokens or ())  # type: ignore[arg-type]  # the table checks the platform
        ),
        email=row.email if email else "",
    )


async def scan(
    settings: Settings, plan: Plan, shards: Sequence[int], on_page: Callable[[int], None] = lambda _: None
) -> ScanSummary:
    """Scan a group of shards with connections of its own, one database after the other, each when the scan has its turn
    there. Raises when a server does not answer: a rerun continues."""
    found: list[ScanSummary] = []
    async with AsyncExitStack() as stack:
        # Autocommit: no snapshot is held open while a page is claimed and sent.
        own = await stack.enter_async_context(
            await psycopg.AsyncConnection.connect(settings.require_postgres(), autocommit=True)
        )
        gate = RedisGate.connect(settings)
        stack.push_async_callback(gate.close)
        producer = await stack.enter_async_context(Producer(settings))
        for database, mine in Databases.of(settings).parts(shards).items():

            async def work(users: Connection, pace: Adaptive, mine: Sequence[int] = mine) -> ScanSummary:
                clock = settings.clock()
                walk = Scan(settings, clock, users, own, gate, producer, on_page, sleep=pace.idle, pace=pace)
                return await walk.run(plan, mine)

            found.append(await protected(settings, database, work))
    summary = _together(plan, found)
    log.debug("scanned", **msgspec.to_builtins(summary))
    return summary


def _together(plan: Plan, found: Sequence[ScanSummary]) -> ScanSummary:
    denied: Counter[str] = Counter()
    for each in found:
        denied.update(each.denied)
    return ScanSummary(
        plan.run_id,
        sum(each.shards for each in found),
        sum(each.pages for each in found),
        sum(each.candidates for each in found),
        sum(each.granted for each in found),
        dict(denied),
    )


async def record(settings: Settings, plan: Plan) -> None:
    """Write a plan down before its scans start."""
    async with await psycopg.AsyncConnection.connect(settings.require_postgres(), autocommit=True) as connection:
        await checkpoints.record_run(connection, plan)
