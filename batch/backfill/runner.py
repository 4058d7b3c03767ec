"""Running a backfill: shard by shard, page by page, from its checkpoints on."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date, datetime
from functools import partial

import msgspec
import structlog

import batch.pace
from batch.backfill import silent, store, unread
from batch.backfill.missed import Missed
from batch.backfill.pace import EXPIRED, SENT, CancelledBackfillError, CountingProducer, Pace, PacedGate
from batch.backfill.request import Request
from batch.backfill.store import Backfill, Checkpoint, Connection, Counts, Via
from batch.backfill.users import Users
from batch.plan import Plan
from batch.pressure import protected
from batch.scan import Scan
from shared.clock import utc
from shared.due.candidate import moment
from shared.due.index import DueIndex
from shared.due.page import PageFirer, Waiting
from shared.gate import Keeper, RedisGate, SendKey
from shared.keyspace import open_keyspace
from shared.planning import Planner
from shared.policy.kinds import Path
from shared.policy.localtime import UnknownTimeZoneError
from shared.policy.window import QuietHours
from shared.settings import Settings

ALREADY = "already"
_GROUP = 64
"""Shards that are scanned together: a turn at the database and a plan written down cost them little then."""
_PAUSED_SECONDS = 1.0

log = structlog.get_logger()


class BusyBackfillError(RuntimeError):
    """Somebody else runs it."""

    def __init__(self, backfill: Backfill) -> None:
        self.backfill = backfill
        super().__init__(
            f"backfill {backfill.id} is being run by {backfill.run_by} since {backfill.run_at:%Y-%m-%d %H:%M:%S %Z} "
            f"(via {backfill.via}): `surnia backfill status {backfill.id}` shows how far it is, "
            f"`surnia backfill cancel {backfill.id}` stops it"
        )


class Summary(msgspec.Struct):
    """What a backfill has come to, interrupted runs included."""

    id: int
    state: str
    shards_done: int
    """Of `shards`; a shard counts once for each path."""
    shards: int
    sent: int
    expired: int
    already: int
    denied: dict[str, int]
    by_kind: dict[str, dict[str, int]]


def summary(backfill: Backfill, checkpoints: dict[tuple[Path, int], Checkpoint]) -> Summary:
    """Add it up."""
    counts: Counts = Counter()
    for checkpoint in checkpoints.values():
        counts.update(checkpoint.counts)
    totals: Counter[str] = Counter()
    by_kind: dict[str, dict[str, int]] = {}
    for (kind, answer), n in sorted(counts.items()):
        totals[answer] += n
        by_kind.setdefault(kind, {})[answer] = n
    sent, expired, already = (totals.pop(name, 0) for name in (SENT, EXPIRED, ALREADY))
    wanted = len(backfill.request.shards) * len(paths(backfill))
    done = sum(checkpoint.done for checkpoint in checkpoints.values())
    return Summary(backfill.id, backfill.state, done, wanted, sent, expired, already, dict(totals), by_kind)


def paths(backfill: Backfill) -> list[Path]:
    """The paths that have something to do, the more pressing first."""
    found = [Path.stream] if backfill.request.due_kinds else []
    return [*found, Path.batch] if backfill.request.comebacks else found


async def begin(
    settings: Settings, wanted: Request, by: str, via: Via = "local", rate: float | None = None, again: bool = False
) -> tuple[Backfill, bool]:
    """Write a backfill down, and whether it is new. The same request that was begun and not finished is gone on with,
    by `by` from now on; one that was done is the answer, unless it is to be done `again`.

    Raises `BusyBackfillError` where somebody has it in hand.
    """
    now = utc(settings.clock().now())
    async with await store.connect(settings) as connection:
        backfill, new = await store.begin(connection, wanted, by, now, via, rate, again)
        if backfill.state == "done" or new:
            return backfill, new
        return await _go_on(connection, backfill, by, now, via, rate), False


async def go_on(settings: Settings, number: int, by: str, via: Via = "local", rate: float | None = None) -> Backfill:
    """The same by its number, also where it was cancelled. Raises `NoSuchBackfillError`, `BusyBackfillError`."""
    now = utc(settings.clock().now())
    async with await store.connect(settings) as connection:
        backfill = await store.get(connection, number)
        return backfill if backfill.state == "done" else await _go_on(connection, backfill, by, now, via, rate)


async def _go_on(
    connection: Connection, backfill: Backfill, by: str, now: datetime, via: Via, rate: float | None
) -> Backfill:
    if not await store.take(connection, backfill.id, shared=False):
        raise BusyBackfillError(backfill)
    await store.set_running(connection, backfill.id, by, now, via, rate)
    return await store.get(connection, backfill.id)


async def cancel(settings: Settings, number: int, by: str) -> Backfill:
    """Stop it at the next page, wherever it runs; at once where nobody runs it. Raises `NoSuchBackfillError`."""
    now = utc(settings.clock().now())
    async with await store.connect(settings) as connection:
        await store.ask_to_stop(connection, number, by, now)
        backfill = await store.get(connection, number)
        if backfill.state == "cancelling" and not backfill.alive:
            await store.end(connection, number, "cancelled", now)
        return await store.get(connection, number)


async def summary_of(settings: Settings, number: int) -> Summary:
    """Raises `NoSuchBackfillError`."""
    async with await store.connect(settings) as connection:
        return summary(await store.get(connection, number), await store.checkpoints(connection, number))


async def run(
    settings: Settings,
    number: int,
    shards: Sequence[int] | None = None,
    *,
    by: str | None = None,
    rate: float | None = None,
    on_shard: Callable[[], None] = lambda: None,
) -> Summary:
    """Run a backfill that `store.begin` has written down, or these shards of it; see the package's docstring."""
    async with await store.connect(settings) as connection:
        backfill = await store.get(connection, number)
        if not await store.take(connection, number, shared=shards is not None):
            raise BusyBackfillError(backfill)
        if by:
            await store.note_runner(connection, number, by)
        # Read again: it may have been cancelled, or done, before it was ours.
        backfill = await store.get(connection, number)
        mine = backfill.request.shards if shards is None else shards
        work = _Work(settings, connection, backfill, rate)
        if backfill.state != "done":
            async with work.opened():
                try:
                    for path in paths(backfill):
                        for start in range(0, len(mine), _GROUP):
                            await work.shards(path, mine[start : start + _GROUP], on_shard)
                except CancelledBackfillError:
                    if shards is None:
                        await store.end(connection, number, "cancelled", utc(settings.clock().now()))
                    raise
        if shards is None:
            await store.end(connection, number, "done", utc(settings.clock().now()))
        return summary(await store.get(connection, number), await store.checkpoints(connection, number))


