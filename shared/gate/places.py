"""Users cut into script calls: by shard, bucket by bucket. Vectorised, since it is done for every claim."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from shared.identity import MULTIPLIER, SHARD_BITS, SLOT_BITS

USERS_A_CALL = 500
"""Keeps a script call near a millisecond, and its arguments far below Lua's unpack limit (8,000)."""


class Cut(NamedTuple):
    """Users of one script call. `positions` are those in the caller's sequence, bucket by bucket; users that occur
    twice stand side by side."""

    shard: int
    buckets: list[int]
    sizes: list[int]
    """Users of each bucket."""
    positions: list[int]


def cut(user_ids: Sequence[int], bits: int, most: int = USERS_A_CALL) -> Iterator[Cut]:
    """At most `most` users a cut; `bits`: 2^bits buckets a shard."""
    if not user_ids:
        return
    slots = np.fromiter(user_ids, np.uint64, len(user_ids)) * np.uint64(MULTIPLIER)
    order = np.argsort(slots, kind="stable")
    # Shard and bucket are the slot's top bits, so sorted slots are sorted places.
    places = slots[order] >> np.uint64(SLOT_BITS - SHARD_BITS - bits)
    starts = np.flatnonzero(places[1:] != places[:-1]) + 1
    edges = [0, *starts.tolist(), len(user_ids)]
    found: list[int] = places[[0, *starts]].tolist()
    positions: list[int] = order.tolist()
    mask = (1 << bits) - 1
    shard, begin = found[0] >> bits, 0
    buckets: list[int] = []
    sizes: list[int] = []
    for n, place in enumerate(found):
        start, end = edges[n], edges[n + 1]
        # A bucket may itself be more than a call takes.
        for piece in range(start, end, most):
            size = min(end - piece, most)
            if buckets and (place >> bits != shard or piece + size - begin > most):
                yield Cut(shard, buckets, sizes, positions[begin:piece])
                buckets, sizes, begin = [], [], piece
            shard = place >> bits
            buckets.append(place & mask)
            sizes.append(size)
    yield Cut(shard, buckets, sizes, positions[begin:])
