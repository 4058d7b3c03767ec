"""What a scan asks before each page: the controller, with its turn, a clock, a log and the replica's lag."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import structlog

from batch.pressure.controller import Controller
from batch.pressure.lag import ReplicaLag
from batch.pressure.slots import Turn
from shared.patience import Sleep

LOOK_SECONDS = 1.0
"""Between two looks at the replica's lag: two round trips a second are nothing to either server."""

log = structlog.get_logger()


class Adaptive:
    """The pace of one scan over one connection. The log has a line when it slows down, and one when that is over."""

    def __init__(
        self,
        controller: Controller,
        database: str,
        sleep: Sleep,
        turn: Turn | None = None,
        lag: ReplicaLag | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._controller = controller
        self._database = database
        self._sleep = sleep
        self._turn = turn
        self._reading = False
        self._lag = lag
        self._now = now
        self._looked = now()
        self._slowed = controller.slowed > 0
        self.pages = 0
        """Read over this connection."""

    async def page_size(self) -> int:
        """Users that the next page may have; returns when it may be read."""
        if self._controller.pause:
            await self._sleep(self._controller.pause)
        if self._turn:
            await self._turn.share()
            await self._turn.take()
        self._reading = True
        await self._look()
        return self._controller.page_size

    async def report(self, seconds: float, rows: int) -> None:
        """A page was read."""
        self._reading = False
        self.pages += 1
        if not self._controller.page(seconds, rows):
            self._note("its pages take long", page_seconds=round(seconds, 3))
        elif self._slowed and not self._controller.pause:
            self._slowed = False
            log.info("the scan needs no more rests", database=self._database, page_size=self._controller.page_size)

    async def idle(self, seconds: float) -> None:
        """The scan's own sleep: until users are due, or a pause is over. Others have its turn meanwhile."""
        if self._turn and not self._reading:
            await self._turn.give_back()
        await self._sleep(seconds)

    async def _look(self) -> None:
        if self._lag is None or self._now() - self._looked < LOOK_SECONDS:
            return
        try:
            seconds = await self._lag.seconds()
        except psycopg.OperationalError as error:
            # The page will tell if it is the replica; without the primary nobody knows how far it is behind.
            log.warning("the replica's lag is not known", database=self._database, error=str(error)[:200])
            self._lag = None
            return
        self._looked = self._now()
        if not self._controller.lag(seconds):
            self._note("the replica is behind", lag_seconds=round(seconds, 1))

    def _note(self, why: str, **figures: float) -> None:
        if not self._slowed:
            self._slowed = True
            size, pause = self._controller.page_size, round(self._controller.pause, 2)
            log.warning(
                "the scan slows down", database=self._database, why=why, page_size=size, pause_seconds=pause, **figures
            )
