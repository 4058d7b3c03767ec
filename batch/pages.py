"""Cuts cells into pages, and keeps account of how far those that are written reach."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import numpy as np

from batch.cells import Cells
from batch.checkpoints import Checkpoint
from batch.columns import Ints
from batch.desk import Decided
from batch.pace import Pace
from batch.rows import Reader, Rows
from shared.identity import spread

_FEWEST_CELLS, _MOST_CELLS = 64, 4096
"""Cells that one query is told. Most are empty in a small round, and a hundred users are in one of a large one."""


@dataclass(frozen=True, slots=True)
class Page:
    """Users of some cells, in their order."""

    cells: Cells
    rows: Rows

    @property
    def shards(self) -> Ints:
        return self.cells.shards[self.rows.cells]

    @property
    def slots(self) -> Ints:
        return self.cells.slots[self.rows.cells]

    def of(self, rows: Rows) -> Page:
        """Some of its users."""
        return Page(self.cells, rows)


async def read(reader: Reader, pace: Pace, cells: Cells) -> AsyncIterator[Page]:
    """All users of some cells. A page may be of several shards, and is full unless few are left."""
    window = _FEWEST_CELLS
    while len(cells):
        limit = await pace.page_size()
        asked = cells[:window]
        began = time.monotonic()
        rows = await reader.page(asked, limit)
        await pace.report(time.monotonic() - began, len(rows))
        if len(rows) < limit:
            visited = len(asked)
            cells = cells[visited:]
        else:
            last, user_id = int(rows.cells[-1]), int(rows.user_ids[-1])
            visited = last + 1
            cells = cells.after(last, spread(user_id), user_id)
        # So many cells as the next page may need, and some more.
        needed = limit * visited * 5 // (4 * max(1, len(rows)))
        window = min(max(needed, _FEWEST_CELLS), _MOST_CELLS)
        if len(rows):
            yield Page(asked, rows)


def add(places: Mapping[int, Checkpoint], page: Page, decided: Decided) -> dict[int, Checkpoint]:
    """Count what a page came to, and move the places of its shards to the last users they have on it."""
    shards, slots = page.shards, page.slots
    touched: dict[int, Checkpoint] = {}
    for n in np.append(np.flatnonzero(shards[1:] != shards[:-1]), len(shards) - 1).tolist():
        user_id = int(page.rows.user_ids[n])
        place = touched[int(shards[n])] = places[int(shards[n])]
        place.after_slot, place.after_place, place.after_id = int(slots[n]) + 1, spread(user_id), user_id
    for shard, counts in decided.counts.items():
        places[shard].counts += counts
    return touched
