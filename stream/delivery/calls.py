"""The calls of providers that are under way, so that a worker that stops cuts none of them off and begins no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Calls:
    """One worker's."""

    def __init__(self) -> None:
        self._under_way = 0
        self._over = False
        self._ended = asyncio.Event()
        self.winding_up: list[Callable[[], object]] = []
        """Called at the end: what makes those that are under way shorter, by what has not left yet."""

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Around a call, from before its requests leave until what was accepted is settled. Never comes to the call
        once no more are to begin: its batch is not acknowledged then, and comes again elsewhere."""
        if self._over:
            await asyncio.Event().wait()
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._ended.set()

    async def end(self) -> bool:
        """Begin no more; returns when none is under way, and whether one was."""
        self._over = True
        if not self._under_way:
            return False
        for wind_up in self.winding_up:
            wind_up()
        self._ended.clear()
        await self._ended.wait()
        return True
