"""Users and devices into the databases that have them: a connection to each, and what a chunk brings to which."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from batch.users import database as one
from batch.users.database import Connection
from batch.users.rows import DeviceRow, UserLike
from shared.settings import Settings
from shared.store.databases import Database, Databases


class Spread:
    """Writes to all of them, each chunk a transaction in each database that it concerns. Merging is idempotent, so
    whoever is broken off between two of them begins the chunk again."""

    def __init__(self, databases: Databases, connections: Mapping[Database, Connection]) -> None:
        self.databases = databases
        self.connections = connections

    async def is_empty(self) -> bool:
        """Whether there are no users anywhere, and so no devices."""
        return all([await one.is_empty(connection) for connection in self.connections.values()])

    async def merge_users(self, users: Sequence[UserLike]) -> None:
        """Insert or update users; of those with the same id the last counts."""
        for database, mine in self.databases.share((user.id, user) for user in users).items():
            await one.merge_users(self.connections[database], mine)

    async def merge_devices(self, devices: Sequence[DeviceRow]) -> list[int]:
        """Insert or update devices; the places in `devices` of those whose user does not exist."""
        # Of those with the same token the last one of the chunk counts, whichever database the others are in.
        last = {device.token: place for place, device in enumerate(devices)}
        orphans: list[int] = []
        shares = self.databases.share((devices[place].user_id, place) for place in sorted(last.values()))
        for database, places in shares.items():
            lost = await one.merge_devices(self.connections[database], [devices[place] for place in places])
            orphans += [places[place] for place in lost]
            if len(self.databases) > 1:
                await self._move_away(database, [devices[place] for place in set(places) - set(lost)])
        return orphans

    async def _move_away(self, to: Database, devices: Sequence[DeviceRow]) -> None:
        """Tokens that are registered in one database leave the others, as move_tokens.sql has it inside of one.

        After they are registered: nobody loses a token to a chunk that fails.
        """
        tokens = [device.token for device in devices]
        beside = [device.fcm_token for device in devices if device.fcm_token]
        for database, connection in self.connections.items():
            if database != to:
                await one.remove_tokens(connection, tokens, beside)

    async def empty_tables(self) -> None:
        """Remove every user and device."""
        for connection in self.connections.values():
            await one.empty_tables(connection)

    async def analyze(self) -> None:
        """Until autovacuum comes by, the planner would take new tables for empty."""
        for connection in self.connections.values():
            await connection.execute("ANALYZE users, devices")


@asynccontextmanager
async def spread(settings: Settings) -> AsyncIterator[Spread]:
    """Connected to all databases that have users."""
    databases = Databases.of(settings)
    async with AsyncExitStack() as stack:
        connections = {
            database: await stack.enter_async_context(await database.connect("surnia users")) for database in databases
        }
        yield Spread(databases, connections)
