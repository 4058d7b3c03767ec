"""Rebuilding the gate: restore its data, and open it at the very end if what was written is still there.

Everything merges upwards, so two rebuilds at once, and one after another that was cut off, are harmless.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import uuid4

from shared.clock import utc
from shared.gate import Keeper, pauses
from shared.identity import SHARDS
from stream.keeping.account import Rebuilt, Tell
from stream.keeping.restore import Restoring
from stream.runtime import Runtime

ATTEMPTS = 3
"""Rebuilds in a row whose data may be lost while they run; then something is wrong that no rebuild mends."""


async def rebuild(
    runtime: Runtime, *, every: bool = False, dry_run: bool = False, tell: Tell = lambda *_: None
) -> Rebuilt:
    """Restore and open the shards that are closed, or all of them. A dry run reads and counts, and writes nothing.

    Raises what `shared.patience.SERVER_TROUBLE` lists: the gate is then as closed as it was, and safe to rebuild again.
    """
    began = time.monotonic()
    keeper = Keeper(runtime.keyspace, runtime.settings)
    closed = set(await keeper.closed())
    left = list(range(SHARDS)) if every else sorted(closed)
    done = Rebuilt(left, dry_run, still_closed=sorted(closed))
    while left and done.attempts < ATTEMPTS:
        done = Rebuilt(done.shards, dry_run, attempts=done.attempts + 1, still_closed=sorted(closed))
        token = uuid4().hex
        if not dry_run:
            await keeper.begin(left, token)
        await Restoring(runtime, keeper, left, closed, done, tell).restore()
        if dry_run:
            break
        done.epoch = epoch_name(runtime)
        left = done.still_closed = await _open(runtime, keeper, left, token, done.epoch)
        closed.update(left)
    done.seconds = time.monotonic() - began
    return done


def epoch_name(runtime: Runtime) -> str:
    """When the gate was opened, UTC."""
    return f"{utc(runtime.clock.now()):%Y-%m-%dT%H:%M:%SZ}"


async def _open(runtime: Runtime, keeper: Keeper, shards: Sequence[int], token: str, epoch: str) -> list[int]:
    """With the pauses in force, which nobody changes meanwhile; the shards that were lost again."""
    async with await pauses.connect(runtime.settings) as connection, pauses.alone(connection):
        rules = [pause.rule for pause in await pauses.active(connection)]
        return await keeper.open(shards, token, epoch, rules)
