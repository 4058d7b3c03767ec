"""Who is who: from a user id to its slot, shard and gate bucket, and from a send to its ids.

The same shard is computed in SQL by `surnia_shard(bigint)` (shared/store/migrations); a test holds them together.
"""

from __future__ import annotations

from datetime import date
from hashlib import sha1
from typing import TYPE_CHECKING, NewType
from uuid import UUID, uuid5

if TYPE_CHECKING:
    # Whoever only wants help with the command line should not wait for it.
    import numpy as np
    import numpy.typing as npt


UserId = NewType("UserId", int)

MAX_USER_ID = 2**63 - 1
"""User ids are positive and fit PostgreSQL's bigint."""

SHARD_BITS = 8
SHARDS = 1 << SHARD_BITS

SLOT_BITS = 64
# 2^64 over the golden ratio, odd: Knuth's multiplicative hash (TAOCP 3, 6.4) spreads dense ids over the top bits.
MULTIPLIER = 0x9E3779B97F4A7C15
SPREAD_BITS = 12
SPREADS = 1 << SPREAD_BITS
_SPREAD_MULTIPLIER = 0x6A09E667
_MASK = (1 << SLOT_BITS) - 1
_SEND_NAMESPACE = UUID("5b0bd6a8-0f0c-5d0a-9b1e-73e5a7c0a001")
_SEND_NAMESPACE_BYTES = _SEND_NAMESPACE.bytes
_VARIANTS = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}
"""The digit in which a UUID says how it is laid out: two bits of it are the hash's (RFC 9562, 4.1)."""


def slot(user_id: int) -> int:
    """The 64-bit place of a user: shard and bucket are its top bits."""
    return (user_id * MULTIPLIER) & _MASK


def shard_of(user_id: int) -> int:
    """The user's shard, 0…255."""
    return slot(user_id) >> (SLOT_BITS - SHARD_BITS)


def bucket_of(user_id: int, bucket_bits: int) -> int:
    """The user's gate bucket inside its shard, 0…2^bucket_bits - 1: the slot's bits below the shard's."""
    return (slot(user_id) >> (SLOT_BITS - SHARD_BITS - bucket_bits)) & ((1 << bucket_bits) - 1)


def spread(user_id: int) -> int:
    """The user's place in an hour over which sends are spread, 0…4095, whatever hour it is.

    A multiplicative hash of 32 bits, by the root of 2 where `slot` goes by the golden ratio: who shares a shard, a
    bucket or neighbouring ids is spread all the same. `surnia_spread(bigint)` in SQL.
    """
    folded = (user_id ^ (user_id >> 31)) & 0x7FFFFFFF
    return (folded * _SPREAD_MULTIPLIER >> (32 - SPREAD_BITS)) & (SPREADS - 1)


def spreads(user_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """`spread` of each."""
    folded = (user_ids ^ (user_ids >> 31)) & 0x7FFFFFFF
    found: npt.NDArray[np.int64] = (folded * _SPREAD_MULTIPLIER >> (32 - SPREAD_BITS)) & (SPREADS - 1)
    return found


def send_id(user_id: int, kind: str, local_date: date, campaign: str = "") -> UUID:
    """The id of a send, the same whoever computes it: what repeats it is recognised by.

    A campaign's send is known by the campaign instead of the date: one a user, whenever it is triggered.
    """
    return uuid5(_SEND_NAMESPACE, f"{user_id}:{kind}:{campaign or local_date.isoformat()}")


def send_id_text(user_id: int, kind: str, local_date: date, campaign: str = "") -> str:
    """`str(send_id(…))`, cheaper: delivery needs one for every send, and no UUID."""
    name = f"{user_id}:{kind}:{campaign or local_date.isoformat()}".encode()
    # As RFC 9562 lays out version 5; whoever it is hidden from is not what the hash is for.
    found = sha1(_SEND_NAMESPACE_BYTES + name, usedforsecurity=False).hexdigest()
    return f"{found[:8]}-{found[8:12]}-5{found[13:16]}-{_VARIANTS[found[16]]}{found[17:20]}-{found[20:32]}"
