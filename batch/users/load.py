"""Writes a population into PostgreSQL: plain COPY into empty tables, COPY and merge into tables with rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from psycopg.errors import UniqueViolation

from batch.users.database import (
    Connection,
    connected,
    copy_plain,
    is_empty,
    merge_devices,
    merge_users,
)
from batch.users.population import GeneratedUser
from batch.users.rows import DeviceRow, copy_text, device_line, user_line
from shared.settings import Settings

Progress = Callable[[int], None]
"""Told how many more users are in the database."""


@dataclass(slots=True)
class LoadCounts:
    """What a load wrote; `rejected` are devices that the database did not take."""

    users: int = 0
    devices: int = 0
    active: int = 0
    silent: int = 0
    rejected: int = 0

    def add(self, chunk: Sequence[GeneratedUser]) -> None:
        """Count these users and their devices."""
        active = sum(user.active for user in chunk)
        self.users += len(chunk)
        self.devices += sum(len(user.devices) for user in chunk)
        self.active += active
        self.silent += len(chunk) - active


async def load(
    target: Settings | Connection, population: Iterable[list[GeneratedUser]], progress: Progress | None = None
) -> LoadCounts:
    """Write all users and their devices, one transaction a chunk. Idempotent: a rerun merges into what is there."""
    counts = LoadCounts()
    chunks = iter(population)
    async with connected(target) as connection:
        plain = await is_empty(connection)
        chunk = _next(chunks)
        while chunk is not None:
            # While PostgreSQL works on a chunk, a thread makes the next one.
            async with asyncio.TaskGroup() as both:
                coming = both.create_task(asyncio.to_thread(_next, chunks))
                written = both.create_task(_write(connection, chunk, plain=plain))
            plain = written.result()
            counts.add(chunk.users)
            if progress:
                progress(len(chunk.users))
            chunk = coming.result()
        # Until autovacuum comes by, the planner would take the new tables for empty.
        await connection.execute("ANALYZE users, devices")
    return counts


class _Chunk(NamedTuple):
    """Some users, with the text that COPY takes of them."""

    users: list[GeneratedUser]
    devices: list[DeviceRow]
    users_text: bytes
    devices_text: bytes


def _next(chunks: Iterator[list[GeneratedUser]]) -> _Chunk | None:
    users = next(chunks, None)
    if users is None:
        return None
    devices = [device for user in users for device in user.devices]
    return _Chunk(users, devices, copy_text(map(user_line, users)), copy_text(map(device_line, devices)))


async def _write(connection: Connection, chunk: _Chunk, *, plain: bool) -> bool:
    """Write one chunk; the answer is whether plain COPY still works for the next."""
    if plain:
        try:
            await copy_plain(connection, chunk.users_text, chunk.devices_text)
        except UniqueViolation:
            pass  # Somebody else writes users meanwhile: merge from here on.
        else:
            return True
    await merge_users(connection, chunk.users)
    await merge_devices(connection, chunk.devices)
    return False
