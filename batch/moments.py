"""When the users of a page are due, and until when they may be reminded, as arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from batch.columns import Ints
from batch.plan import Slot
from shared.identity import SPREAD_BITS, spreads
from shared.policy.kinds import COMEBACK
from shared.policy.window import QuietHours


class Moments:
    """Those of a plan's slots."""

    def __init__(self, slots: Sequence[Slot], quiet: QuietHours) -> None:
        self._due = np.array([slot.due_at for slot in slots], np.int64)
        self._window = np.array([slot.window for slot in slots], np.int64)
        self._until = np.array([_closing(slot, quiet) for slot in slots], np.float64)

    def due(self, slots: Ints, user_ids: Ints) -> Ints:
        """Unix seconds: the send hour, and the user's part of the window."""
        found: Ints = self._due[slots] + (spreads(user_ids) * self._window[slots] >> SPREAD_BITS)
        return found

    def expires(self, slots: Ints, due: Ints) -> Ints:
        """As `shared.policy.window.expires_at` says, of each."""
        return np.minimum(due + int(COMEBACK.life), self._until[slots]).astype(np.int64)


def _closing(slot: Slot, quiet: QuietHours) -> float:
    """When the next quiet hours begin; at once where it is quiet already."""
    return slot.due_at if quiet.covers(slot.due_at, slot.time_zone) else quiet.next_start(slot.due_at, slot.time_zone)


def before(slots: Sequence[Slot], instant: float) -> Ints:
    """`Slot.before` of each."""
    return np.array([slot.before(instant) for slot in slots], np.int64)