async def finish(settings: Settings, number: int) -> Summary:
    """After the last of those who shared it: done, or cancelled, or neither where a shard is still open."""
    async with await store.connect(settings) as connection:
        backfill = await store.get(connection, number)
        found = summary(backfill, await store.checkpoints(connection, number))
        now = utc(settings.clock().now())
        if found.shards_done == found.shards:
            await store.end(connection, number, "done", now)
        elif backfill.state == "cancelling":
            await store.end(connection, number, "cancelled", now)
        return msgspec.structs.replace(found, state=(await store.get(connection, number)).state)


async def _zones(connection: Connection, users: Sequence[int]) -> dict[int, tuple[str, date | None]]:
    """User -> time zone and local date of the last practice."""
    query = "SELECT id, time_zone, last_practice_date FROM users WHERE id = ANY(%s)"
    cursor = await connection.execute(query, (list(users),))
    rows = msgspec.convert(await cursor.fetchall(), list[tuple[int, str, date | None]])
    return {user_id: (zone, practised) for user_id, zone, practised in rows}


class _Both:
    """A scan's pace: the database's, and the backfill's."""

    def __init__(self, database: batch.pace.Pace, backfill: Pace, most: int) -> None:
        self._database = database
        self._backfill = backfill
        self._most = most

    async def page_size(self) -> int:
        await self._backfill.turn()
        return min(self._most, await self._database.page_size())

    async def report(self, seconds: float, rows: int) -> None:
        await self._database.report(seconds, rows)


