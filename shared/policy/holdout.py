"""Holdout groups: a share of users who get no reminder of a kind, so that what reminders are worth can be measured.

Who is held out depends on user, kind and salt alone: the same whoever asks, on every day, until the salt is changed.
A larger share keeps those of a smaller one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING

from shared.policy.kinds import CAMPAIGN, KINDS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from shared.settings import Settings

HOLDOUT = "holdout"
"""The reason code of the denial."""
KINDS_WITH_GROUPS = tuple(name for name in KINDS if name != CAMPAIGN.name)
_SHARE = re.compile(r"\s*([a-z_]+)\s*=\s*([0-9]{1,3}(?:\.[0-9]{1,4})?)\s*")
_BITS = 64
_MASK = (1 << _BITS) - 1
# splitmix64's finalizer (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): each bit of the
# id changes half of the result's. Shards and buckets are the top bits of a product, and have nothing to do with it.
_STEPS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST = 31


def shares(text: str) -> dict[str, float]:
    """Kind -> percent, from "comeback=5,practice=1". Raises ValueError that names the remedy."""
    found: dict[str, float] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        match = _SHARE.fullmatch(part)
        if not match or match[1] not in KINDS_WITH_GROUPS or float(match[2]) > 100 or match[1] in found:
            raise ValueError(
                f"{part[:40]!r} is no holdout group: write each kind once with its percentage, such as "
                f"comeback=5,practice=1; kinds are {', '.join(KINDS_WITH_GROUPS)}"
            )
        found[match[1]] = float(match[2])
    return {kind: percent for kind, percent in found.items() if percent}


class Holdout:
    """Who is held out. Falsy where nobody is."""

    def __init__(self, percents: Mapping[str, float], salt: str) -> None:
        self._below = {kind: round(percent / 100 * (1 << _BITS)) for kind, percent in percents.items() if percent}
        self._seed = {kind: _seed(salt, kind) for kind in self._below}

    @classmethod
    def of(cls, settings: Settings) -> Holdout:
        return cls(shares(settings.holdout), settings.holdout_salt)

    def __bool__(self) -> bool:
        return bool(self._below)

    def holds(self, kind: str, user_id: int) -> bool:
        """Whether this user gets no reminder of that kind."""
        below = self._below.get(kind)
        return below is not None and _mixed((user_id + self._seed[kind]) & _MASK) < below

    def among(self, kind: str, user_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """The same for many users at once."""
        import numpy as np  # settings read this module, and whoever reads settings should start fast

        below = self._below.get(kind)
        if below is None:
            return np.zeros(len(user_ids), np.bool_)
        if below > _MASK:
            return np.ones(len(user_ids), np.bool_)
        # Unsigned arithmetic wraps around, which is what is meant here.
        value = user_ids.astype(np.uint64) + np.uint64(self._seed[kind])
        for shift, factor in _STEPS:
            value = (value ^ (value >> np.uint64(shift))) * np.uint64(factor)
        found: npt.NDArray[np.bool_] = (value ^ (value >> np.uint64(_LAST))) < np.uint64(below)
        return found


NOBODY = Holdout({}, "")


def _seed(salt: str, kind: str) -> int:
    return int.from_bytes(blake2b(f"{kind}\0{salt}".encode(), digest_size=8).digest(), "big")


def _mixed(value: int) -> int:
    for shift, factor in _STEPS:
        value = ((value ^ (value >> shift)) * factor) & _MASK
    return value ^ (value >> _LAST)
