"""How many reminders are due and not fired."""

from __future__ import annotations

from collections.abc import Sequence

from shared.due.index import DUE_KINDS
from shared.gate.keys import due_key
from shared.keyspace import Call, Keyspace


async def backlog(keyspace: Keyspace, shards: Sequence[int], now: float) -> dict[str, int]:
    """Kind -> users of these shards whose time has come, those of a paused kind too. Raises `GateUnavailableError`."""
    calls = [Call(shard, ("ZCOUNT", due_key(shard, kind), "-inf", now)) for kind in DUE_KINDS for shard in shards]
    answers = await keyspace.run(calls)
    size = len(shards)
    return {kind.name: sum(answers[n * size : (n + 1) * size]) for n, kind in enumerate(DUE_KINDS)}