class _Work:
    """One process's part of a backfill."""

    def __init__(self, settings: Settings, connection: Connection, backfill: Backfill, rate: float | None) -> None:
        # A page is a second of sends at most, so that the rate is steady.
        page = settings.page_size if rate is None else max(10, min(settings.page_size, int(rate)))
        self._settings = settings.model_copy(update={"page_size": page})
        self._page = page
        self._connection = connection
        self._backfill = backfill
        self._pace = Pace(self._between, rate)
        self._place: tuple[Path, int] = (Path.stream, 0)
        self.checkpoints: dict[tuple[Path, int], Checkpoint] = {}
        self._plans: list[Plan] = []
        self._told_of_pause = False

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        settings, request, number = self._settings, self._backfill.request, self._backfill.id
        self.checkpoints = await store.checkpoints(self._connection, number)
        async with AsyncExitStack() as stack:
            keyspace = open_keyspace(settings)
            stack.push_async_callback(keyspace.close)
            gate = PacedGate(RedisGate(keyspace, settings), self._pace)
            producer = await stack.enter_async_context(CountingProducer(settings, self._pace))
            # Its own: this one may be asked for checkpoints in the middle of a page.
            pages = await stack.enter_async_context(await store.connect(settings))
            self._pages = pages
            clock = settings.clock()

            @asynccontextmanager
            async def own() -> AsyncIterator[Connection]:
                yield pages

            self._users = Users(settings, pages, stack)
            self._keeper = Keeper(keyspace, settings)
            self._missed = Missed(settings, keyspace, self._users, request)
            planner = Planner(Path.stream, gate, producer, settings, clock)
            users = self._users
            self._firer = PageFirer(own, users.lend, users.databases, DueIndex(keyspace), planner, settings, clock)
            self._gate, self._producer = gate, producer
            if request.comebacks:
                # Only some zones, or once more: checkpoints of its own.
                apart = bool(request.zones) or self._backfill.again
                self._plans = silent.plans(request, settings, f"backfill-{number}" if apart else "")
            if request.due_kinds:
                read, marked = await unread.mark_unread(settings, gate)
                if read:
                    log.info("marked who practised in unread events", events=read, marks=marked)
            yield

    async def shards(self, path: Path, shards: Sequence[int], on_shard: Callable[[], None]) -> None:
        """All of one path's shards that are not done."""
        left = [shard for shard in shards if not self.checkpoints.setdefault((path, shard), Checkpoint()).done]
        if left and path is Path.batch:
            self._place = path, left[0]
            await self._pace.turn()
            for database, part in self._users.databases.parts(left).items():
                await protected(self._settings, database, partial(self._silent, part))
        for shard in shards:
            self._place = path, shard
            if shard in left:
                if path is Path.stream:
                    await self._pace.turn()
                    await self._fire(shard, self.checkpoints[self._place])
                self.checkpoints[self._place].done = True
                await self._save()
            on_shard()

    async def _silent(self, shards: list[int], users: Connection, pace: batch.pace.Pace) -> None:
        """The batch path's part of some shards of one database, which says how fast it may be read."""
        settings = self._settings
        scan = Scan(
            settings, settings.clock(), users, self._pages, self._gate, self._producer, self._pace.page_done,
            pace=_Both(pace, self._pace, self._page), ahead=False,
        )  # fmt: skip
        for planned, mine in await silent.due_hours(users, self._plans, shards):
            await scan.run(planned, mine)

    async def _between(self) -> None:
        """Before a page: what the last one came to is written down, and then somebody may stop it."""
        if self._pace.counts:
            await self._save()
        if await store.stopped(self._connection, self._backfill.id):
            raise CancelledBackfillError(f"backfill {self._backfill.id} was cancelled")

    async def _save(self) -> None:
        checkpoint = self.checkpoints[self._place]
        checkpoint.pages += bool(self._pace.counts)
        checkpoint.counts.update(self._pace.counts)
        self._pace.counts.clear()
        await store.save(self._connection, self._backfill.id, *self._place, checkpoint)

    async def _fire(self, shard: int, checkpoint: Checkpoint) -> None:
        before = Counter(checkpoint.counts)
        already: Counter[str] = Counter()
        waiting = await self._missed.of(shard)
        for start in range(0, len(waiting), self._page):
            page = waiting[start : start + self._page]
            free = await self._untaken(page)
            already.update(one.kind.name for one in page)
            already.subtract(one.kind.name for one in free)
            while free:
                await self._pace.turn()
                self._pace.page_begun()
                fired = await self._firer.fire(free)
                self._pace.page_done()
                if free := [one for one in free if shard in fired.paused.get(one.kind.name, ())]:
                    free = await self._paused(free)
        for kind, n in already.items():
            # What an interrupted run of this backfill had sent itself is no news.
            own = before[kind, SENT] + before[kind, EXPIRED]
            checkpoint.counts[kind, ALREADY] = max(0, n - own)

    async def _paused(self, page: list[Waiting]) -> list[Waiting]:
        """Those of a page that may be paused still: who got through is taken by now."""
        if not self._told_of_pause:
            log.warning("paused: the backfill waits; `surnia pauses` says why", backfill=self._backfill.id)
            self._told_of_pause = True
        await self._pace.nap(_PAUSED_SECONDS)
        return await self._untaken(page)

    async def _untaken(self, page: Sequence[Waiting]) -> list[Waiting]:
        """Without those that somebody has claimed: a worker that is up again, an earlier run, the other path."""
        zones = await _zones(await self._users.at(page[0].shard), [one.due.user_id for one in page])
        quiet = QuietHours.of(self._settings)
        keys: list[SendKey | None] = []
        for kind, _, (user_id, due) in page:
            zone, practised = zones.get(user_id, ("", None))
            try:
                when = moment(kind, due, zone, practised, quiet)
                keys.append(SendKey(user_id, kind.name, when.local_date))
            except UnknownTimeZoneError:
                keys.append(None)  # Firing says so in its log.
        asked = [key for key in keys if key]
        taken = {key for key, is_taken in zip(asked, await self._keeper.taken(asked), strict=True) if is_taken}
        return [one for one, key in zip(page, keys, strict=True) if key is None or key not in taken]
