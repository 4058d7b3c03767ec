"""Held-out users beside reminded ones: how many were active again. Page by page, so memory does not grow with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import date, timedelta
from importlib.resources import files
from typing import Any

import msgspec
import psycopg

from batch.holdout.interval import difference
from shared.clock import utc
from shared.policy.holdout import KINDS_WITH_GROUPS
from shared.policy.kinds import KIND_BY_CODE, KINDS
from shared.settings import Settings
from shared.store.databases import Database, Databases

PAGE = 20_000
_WEST = 12 * 3600.0
"""The last zone ends a date so long after UTC does."""

Connection = psycopg.AsyncConnection[Any]


class Group(msgspec.Struct):
    """Users, each once a local date and kind."""

    users: int = 0
    returned: int = 0
    """Active on the reminder's local date or later; `later` among them."""
    later: int = 0
    """Last active after the days that are asked for: whether they came back within them is not known any more."""

    @property
    def rate(self) -> float:
        return self.returned / self.users if self.users else 0.0


class Comparison(msgspec.Struct):
    """One kind. `difference`: the reminded users' rate minus the others'; `low` and `high`: its 95% interval."""

    kind: str
    held_out: Group
    reminded: Group
    held_out_rate: float
    reminded_rate: float
    difference: float
    low: float
    high: float


class Measured(msgspec.Struct):
    """`dates`: those that were counted. `too_early`: dates of which the days that are asked for are not over."""

    days: int
    dates: list[date]
    too_early: list[date]
    kinds: list[Comparison]


async def measure(
    settings: Settings,
    first: date,
    last: date,
    kinds: Sequence[str] = KINDS_WITH_GROUPS,
    days: int = 3,
    on_page: Callable[[int], None] = lambda _: None,
) -> Measured:
    """Both dates included. Kinds of which nobody was held out are left out. Raises psycopg's errors."""
    asked = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    over = utc(settings.clock().now() - _WEST).date() - timedelta(days=days + 1)
    dates = [day for day in asked if day <= over]
    groups = {kind: (Group(), Group()) for kind in kinds}
    async with AsyncExitStack() as stack:
        own = await stack.enter_async_context(
            await psycopg.AsyncConnection.connect(
                settings.require_postgres(), autocommit=True, application_name="surnia holdout", connect_timeout=5
            )
        )
        reading = _Reading(own, Databases.of(settings), stack)
        for day in dates:
            await reading.read(day, groups, days, on_page)
    return Measured(
        days,
        dates,
        [day for day in asked if day > over],
        [_compared(kind, *pair) for kind, pair in groups.items() if pair[0].users],
    )


def _compared(kind: str, held_out: Group, reminded: Group) -> Comparison:
    low, high = difference(reminded.returned, reminded.users, held_out.returned, held_out.users)
    one, other = held_out.rate, reminded.rate
    return Comparison(kind, held_out, reminded, one, other, other - one, low, high)


class _Reading:
    """Pages of the ledger, and when their users were last active; a connection to each database that is asked."""

    def __init__(self, own: Connection, databases: Databases, stack: AsyncExitStack) -> None:
        self._own = own
        self._databases = databases
        self._stack = stack
        self._connections: dict[Database, Connection] = {}
        self._query = (files("batch.holdout") / "page.sql").read_text()

    async def read(
        self, day: date, groups: dict[str, tuple[Group, Group]], days: int, on_page: Callable[[int], None]
    ) -> None:
        user, kind, path = 0, 0, 0
        codes = [KINDS[name].code for name in groups]
        while True:
            values = {"day": day, "user": user, "kind": kind, "path": path, "kinds": codes, "limit": PAGE}
            rows = await (await self._own.execute(self._query, values)).fetchall()
            active = await self._active({row[0] for row in rows})
            for user, kind, _, held_out in rows:
                if user not in active:
                    continue  # Deleted since.
                group = groups[KIND_BY_CODE[kind].name][not held_out]
                group.users += 1
                seen = active[user]
                if seen is not None and seen >= day:
                    group.returned += 1
                    group.later += seen > day + timedelta(days=days)
            on_page(len(rows))
            if len(rows) < PAGE:
                return
            path = rows[-1][2]

    async def _active(self, users: set[int]) -> dict[int, date | None]:
        found: dict[int, date | None] = {}
        for database, mine in self._databases.group(users).items():
            connection = await self._connection(database)
            cursor = await connection.execute("SELECT id, last_active_date FROM users WHERE id = ANY(%s)", (mine,))
            found.update(await cursor.fetchall())
        return found

    async def _connection(self, database: Database) -> Connection:
        if database not in self._connections:
            # Where there is a replica: nobody waits for this.
            self._connections[database] = await self._stack.enter_async_context(
                await database.connect("surnia holdout", replica=True)
            )
        return self._connections[database]
