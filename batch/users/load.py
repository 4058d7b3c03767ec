"""Writes a population into PostgreSQL: plain COPY into empty tables, COPY and merge into tables with rows.

With several databases each gets its users' part of every chunk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from psycopg.errors import UniqueViolation

from batch.users.database import copy_plain
from batch.users.population import GeneratedUser
from batch.users.rows import DeviceRow, copy_text, device_line, user_line
from batch.users.spread import Spread, spread
from shared.settings import Settings
from shared.store.databases import Database, Databases

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
    settings: Settings, population: Iterable[list[GeneratedUser]], progress: Progress | None = None
) -> LoadCounts:
    """Write all users and their devices, one transaction a chunk and database. Idempotent: a rerun merges."""
    counts = LoadCounts()
    chunks = iter(population)
    async with spread(settings) as target:
        plain = await target.is_empty()
        chunk = _next(chunks, target.databases)
        while chunk is not None:
            # While PostgreSQL works on a chunk, a thread makes the next one.
            async with asyncio.TaskGroup() as both:
                coming = both.create_task(asyncio.to_thread(_next, chunks, target.databases))
                written = both.create_task(_write(target, chunk, plain=plain))
            plain = written.result()
            counts.add(chunk.users)
            if progress:
                progress(len(chunk.users))
            chunk = coming.result()
        await target.analyze()
    return counts


class _Chunk(NamedTuple):
    """Some users, with the text that COPY takes of them, by database."""

    users: list[GeneratedUser]
    devices: list[DeviceRow]
    texts: dict[Database, tuple[bytes, bytes]]


def _next(chunks: Iterator[list[GeneratedUser]], databases: Databases) -> _Chunk | None:
    users = next(chunks, None)
    if users is None:
        return None
    devices = [device for user in users for device in user.devices]
    texts = {
        database: (
            copy_text(map(user_line, mine)),
            copy_text(device_line(device) for user in mine for device in user.devices),
        )
        for database, mine in databases.share((user.id, user) for user in users).items()
    }
    return _Chunk(users, devices, texts)


async def _write(target: Spread, chunk: _Chunk, *, plain: bool) -> bool:
    """Write one chunk; the answer is whether plain COPY still works for the next."""
    if plain:
        try:
            for database, (users, devices) in chunk.texts.items():
                await copy_plain(target.connections[database], users, devices)
        except UniqueViolation:
            pass  # Somebody else writes users meanwhile: merge from here on.
        else:
            return True
    await target.merge_users(chunk.users)
    await target.merge_devices(chunk.devices)
    return False
