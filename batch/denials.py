"""Whom the batch path turns down by itself, before the gate is asked: a page at a time, as arrays.

To add a reason: a name at the end of `REASONS`, the column it needs in `Candidates` and in `queries/page.sql`, and a
line in `turned_down`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.policy.holdout import HOLDOUT, Holdout
from shared.policy.kinds import COMEBACK

REASONS = ("", "opted_out", "no_device", "unanswered", HOLDOUT)
"""By their numbers here; 0: nothing speaks against a reminder."""
_OPTED_OUT, _NO_DEVICE, _UNANSWERED, _HELD_OUT = 1, 2, 3, 4

Reasons = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Candidates:
    """A page's users, one entry each in all arrays."""

    user_ids: npt.NDArray[np.int64]
    opted_out: npt.NDArray[np.int16]
    """A bit for each kind's code."""
    reachable: npt.NDArray[np.bool_]
    """Whether there is a device, or an e-mail address that may be written to."""
    unanswered: npt.NDArray[np.int64]
    """Comebacks that were delivered since the last activity."""


def turned_down(users: Candidates, stop_after: int, holdout: Holdout) -> Reasons:
    """The number of the reason for each; where several hold, the one that stands first in `REASONS`.

    `stop_after`: unanswered comebacks after which a user is left alone; 0: never. Who is held out is asked
    last, so that a group is of those who would have been reminded.
    """
    found = np.zeros(len(users.user_ids), np.uint8)
    # From the last reason to the first: the first stays.
    if holdout:
        found[holdout.among(COMEBACK.name, users.user_ids)] = _HELD_OUT
    if stop_after:
        found[users.unanswered >= stop_after] = _UNANSWERED
    found[~users.reachable] = _NO_DEVICE
    found[users.opted_out >> COMEBACK.code & 1 == 1] = _OPTED_OUT
    return found
