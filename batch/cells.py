"""What is left to read, cell by cell: a cell is a shard and a slot, and a part of the hour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batch.columns import Ints
from batch.plan import Slot


@dataclass(frozen=True, slots=True)
class Cells:
    """In the order in which they are read: shard by shard, slot by slot."""

    plan: Sequence[Slot]
    shards: Ints
    slots: Ints
    """Numbers of the plan's slots, from 0."""
    lows: Ints
    """Their users' first place in the hour; after_ids: from which id on, at that place."""
    after_ids: Ints
    highs: Ints
    """The first place that is not theirs."""

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, part: slice | npt.NDArray[np.bool_]) -> Cells:
        columns = (self.shards, self.slots, self.lows, self.after_ids, self.highs)
        return Cells(self.plan, *(column[part] for column in columns))

    def after(self, cell: int, place: int, user_id: int) -> Cells:
        """What is left after a user of one of them."""
        left = self[cell:]
        lows, after_ids = left.lows.copy(), left.after_ids.copy()
        lows[0], after_ids[0] = place, user_id
        return Cells(self.plan, left.shards, left.slots, lows, after_ids, left.highs)

    def literals(self) -> dict[str, str]:
        """PostgreSQL's text of their columns."""
        slots = [self.plan[n] for n in self.slots.tolist()]
        return {
            "shards": _array(self.shards.tolist()),
            # No quoting: the names are those of the IANA database, letters, digits and "/+-_".
            "zones": _array(slot.time_zone for slot in slots),
            "dates": _array(slot.last_active for slot in slots),
            "lows": _array(self.lows.tolist()),
            "after_ids": _array(self.after_ids.tolist()),
            "highs": _array(self.highs.tolist()),
        }


def _array(things: object) -> str:
    return "{" + ",".join(map(str, things)) + "}"  # type: ignore[call-overload]  # any iterable


def slot_literals(slots: Sequence[Slot], numbers: Sequence[int]) -> dict[str, str]:
    """Some of a plan's slots as look.sql asks for them."""
    chosen = [slots[n] for n in numbers]
    return {
        "numbers": _array(numbers),
        "zones": _array(slot.time_zone for slot in chosen),
        "dates": _array(slot.last_active for slot in chosen),
        "lows": _array(slot.low for slot in chosen),
        "highs": _array(slot.high for slot in chosen),
    }
