"""Every key of the gate. The shard is the hash tag: what concerns one user lives in one cluster slot."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from shared.policy.kinds import ReminderKind


def epoch_key(shard: int) -> str:
    """String: vouches for all the shard's data (`lua/door.lua`). Where it is missing, the gate is closed."""
    return f"epoch:{{{shard}}}"


def rebuild_key(shard: int) -> str:
    """Hash: a running rebuild's token -> the server it began on."""
    return f"rebuild:{{{shard}}}"


def bucket_key(shard: int, bucket: int, day: date) -> str:
    """Hash: user id -> value."""
    return f"gate:{{{shard}}}:{bucket:x}:{day.isoformat()}"


def bucket_keys(shard: int, buckets: Iterable[int], day: date) -> list[str]:
    """`bucket_key` of each: nearly every user of a message has a bucket of its own."""
    head, tail = f"gate:{{{shard}}}:", f":{day.isoformat()}"
    return [f"{head}{bucket:x}{tail}" for bucket in buckets]


def campaign_key(shard: int, bucket: int, campaign: str) -> str:
    """Hash: user id -> 1 claimed, 2 settled."""
    return f"campaign:{{{shard}}}:{bucket:x}:{campaign}"


def tally_key(shard: int, day: date) -> str:
    """Hash: "path:kind code:answer" -> how often a claim of that local date was answered so; for `gate status`."""
    return f"tally:{{{shard}}}:{day.isoformat()}"


def due_key(shard: int, kind: ReminderKind) -> str:
    """Sorted set: user id -> due (unix seconds), of one of the stream path's kinds."""
    return f"due:{{{shard}}}:{kind.name}"
