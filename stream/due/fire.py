"""Firing what is due: a few pages of a thousand users at once, each planned and only then taken out of the index."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple

import structlog

from shared.due.index import DUE_KINDS, Portion
from shared.due.page import Fired, PageFirer, Waiting
from shared.identity import SHARDS, slot
from shared.planning import Planner
from shared.policy.kinds import Path, ReminderKind
from stream.due.turns import PAGE, Strip, Turns
from stream.runtime import Runtime

log = structlog.get_logger()

PROBE = 4
"""Users a shard of a kind that was paused the last time: enough to see whether it still is."""

Owned = Callable[[], Collection[int]]
"""The shards that are this worker's now."""


def owned_shards(partitions: Collection[int], count: int) -> list[int]:
    """The shards that belong to these of `count` partitions of activity.events."""
    return [shard for shard in range(SHARDS) if shard % count in partitions]


async def _end(tasks: set[asyncio.Task[int]]) -> None:
    """Cancel them, and return when all have ended.

    Once is not enough: a cancellation that meets the answer which psycopg waits for is lost in Python 3.11.
    """
    while tasks:
        for task in tasks:
            task.cancel()
        done, tasks = await asyncio.wait(tasks, timeout=0.5)
        await asyncio.gather(*done, return_exceptions=True)


class _Held(NamedTuple):
    """What one call leaves alone because it found it paused: it would only be read again."""

    kinds: set[str]
    places: set[tuple[str, int]]
    """(kind, shard): a pause reaches the shards one after the other."""

    def holds(self, kind: ReminderKind, shard: int) -> bool:
        return kind.name in self.kinds or (kind.name, shard) in self.places

    def without(self, page: list[Waiting]) -> list[Waiting]:
        """Those of a page that it does not hold; nearly always all."""
        if not self.kinds and not self.places:
            return page
        return [one for one in page if not self.holds(one.kind, one.shard)]


class Firing:
    """The due loop of one worker. One call at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        planner = Planner(Path.stream, runtime.gate, runtime.producer, runtime.settings, runtime.clock)
        pools = runtime.firing
        self._pages = PageFirer(
            pools.main.connection,
            lambda database: pools.of(database).connection(),
            pools.databases,
            runtime.due,
            planner,
            runtime.settings,
            runtime.clock,
            runtime.meter,
        )
        self._turns = Turns()
        self._paused: set[str] = set()

    async def fire(self, shards: Collection[int]) -> int:
        """Fire everything that is due in these shards; how many users were fired. Safe to repeat or run twice.

        Who is paused stays in the index, for a later call.
        """
        return await self.fire_owned(lambda: shards)

    async def fire_owned(self, owned: Owned) -> int:
        """The same for shards that may change hands meanwhile: what is not this worker's any more is not begun."""
        fired = 0
        held = _Held(set(), set())
        ready: deque[Strip] = deque()
        busy: dict[asyncio.Task[int], Strip] = {}
        try:
            while True:
                if not ready:
                    in_hand = {portion.shard for strip in busy.values() for portion in strip}
                    ready.extend(await self._deal(owned, in_hand, held))
                while ready and len(busy) < self._runtime.settings.fire_concurrency:
                    strip = ready.popleft()
                    busy[asyncio.create_task(self._strip(strip, owned, held))] = strip
                if not busy:
                    return fired
                done, _ = await asyncio.wait(busy, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del busy[task]
                    fired += task.result()
        finally:
            await _end(set(busy))

    async def _deal(self, owned: Owned, in_hand: Collection[int], held: _Held) -> list[Strip]:
        """What is next, but for shards that are being fired: whom those have is still in the index."""
        shards = [shard for shard in owned() if shard not in in_hand]
        now = self._runtime.clock.now()
        waiting = await self._runtime.patience.until_done(
            "looking for what is due", lambda: self._runtime.due.counts(shards, now)
        )
        found = {
            kind: {shard: n for shard, n in counts.items() if not held.holds(kind, shard)}
            for kind, counts in waiting.items()
        }
        probes = [kind for kind in DUE_KINDS if kind.name in self._paused]
        return self._turns.deal(found, probes, PROBE)

    async def _strip(self, strip: Strip, owned: Owned, held: _Held) -> int:
        """Fire a strip, page by page: neighbours at the gate together, the most pressing kind before the others."""
        mine = set(owned())
        portions = [portion for portion in strip if portion.shard in mine]
        fired = 0
        waiting = await self._read(portions)
        for start in range(0, len(waiting), PAGE):
            if page := held.without(waiting[start : start + PAGE]):
                result = await self._runtime.patience.until_done("firing", partial(self._pages.fire, page))
                fired += result.fired
                self._note(result, held)
        return fired

    async def _read(self, portions: Sequence[Portion]) -> list[Waiting]:
        now = self._runtime.clock.now()
        found = await self._runtime.patience.until_done(
            "reading the due index", lambda: self._runtime.due.read(portions, now)
        )
        kinds: dict[str, list[Waiting]] = {kind.name: [] for kind in DUE_KINDS}
        for portion, dues in zip(portions, found, strict=True):
            kinds[portion.kind.name] += [Waiting(portion.kind, portion.shard, due) for due in dues]
        for waiting in kinds.values():
            waiting.sort(key=lambda one: slot(one.due.user_id))
        return [one for waiting in kinds.values() for one in waiting]

    def _note(self, result: Fired, held: _Held) -> None:
        for kind, shards in result.paused.items():
            if kind in result.kinds_fired:
                held.places.update((kind, shard) for shard in shards)
            else:
                held.kinds.add(kind)
            if kind not in self._paused:
                self._paused.add(kind)
                log.warning("paused reminders stay in the due index", kind=kind)
        held_kinds = held.kinds | {kind for kind, _ in held.places}
        for kind in (self._paused & result.kinds_fired) - held_kinds:
            self._paused.remove(kind)
            log.info("reminders are fired again", kind=kind)
