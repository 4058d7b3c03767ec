"""User ids for benches: dense ones as a sequence gives them out, sparse ones as a random 60-bit scheme does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any

import numpy as np

from shared.identity import MULTIPLIER, SHARD_BITS, SLOT_BITS

# splitmix64 (Steele, Lea and Flood, 2014): a bijection, so the ids are distinct before they are cut to 60 bits.
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


class Ids(Enum):
    dense = "dense"
    sparse = "sparse"

    def numbers(self, start: int, n: int) -> Any:
        """`n` ids from the `start`th on, uint64."""
        counted = np.arange(start + 1, start + n + 1, dtype=np.uint64)
        if self is Ids.dense:
            return counted
        mixed = counted * np.uint64(MULTIPLIER)
        for shift, factor in _MIX:
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        mixed ^= mixed >> np.uint64(31)
        return (mixed >> np.uint64(4)) | np.uint64(1 << 59)


def pages(ids: Any, size: int) -> Iterator[Sequence[int]]:
    """Pages of users of one shard, as scans have them."""
    shards = (ids * np.uint64(MULTIPLIER)) >> np.uint64(SLOT_BITS - SHARD_BITS)
    order = np.argsort(shards, kind="stable")
    ends = np.flatnonzero(np.diff(shards[order])) + 1
    for part in np.split(ids[order], ends):
        for start in range(0, len(part), size):
            yield part[start : start + size].tolist()
