"""Who is fired next: the most pressing kind gets the most, but none is held up for long, and shards take turns."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from shared.due.index import DUE_KINDS, Portion
from shared.policy.kinds import ABANDONED_LESSON, PRACTICE, STREAK_SAVER, ReminderKind

Strip = list[Portion]
"""What is read and fired together: portions of one shard, or of several with few users each; the most pressing kind
first. No two strips of a deal share a shard."""

DEAL = 32_000
"""Users dealt out at a time: what becomes due meanwhile waits a second or two for its turn, whatever the backlog."""
PAGE = 1_000
"""Users looked up and planned at a time, by primary key (DESIGN, due index)."""
PER_SHARD = 4_000
"""Users of one shard and kind in a strip at most: what a worker holds in memory is this times its strips under way.
Several pages, because neighbours in a gate's bucket cost less together."""
SHARES = {STREAK_SAVER: 4, PRACTICE: 1, ABANDONED_LESSON: 1}
"""How kinds that all have more than fits divide a deal."""


class Turns:
    """Where each kind's turn is among the shards, for as long as a worker lives."""

    def __init__(self) -> None:
        self._next = dict.fromkeys(DUE_KINDS, 0)

    def deal(
        self, waiting: Mapping[ReminderKind, Mapping[int, int]], probes: Collection[ReminderKind] = (), probe: int = 4
    ) -> list[Strip]:
        """Cut the next users out of what waits, kind -> shard -> how many; bounded, whatever waits.

        Of the kinds in `probes` a page at most, `probe` users a shard: enough to see whether they are still paused.
        """
        totals = {kind: sum(shards.values()) for kind, shards in waiting.items()}
        for kind in probes:
            totals[kind] = min(totals.get(kind, 0), PAGE)
        shards: dict[int, Strip] = {}
        # In the order of urgency, so that a strip has the most pressing kind first: the daily cap counts that way.
        for kind, most in _shares(totals).items():
            per_shard = probe if kind in probes else PER_SHARD
            for portion in self._turn(kind, waiting[kind], most, per_shard):
                shards.setdefault(portion.shard, []).append(portion)
        return _strips(shards)

    def _turn(self, kind: ReminderKind, waiting: Mapping[int, int], most: int, per_shard: int) -> list[Portion]:
        """The kind's next portions, from the shard on that had no turn for the longest time."""
        found: list[Portion] = []
        for shard in sorted(waiting, key=lambda shard: (shard < self._next[kind], shard)):
            if most <= 0:
                break
            n = min(waiting[shard], per_shard, most)
            found.append(Portion(shard, kind, n))
            most -= n
            self._next[kind] = shard + 1
        return found


def _shares(totals: Mapping[ReminderKind, int]) -> dict[ReminderKind, int]:
    """How much of a deal each kind gets: all it has where that is less than its share, and what it leaves goes to the
    others."""
    left = DEAL
    shares: dict[ReminderKind, int] = {}
    open_kinds = [kind for kind in DUE_KINDS if totals.get(kind)]
    while open_kinds:
        parts = sum(SHARES[kind] for kind in open_kinds)
        modest = [kind for kind in open_kinds if totals[kind] <= left * SHARES[kind] // parts]
        if not modest:
            shares |= {kind: max(1, left * SHARES[kind] // parts) for kind in open_kinds}
            break
        for kind in modest:
            shares[kind] = totals[kind]
            left -= totals[kind]
        open_kinds = [kind for kind in open_kinds if kind not in modest]
    return {kind: shares[kind] for kind in DUE_KINDS if kind in shares}


def _strips(shards: Mapping[int, Strip]) -> list[Strip]:
    """Shards that fit into a page together, the others by themselves; those with the most pressing kind first."""
    strips: list[Strip] = []
    room = 0
    for shard in sorted(shards, key=lambda shard: (DUE_KINDS.index(shards[shard][0].kind), shard)):
        users = sum(portion.most for portion in shards[shard])
        if users > room:
            strips.append([])
            room = PAGE
        strips[-1] += shards[shard]
        room -= users
    return strips
