"""Connections, COPY and merges for users and devices; the queries are files beside this one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, LiteralString

from psycopg import AsyncConnection, sql
from psycopg.errors import DeadlockDetected

from batch.users.rows import DEVICE_COLUMNS, USER_COLUMNS, DeviceRow, UserLike, copy_text, device_line, user_line
from shared.settings import Settings

Connection = AsyncConnection[Any]

_QUERIES = Path(__file__).parent / "queries"
_ATTEMPTS = 5


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Connection]:
    """A connection to the main database."""
    connection = await AsyncConnection.connect(
        settings.require_postgres(), autocommit=True, application_name="surnia users", connect_timeout=5
    )
    async with connection:
        yield connection


async def is_empty(connection: Connection) -> bool:
    """Whether there are no users, and so no devices."""
    cursor = await connection.execute("SELECT NOT EXISTS (SELECT FROM users)")
    row = await cursor.fetchone()
    return bool(row and row[0])


async def copy_plain(connection: Connection, users: bytes, devices: bytes) -> None:
    """COPY straight into `users` and `devices`, one transaction: fails where one of them exists."""
    async with connection.transaction():
        # A crash may lose the last moments of it, all of a chunk or nothing; a rerun brings them again.
        await connection.execute("SET LOCAL synchronous_commit = off")
        await _copy(connection, "users", USER_COLUMNS, users)
        await _copy(connection, "devices", DEVICE_COLUMNS, devices)


async def merge_users(connection: Connection, users: Sequence[UserLike]) -> None:
    """Insert or update users, one transaction; of those with the same id the last counts."""
    # One statement may not touch a row twice.
    last = {user.id: user for user in users}
    text = copy_text(user_line(user) for user in last.values())

    async def work() -> None:
        await _copy(connection, "staged_users", USER_COLUMNS, text)
        await _run(connection, "merge_users")

    await _staged(connection, work)


async def merge_devices(connection: Connection, devices: Sequence[DeviceRow]) -> list[int]:
    """Insert or update devices, one transaction; the places in `devices` of those whose user does not exist."""
    by_token = {device.token: place for place, device in enumerate(devices)}
    by_key = {devices[place][:2]: place for place in by_token.values()}
    text = copy_text(f"{place}\t{device_line(devices[place])}" for place in by_key.values())
    orphans: list[int] = []

    async def work() -> None:
        orphans.clear()
        await _copy(connection, "staged_devices", ("place", *DEVICE_COLUMNS), text)
        orphans.extend(place for (place,) in await (await _run(connection, "reject_orphans")).fetchall())
        await _run(connection, "move_tokens")
        await _run(connection, "merge_devices")

    await _staged(connection, work)
    return orphans


async def _staged(connection: Connection, work: Any) -> None:
    """Run staging and merge in one transaction, again where another writer's locks crossed ours."""
    for attempt in range(_ATTEMPTS):
        try:
            async with connection.transaction():
                await _run(connection, "stage")
                await work()
            return
        except DeadlockDetected:
            if attempt == _ATTEMPTS - 1:
                raise


async def _copy(connection: Connection, table: LiteralString, columns: Sequence[str], text: bytes) -> None:
    names = sql.SQL(", ").join(sql.Identifier(column) for column in columns)
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        await copy.write(text)


async def _run(connection: Connection, name: str) -> Any:
    # Never prepared: a plan made while the tables were small would be kept when they are large.
    return await connection.execute(query(name), prepare=False)


@cache
def query(name: str) -> LiteralString:
    """The text of a query, of the file of that name."""
    return (_QUERIES / f"{name}.sql").read_text()


async def remove_tokens(connection: Connection, tokens: Sequence[str], fcm_tokens: Sequence[str]) -> None:
    """Devices with these tokens go; those that have one of the others beside theirs only lose it."""
    async with connection.transaction():
        await connection.execute("DELETE FROM devices WHERE token = ANY(%s)", (list(tokens),), prepare=False)
        await connection.execute(
            "UPDATE devices SET fcm_token = NULL, fcm_retired_at = NULL, fcm_retired_reason = NULL "
            "WHERE fcm_token = ANY(%s)",
            (list(fcm_tokens),),
            prepare=False,
        )


async def empty_tables(connection: Connection) -> None:
    """Remove every user and device."""
    await connection.execute("TRUNCATE users, devices")
