"""Facts on disk, divided by user, so that a population is compared with one part of it in memory at a time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from batch.audit.facts import RECORD, Records

SHARDS = 64
"""Files of a spool; of 40 million facts each has 10 MB."""
_SHARD_BITS = 6
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_HELD = 1 << 20
"""Facts held in memory before they are written."""


class Spool:
    """Facts in the order in which they came, in files of a folder of its own. Raises OSError where the disk is full."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._held: list[Records] = []
        self._holding = 0
        self.count = 0

    def add(self, records: Records) -> None:
        """Append facts."""
        self._held.append(records)
        self._holding += len(records)
        self.count += len(records)
        if self._holding >= _HELD:
            self._write()

    def shard(self, shard: int) -> Records:
        """What is known of the users of a shard, 0…`SHARDS` - 1; the same users in every spool."""
        self._write()
        file = self._folder / str(shard)
        return np.fromfile(file, RECORD) if file.exists() else np.empty(0, RECORD)

    def remove(self) -> None:
        """Delete the files; the spool must not be used after it."""
        for file in self._folder.iterdir():
            file.unlink()
        self._folder.rmdir()

    def _write(self) -> None:
        if not self._holding:
            return
        records = np.concatenate(self._held)
        self._held.clear()
        self._holding = 0
        shards = (records["user"].astype(np.uint64) * _MULTIPLIER) >> np.uint64(64 - _SHARD_BITS)
        order = np.argsort(shards, kind="stable")
        records = records[order]
        bounds = np.searchsorted(shards[order], np.arange(SHARDS + 1, dtype=np.uint64))
        for shard, (start, end) in enumerate(pairwise(bounds.tolist())):
            if start < end:
                with (self._folder / str(shard)).open("ab") as file:
                    records[start:end].tofile(file)
