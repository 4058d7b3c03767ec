"""The last pushes that were accepted, to look at one device's screen."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import msgspec

from infra.simulator.push import Push

KEPT: Final = 10_000  # over all devices; with full payloads about 40 MB


class RecentPushes:
    def __init__(self) -> None:
        self._pushes: deque[tuple[float, Push]] = deque(maxlen=KEPT)

    def add(self, push: Push, now: float) -> None:
        self._pushes.append((now, push))

    def of(self, token: str) -> list[dict[str, Any]]:
        """A device's pushes among the last ones, the oldest first; `at` in unix seconds."""
        return [msgspec.to_builtins(push) | {"at": at} for at, push in self._pushes if push.token == token]

    def clear(self) -> None:
        self._pushes.clear()
