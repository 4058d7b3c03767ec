"""An audit: look at every place in the order in which work flows, compare, and look again before it is a problem."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from batch.audit.account import Audit, Counts, accounts_of
from batch.audit.compare import Hop
from batch.audit.facts import Folded, Group, Numbers, Tally
from batch.audit.kafka import Outcomes, Reader, lag, read_under_way
from batch.audit.persons import PARTS, Persons
from batch.audit.spool import Spool
from batch.audit.tables import Connection, LedgerCount, LedgerTable, Planned, Watch
from shared.clock import utc
from shared.settings import Settings
from shared.store.erased import Erased
from shared.topics import Topics

_LOOK_AGAIN_SECONDS = 0.25


async def audit(settings: Settings, day: date, patience: float = 5.0, watch: Watch = lambda *_: None) -> Audit:
    """Compare the counts of one local date, while the engine runs or not.

    What looks wrong is looked at again for `patience` seconds. Facts, 16 bytes each, are kept in the folder for
    temporary files. Raises psycopg's errors and aiokafka's `KafkaError` where a server does not answer.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="surnia-audit-")))
        # Autocommit: what is read must be what is there now, not when we began.
        connection = await stack.enter_async_context(
            await psycopg.AsyncConnection.connect(settings.require_postgres(), autocommit=True)
        )
        reader = await stack.enter_async_context(Reader(settings))
        looks = _Looks(settings, day, folder, connection, reader, watch)
        deadline = time.monotonic() + patience
        while True:
            found = await looks.look()
            if found.holds or time.monotonic() > deadline:
                return found
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)


class _Looks:
    """Looks at one date; a later one continues where the one before ended."""

    def __init__(
        self, settings: Settings, day: date, folder: Path, connection: Connection, reader: Reader, watch: Watch
    ) -> None:
        self._settings = settings
        self._watch = watch
        self._day = day
        self._folder = folder
        self._connection = connection
        self._reader = reader
        self._erased = Erased()
        self._topics = Topics.of(settings)
        self._groups: Numbers[Group] = Numbers()
        self._planned = Planned(connection, day, self._groups, watch)
        self._ledger = LedgerTable(connection, day, self._groups)
        self._outcomes = Outcomes(reader, settings, day, self._groups, watch)
        self._names = count()
        self._answered = self._spool()
        self._decided: Spool | None = None
        self._rows = 0
        """Of `planned`, that `_decided` was read from."""

    async def look(self) -> Audit:
        """Everything once. Work flows from the planners' record over Kafka to the ledger, and so do we: what is not
        where we are any more must be where we have not been yet."""
        if self._decided is None:
            await self._outcomes.open()
            self._decided, self._rows = await self._decisions()
        before = self._decided
        under_way = self._spool()
        pages = await self._planned.read_outbox(under_way)
        sends = await read_under_way(self._reader, self._settings, self._day, self._groups, under_way)
        await self._outcomes.read_on(self._answered)
        seen = self._answered.count
        committed = await self._reader.committed("ledger", self._topics.outcomes)
        unread = lag(committed, await self._reader.ends(self._topics.outcomes))
        ledger = await self._ledger.count()
        await self._outcomes.read_on(self._answered)
        # While outcomes of the date arrive, Kafka and the ledger are not seen at the same moment.
        at_rest = self._answered.count == seen and not self._outcomes.unread(committed)
        if await self._planned.count() != self._rows:
            self._decided, self._rows = await self._decisions()
        await self._erased.read(self._connection)
        counts, hops, repeated = await self._compare(before, self._decided, under_way, ledger, at_rest)
        accounts, problems = accounts_of(counts, hops)
        under_way.remove()
        if before is not self._decided:
            before.remove()
        return Audit(self._day, accounts, pages + sends + unread, repeated, counts.unavailable, problems)

    async def _compare(
        self, before: Spool, after: Spool, under_way: Spool, ledger: LedgerCount, at_rest: bool
    ) -> tuple[Counts, list[Hop], int]:
        """Shard by shard; the counts, where they part, and the outcomes that Kafka repeats."""
        planned, answered, repeated = Tally(), Tally(), 0
        first = Hop("planned → Kafka", outcomes=False)
        persons = Persons(self._erased, self._connection)
        for part in range(PARTS):
            was, has, moving = [await persons.part(spool, part) for spool in (before, self._answered, under_way)]
            knows = was if after is before else await persons.part(after, part)
            planned.add_all(knows)
            answered.add_all(has)
            repeated += has.repeats
            first.compare(was, knows, has, moving)
            self._watch("shards compared", part + 1, PARTS)
        counts = Counts(
            self._groups.things,
            self._planned.reasons.things,
            planned if await self._planned_kept() else None,
            answered if self._outcomes.complete else None,
            ledger.tally,
            ledger.reasons,
        )
        hops = [] if counts.unavailable else [first]
        if counts.answered is not None and at_rest:
            last = Hop("Kafka → ledger", outcomes=True)
            unlike = counts.answered.unlike(ledger.tally, results=True)
            hops.append(await self._to_ledger(last, unlike, self._answered, self._answered, None))
        elif counts.planned is not None and at_rest:
            last = Hop("planned → ledger", outcomes=False)
            unlike = counts.planned.unlike(ledger.tally, results=False)
            hops.append(await self._to_ledger(last, unlike, before, after, under_way))
        return counts, hops, repeated

    async def _to_ledger(self, hop: Hop, groups: set[int], before: Spool, after: Spool, under_way: Spool | None) -> Hop:
        """Compare with the ledger user by user, but only groups whose counts have been found to differ."""
        if not groups:
            return hop
        rows = self._spool()
        await self._ledger.read([self._groups.things[number] for number in groups], rows)
        # The ledger was counted before; what is read now may have more erased users than were known then.
        await self._erased.read(self._connection)
        persons = Persons(self._erased, self._connection)
        for part in range(PARTS):
            was, has = [await persons.part(spool, part, groups) for spool in (before, rows)]
            knows = was if after is before else await persons.part(after, part, groups)
            hop.compare(was, knows, has, await persons.part(under_way, part) if under_way else Folded({}, 0))
        rows.remove()
        return hop

    async def _planned_kept(self) -> bool:
        """Whether the planners' record reaches back to the date: without a partition it may also hold nothing."""
        oldest = utc(self._settings.clock().now()).date() - timedelta(days=self._settings.planned_keep_days - 1)
        return self._day > oldest or await self._planned.kept()

    async def _decisions(self) -> tuple[Spool, int]:
        spool = self._spool()
        return spool, await self._planned.read(spool)

    def _spool(self) -> Spool:
        return Spool(self._folder / str(next(self._names)))
