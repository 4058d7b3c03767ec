"""The activity agent: decode, fold, write through the gate. Thin on purpose; the rules are in `effects`.

A few batches are in hand at a time: while the servers write one, the next is decoded. Each server gets them in their
order all the same: what a user does second must not be overtaken by what was done first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from shared.wire.events import ActivityEvent, decoding
from stream.effects import Effects, effects_of
from stream.erasure import deletions, erase
from stream.meters import counts_of
from stream.readable import Stamped, readable
from stream.runtime import Runtime


class Activity:
    """Handles batches of a worker's events."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        # First come, first served; whoever leaves one line is the next to stand in the following one.
        self._reading, self._redis, self._postgres = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()
        self._unwritten: list[Effects] = []

    async def handle(self, batch: Sequence[Stamped]) -> Effects:
        """Handle raw messages in the order of their partition; returns when all of it is written.

        May be called again before it returns; what was called first is written first.
        """
        now = self._runtime.clock.now()
        async with self._reading:
            events = await readable(self._runtime, batch, decoding(now))
            effects = effects_of(events, await self._zones(events), self._runtime.settings.default_time_zone)
        # The gate first: from here on nobody who practised is reminded, whatever else has to wait.
        async with self._redis:
            if effects.deleted:
                # After what the batch before says of them, and before what they did later, which stays.
                async with self._postgres:
                    await erase(self._runtime, deletions(batch, now))
            await self._to_redis(effects, now)
        self._unwritten.append(effects)
        async with self._postgres:
            mine = any(each is effects for each in self._unwritten)
            rows = await self._to_postgres() if mine else {}
        meter = self._runtime.meter
        meter.written(rows, batch[0].timestamp / 1000 if batch else None)
        meter.batch("events", len(batch))
        meter.events(counts_of(events))
        return effects

    async def _zones(self, events: Iterable[ActivityEvent]) -> dict[int, str]:
        """Of users whose events do not say where they are."""
        runtime, zoneless = self._runtime, [event.user_id for event in events if not event.time_zone]
        if not zoneless:
            return {}
        return await runtime.patience.until_done("looking up time zones", lambda: runtime.writeback.zones(zoneless))

    async def _to_postgres(self) -> dict[str, int]:
        """All that wait, in one transaction: the slower it is, the more of them it takes."""
        waiting, writeback = list(self._unwritten), self._runtime.writeback
        rows = await self._runtime.patience.until_done("writing activity back", lambda: writeback.write(waiting))
        del self._unwritten[: len(waiting)]
        return rows

    async def _to_redis(self, effects: Effects, now: float) -> None:
        runtime, until_done = self._runtime, self._runtime.patience.until_done
        if wishes := effects.opt_outs(now):
            await until_done("telling the gate of opt-outs", lambda: runtime.gate.opt_out(wishes))
        if active := effects.active(now, runtime.quiet):
            await until_done("marking practice at the gate", lambda: runtime.gate.asked(runtime.active.write(active)))


async def handle_events(runtime: Runtime, batch: Sequence[Stamped]) -> Effects:
    """One batch, by itself."""
    return await Activity(runtime).handle(batch)
