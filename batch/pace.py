"""How large a scan's next page may be, and when: whoever protects the database decides."""

from __future__ import annotations

from typing import Protocol


class Pace(Protocol):
    """Asked before every page that a scan reads, and told what the page came to."""

    async def page_size(self) -> int:
        """Users that the next page may have; returns when it may be read."""

    async def report(self, seconds: float, rows: int) -> None:
        """How long the database took for a page, and how many users it had."""


class Constant:
    """Every page alike, none later than it could be."""

    def __init__(self, size: int) -> None:
        self._size = size

    async def page_size(self) -> int:
        return self._size

    async def report(self, seconds: float, rows: int) -> None:
        pass
