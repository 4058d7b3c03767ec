"""How long to wait before a provider is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential with full jitter, so that workers that failed together do not come back together."""

    base: float = 1.0
    """Seconds at most before the second try; doubles with each."""
    cap: float = 30.0
    """Seconds at most before any."""
    draw: Callable[[float, float], float] = random.uniform

    def wait(self, tries: int) -> float:
        """Seconds to wait after so many tries (1, 2, …)."""
        return self.draw(0.0, min(self.cap, self.base * 2 ** min(tries - 1, 30)))
