"""Between two pages of a backfill: is it to stop, may it go on yet, and what has it come to so far?

It stands around the gate and the producer that the planners of both paths are given, so that neither path knows of it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import date

from batch.backfill.store import Counts
from shared.gate import Claim, Gate, SendKey, Standing
from shared.patience import Sleep
from shared.policy.kinds import Path
from shared.producer import Producer, Record
from shared.settings import Settings
from shared.topics import Topics
from shared.wire.sends import Result, decode_outcomes, decode_sends

_NAP = 0.5
"""Seconds: a backfill that waits for its rate looks this often whether it is to stop."""
EXPIRED, SENT = "expired", "sent"


class CancelledBackfillError(Exception):
    """Somebody has stopped the backfill; all pages before are done and written down."""


class Pace:
    """One process's part of a backfill. `between` runs before every page: it saves what was counted, and raises
    `CancelledBackfillError` where the backfill is to stop."""

    def __init__(
        self,
        between: Callable[[], Awaitable[None]],
        rate: float | None = None,
        sleep: Sleep = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._between = between
        self._rate = rate
        self._sleep = sleep
        self._monotonic = monotonic
        self._began = monotonic()
        self._sent = 0
        self._in_page = False
        self.counts: Counts = Counter()
        """What has been written to Kafka since somebody took the counts."""

    def page_done(self, _: int = 0) -> None:
        """What comes next is another page."""
        self._in_page = False

    async def turn(self) -> None:
        """Wait until the next page may be claimed. Within a page it does nothing: half a page is not to be left."""
        if self._in_page:
            return
        await self._between()
        while self._rate and (ahead := self._began + self._sent / self._rate - self._monotonic()) > 0:
            await self._sleep(min(ahead, _NAP))
            await self._between()

    def claimed(self, answers: Sequence[Claim]) -> None:
        """A page has begun as soon as the gate has taken something."""
        self._in_page = self._in_page or any(not answer.denied and answer is not Claim.paused for answer in answers)

    def page_begun(self) -> None:
        """The page has had its turn, whatever the gate is asked within it."""
        self._in_page = True

    async def nap(self, seconds: float) -> None:
        """Wait, in the middle of nothing."""
        await self._sleep(seconds)

    def note(self, kind: str, answer: str) -> None:
        self.counts[kind, answer] += 1
        self._sent += answer == SENT


class PacedGate:
    """The gate, one page at a time."""

    def __init__(self, gate: Gate, pace: Pace) -> None:
        self._gate = gate
        self._pace = pace

    async def claim(self, path: Path, kind: str, day: date, user_ids: Sequence[int], campaign: str = "") -> list[Claim]:
        await self._pace.turn()
        answers = await self._gate.claim(path, kind, day, user_ids, campaign)
        self._pace.claimed(answers)
        return answers

    async def practised(self, marks: Sequence[tuple[int, date]]) -> None:
        await self._gate.practised(marks)

    async def opt_out(self, choices: Sequence[tuple[int, date, int]]) -> None:
        await self._gate.opt_out(choices)

    async def standing(self, path: Path, keys: Sequence[SendKey]) -> list[Standing]:
        return await self._gate.standing(path, keys)

    async def settle(self, path: Path, keys: Sequence[SendKey]) -> None:
        await self._gate.settle(path, keys)


class CountingProducer(Producer):
    """Counts what a page came to when Kafka has it: the messages say it all."""

    def __init__(self, settings: Settings, pace: Pace) -> None:
        super().__init__(settings)
        self._outcomes = Topics.of(settings).outcomes
        self._pace = pace

    async def write(self, records: Iterable[Record]) -> None:
        written = list(records)
        await super().write(written)
        for record in written:
            if record.topic != self._outcomes:
                for send in decode_sends(record.value).sends:
                    self._pace.note(send.kind, SENT)
                continue
            for outcome in decode_outcomes(record.value).outcomes:
                self._pace.note(outcome.kind, EXPIRED if outcome.result is Result.expired else outcome.reason)
