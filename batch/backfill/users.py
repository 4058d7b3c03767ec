"""Connections to the databases that have users, for as long as a backfill or its dry run lasts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from batch.backfill.store import Connection
from shared.settings import Settings
from shared.store.databases import Database, Databases


class Users:
    """One connection a database, opened at first use, and the main database's where that has the users itself."""

    def __init__(self, settings: Settings, main: Connection, stack: AsyncExitStack) -> None:
        self.databases = Databases.of(settings)
        self._main = main
        self._stack = stack
        self._open: dict[str, Connection] = {}

    async def of(self, database: Database) -> Connection:
        """To one of them."""
        if database.is_main:
            return self._main
        if database.name not in self._open:
            connection = await database.connect("surnia backfill")
            self._open[database.name] = await self._stack.enter_async_context(connection)
        return self._open[database.name]

    async def at(self, shard: int) -> Connection:
        """To the one that has a shard's users."""
        return await self.of(self.databases.for_shard(shard))

    @asynccontextmanager
    async def lend(self, database: Database) -> AsyncIterator[Connection]:
        """The same, as a pool would."""
        yield await self.of(database)
