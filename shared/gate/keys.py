"""Every key of the gate. The shard is the hash tag: what concerns one user lives in one cluster slot."""

from __future__ import annotations

from datetime import date


def bucket_key(shard: int, bucket: int, day: date) -> str:
    """Hash: user id -> value."""
    return f"gate:{{{shard}}}:{bucket:x}:{day.isoformat()}"


def tally_key(shard: int, day: date) -> str:
    """Hash: "path:kind code" -> claims granted on that local date; what the audit counts from."""
    return f"tally:{{{shard}}}:{day.isoformat()}"
