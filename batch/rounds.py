"""When a scan reads what: in rounds over the interval, each with the users who have become due since the last one.

So a comeback is read, claimed and sent when it is due, and nobody has to hold it back until then; what the database,
Kafka and the providers see is a flat line. Late, after a break or for an hour that is past, a round has all who are
due.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, Self

import numpy as np

from batch.cells import Cells, slot_literals
from batch.checkpoints import Checkpoint
from batch.columns import Ints
from batch.moments import before
from batch.plan import Plan, Slot
from batch.rows import Reader
from shared.identity import SHARDS

ROUND_SECONDS = 30.0
"""A round costs a descent of the index for each shard and slot that has anybody left."""
_PAIRS_A_LOOK = 50_000
"""Pairs of a shard and a slot that one query looks at: some 0.1 s."""


class Rounds:
    """Of some shards of one run. Moves their checkpoints from round to round; within one, whoever reads does."""

    def __init__(
        self, plan: Plan, slots: Sequence[Slot], places: Mapping[int, Checkpoint], shards: Ints, numbers: Ints
    ) -> None:
        """`shards`, `numbers`: the pairs that have anybody."""
        order = np.lexsort((numbers, shards))
        self._shards, self._numbers = shards[order], numbers[order]
        self._slots = slots
        self.places = places
        self._start, self._end = plan.interval_start.timestamp(), plan.interval_end.timestamp()
        self._low = np.array([slot.low for slot in slots], np.int64)
        self._high = np.array([slot.high for slot in slots], np.int64)
        # Groups don't all wake in the same second.
        self._phase = min(places) / SHARDS * ROUND_SECONDS

    @classmethod
    async def look(cls, reader: Reader, plan: Plan, slots: Sequence[Slot], places: Mapping[int, Checkpoint]) -> Self:
        """Find out which slots have anybody in which shards, now and for the rest of the interval: who is silent can
        leave them, and nobody comes."""
        found: list[tuple[Ints, Ints]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
        most = max(1, _PAIRS_A_LOOK // len(places))
        for begin in range(0, len(slots), most):
            numbers = range(begin, min(begin + most, len(slots)))
            found.append(await reader.look(list(places), slot_literals(slots, numbers)))
        shards, numbers_found = (np.concatenate(column) for column in zip(*found, strict=True))
        return cls(plan, slots, places, shards, numbers_found)

    def next(self, now: float) -> Cells | None:
        """The round of all who are due by now, begun or found half done; None where everybody of the interval is."""
        self._forget()
        if not len(self._shards):
            return None
        due = min(self._end, math.floor(now) + 1.0)
        for place in self.places.values():
            if place.until <= place.begun:
                place.until = max(place.begun, due)
        shards, numbers = self._shards, self._numbers
        low = np.maximum(self._reached("begun"), self._low[numbers])
        high = np.minimum(self._reached("until"), self._high[numbers])
        cells = Cells(self._slots, shards, numbers, low, np.zeros_like(low), high)
        left = low < high
        for shard, place in self.places.items():
            if place.after_slot:
                mine = shards == shard
                left &= ~mine | (numbers + 1 >= place.after_slot)
                here = mine & (numbers + 1 == place.after_slot)
                low[here], cells.after_ids[here] = place.after_place, place.after_id
        return cells[left & (low < high)]

    def end(self) -> None:
        """The round under way is done."""
        for place in self.places.values():
            place.next_round()

    def wake(self) -> float | None:
        """When the next round is to begin; None where there is none left."""
        self._forget()
        if not len(self._shards):
            return None
        # At once where a shard had to end an older round first.
        begun = max(self._start, min(place.begun for place in self.places.values()))
        turns = (begun - self._phase) // ROUND_SECONDS + 1
        return min(self._end, turns * ROUND_SECONDS + self._phase)

    def _forget(self) -> None:
        """Drop the pairs of which all rounds are done."""
        left = self._reached("begun") < self._high[self._numbers]
        self._shards, self._numbers = self._shards[left], self._numbers[left]

    def _reached(self, name: Literal["begun", "until"]) -> Ints:
        """Of each pair, the first place that is not due before its shard's moment of that name."""
        moments: dict[float, int] = {}
        of_shard = np.zeros(SHARDS, np.int64)
        for shard, place in self.places.items():
            of_shard[shard] = moments.setdefault(getattr(place, name), len(moments))
        table = np.stack([before(self._slots, moment) for moment in moments])
        found: Ints = table[of_shard[self._shards], self._numbers]
        return found
