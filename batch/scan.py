"""`scan`: walk a group of shards as its users become due; read, claim, write to Kafka and checkpoint page by page."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import psycopg
import structlog

from batch import checkpoints
from batch.cells import Cells
from batch.checkpoints import Checkpoint
from batch.desk import Decided, Desk
from batch.pace import Constant, Pace
from batch.pages import Page, add, read
from batch.plan import Plan
from batch.pressure import Adaptive, protected
from batch.rounds import Rounds
from batch.rows import Reader
from shared import outbox
from shared.clock import Clock
from shared.gate import Gate, RedisGate
from shared.patience import Sleep
from shared.planning import Planner
from shared.policy.kinds import Path
from shared.producer import Producer
from shared.settings import Settings
from shared.store.databases import Database, Databases
from shared.store.partitions import Connection

_ASK_AGAIN_SECONDS = 1.0
"""How often a scan asks whether a pause is over: one page a second costs the gate nothing."""
_LOOK_SECONDS = 1.0
"""How often a scan that waits for the next users looks at the clock, which may be turned."""

log = structlog.get_logger()


class ScanSummary(msgspec.Struct):
    """What a scan of a group of shards came to, reruns included."""

    run_id: str
    shards: int
    pages: int
    candidates: int
    granted: int
    denied: dict[str, int]


class Scan:
    """A scan of one run. `on_page` is told the users of every page once it is acknowledged and checkpointed.

    `users` reads users and devices, and may be a replica's; `own` holds Surnia's own tables: checkpoints, outbox,
    planned pages. Both are in autocommit mode. With a connection for each, the next page is read while one is written.
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
        ahead: bool = True,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._reader = Reader(users, settings.sends_email)
        self._own = own
        # A page is read and claimed while the one before is written; not for whoever may stop it between two.
        self._ahead = ahead and users is not own
        self._gate = gate
        self._pace = pace or Constant(settings.page_size)
        self._planner = Planner(Path.batch, gate, producer, settings, clock)
        self._on_page = on_page
        self._sleep = sleep

    async def run(self, plan: Plan, shards: Sequence[int]) -> ScanSummary:
        """Scan these shards from their checkpoints on, each user when it is due. Idempotent: a finished scan reads only
        its checkpoints. Ends with the last user of the interval, at once where all of it is past."""
        slots = await checkpoints.record_run(self._own, plan)
        found = await checkpoints.load(self._own, plan.run_id, list(shards))
        left = [shard for shard, checkpoint in found.items() if not checkpoint.done]
        if left:
            await self._reader.prepare()
            rounds = await Rounds.look(self._reader, plan, slots, {shard: found[shard] for shard in left})
            desk = Desk(slots, self._gate, self._settings, self._clock)
            while (cells := rounds.next(self._clock.now())) is not None:
                await self._walk(plan.run_id, desk, found, cells)
                rounds.end()
                while (wake := rounds.wake()) is not None and self._clock.now() < wake:
                    await self._sleep(min(_LOOK_SECONDS, wake - self._clock.now()))
            for shard in left:
                found[shard].done = True
            await checkpoints.save(self._own, plan.run_id, {shard: found[shard] for shard in left})
        counts: Counter[str] = Counter()
        for checkpoint in found.values():
            for (_, answer), n in checkpoint.counts.items():
                counts[answer] += n
        granted = counts.pop("granted", 0)
        pages = sum(checkpoint.pages for checkpoint in found.values())
        return ScanSummary(plan.run_id, len(found), pages, granted + counts.total(), granted, dict(counts))

    async def _walk(self, run_id: str, desk: Desk, places: Mapping[int, Checkpoint], cells: Cells) -> None:
        """All of some cells, page by page: one is read while the one before it is claimed and made into messages, and
        that while the one before is written. Checkpoints follow one another as the pages do."""
        pages = read(self._reader, self._pace, cells)
        reading: asyncio.Task[Page | None] | None = None
        writing: asyncio.Task[None] | None = None
        try:
            page = await anext(pages, None)
            while page is not None:
                told = await desk.ask(page.rows, page.slots, page.shards)
                if self._ahead:
                    reading = asyncio.create_task(_next(pages))
                decided = desk.decide(told)
                if writing:
                    await writing
                writing = asyncio.create_task(self._write(run_id, desk, places, page, decided))
                if not self._ahead or len(decided.paused):
                    await writing  # Whoever waits claims nothing more meanwhile.
                page = await (reading or _next(pages))
            if writing:
                await writing
        finally:
            await _end(reading, writing)

    async def _write(
        self, run_id: str, desk: Desk, places: Mapping[int, Checkpoint], page: Page, decided: Decided
    ) -> None:
        """Bring a page to Kafka; returns when nothing of it is paused any more and its checkpoint is written."""
        page_id = await self._commit(decided)
        touched = add(places, page, decided)
        if len(decided.paused):
            log.warning("paused: the scan waits", run_id=run_id, users=len(decided.paused))
            while len(decided.paused):
                if page_id is not None:
                    # Kafka has this part. The checkpoint may be hours away, and nobody must take it for unfinished.
                    await outbox.delete(self._own, page_id)
                await self._sleep(_ASK_AGAIN_SECONDS)
                rest = page.of(decided.paused)
                decided = desk.decide(await desk.ask(rest.rows, rest.slots, rest.shards))
                page_id = await self._commit(decided)
                add(places, rest, decided)
            log.info("the scan goes on", run_id=run_id)
        touched[int(page.shards[-1])].pages += 1
        await checkpoints.save(self._own, run_id, touched, page_id)
        self._on_page(len(page.rows))

    async def _commit(self, decided: Decided) -> int | None:
        if not decided.decisions:
            return None
        return await self._planner.commit(self._own, decided.decisions, decided.messages)


async def _next(pages: AsyncIterator[Page]) -> Page | None:
    return await anext(pages, None)


async def _end(*tasks: asyncio.Task[Any] | None) -> None:
    """Leave nothing under way, whatever went wrong."""
    under_way = [task for task in tasks if task and not task.done()]
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)


async def scan(
    settings: Settings, plan: Plan, shards: Sequence[int], on_page: Callable[[int], None] = lambda _: None
) -> ScanSummary:
    """Scan a group of shards with connections of its own, in all of their databases at once, each when the scan has its
    turn there. Raises when a server does not answer: a rerun continues."""
    async with AsyncExitStack() as stack:
        gate = RedisGate.connect(settings)
        stack.push_async_callback(gate.close)
        producer = await stack.enter_async_context(Producer(settings))

        async def part(database: Database, mine: Sequence[int]) -> ScanSummary:
            # Autocommit: no snapshot is held open while a page is claimed and sent. One for each database: what belongs
            # together is a transaction.
            async with await psycopg.AsyncConnection.connect(settings.require_postgres(), autocommit=True) as own:

                async def work(users: Connection, pace: Adaptive) -> ScanSummary:
                    clock = settings.clock()
                    walk = Scan(settings, clock, users, own, gate, producer, on_page, sleep=pace.idle, pace=pace)
                    return await walk.run(plan, mine)

                return await protected(settings, database, work)

        parts = [
            asyncio.create_task(part(database, mine)) for database, mine in Databases.of(settings).parts(shards).items()
        ]
        try:
            summary = _together(plan, await asyncio.gather(*parts))
        finally:
            await _end(*parts)
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
