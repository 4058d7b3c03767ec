"""Imports a file of users or devices: read, validate, merge, chunk by chunk; what is bad goes to the rejects.

Each chunk is a transaction of its own and merging is idempotent: an import that was broken off is started again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from batch.users.rejects import Rejects
from batch.users.rows import DeviceRow, UserRow
from batch.users.source import FileFormat, RawChunk, Source, open_source
from batch.users.spread import Spread
from batch.users.validate import BadRowError, DeviceParser, UserParser, is_devices, unknown_columns

Progress = Callable[[int, int], None]
"""Told how many more rows are done, and how much of the file."""


@dataclass(slots=True)
class ImportCounts:
    """What became of a file's rows: `read = loaded + rejected`."""

    kind: str
    read: int = 0
    loaded: int = 0
    rejected: int = 0
    ignored_columns: list[str] = field(default_factory=list)


class ImportFile:
    """One file, opened and recognised."""

    def __init__(self, path: Path, file_format: FileFormat | None, now: float) -> None:
        self.path = path
        self.source: Source = open_source(path, file_format)
        self.devices = is_devices(self.source.header)
        self.parse: UserParser | DeviceParser = (DeviceParser if self.devices else UserParser)(self.source.header, now)
        self.kind = "devices" if self.devices else "users"

    async def load(self, target: Spread | None, rejects: Rejects, progress: Progress | None = None) -> ImportCounts:
        """Bring the file into the databases; without them only check it."""
        counts = ImportCounts(self.kind, ignored_columns=unknown_columns(self.source.header))
        chunks = self.source.chunks()
        checked = self._next(chunks)
        done = 0
        while checked is not None:
            # While PostgreSQL merges a chunk, a thread reads and checks the next one.
            async with asyncio.TaskGroup() as both:
                coming = both.create_task(asyncio.to_thread(self._next, chunks))
                merging = both.create_task(self._merge(target, checked))
            bad = sorted([*checked.bad, *merging.result()])
            for position, reason, fields in bad:
                rejects.add(self.path, position, reason, fields)
            read = len(checked.raw.rows) + len(checked.raw.malformed)
            counts.read += read
            counts.rejected += len(bad)
            counts.loaded += read - len(bad)
            if progress:
                progress(read, checked.raw.done - done)
            done = checked.raw.done
            checked = coming.result()
        return counts

    def _next(self, chunks: Iterator[RawChunk]) -> _Checked | None:
        raw = next(chunks, None)
        if raw is None:
            return None
        checked = _Checked(raw, [], [], list(raw.malformed))
        parse = self.parse
        for place, (position, fields) in enumerate(raw.rows):
            try:
                checked.good.append(parse(fields))
                checked.places.append(place)
            except BadRowError as error:
                checked.bad.append((position, str(error), fields))
        return checked

    async def _merge(self, target: Spread | None, checked: _Checked) -> list[tuple[int, str, list[str]]]:
        """Load the good rows; answers those that the database cannot take."""
        if target is None or not checked.good:
            return []
        if not self.devices:
            await target.merge_users([row for row in checked.good if isinstance(row, UserRow)])
            return []
        orphans = await target.merge_devices([row for row in checked.good if isinstance(row, DeviceRow)])
        rows = (checked.raw.rows[checked.places[place]] for place in orphans)
        return [(position, "user_id: no such user; import the users first", fields) for position, fields in rows]


class _Checked(NamedTuple):
    """A chunk after validation; `places` are those of the good rows in `raw.rows`."""

    raw: RawChunk
    good: list[UserRow | DeviceRow]
    places: list[int]
    bad: list[tuple[int, str, list[str]]]
