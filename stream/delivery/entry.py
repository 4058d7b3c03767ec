"""A route's way through the turnstile: what may be sent now, and what came back for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from shared.patience import Patience
from shared.policy.kinds import KINDS, Lane
from stream.delivery.errors import Action, Verdict
from stream.delivery.progress import Job
from stream.delivery.turnstile.contract import Answers, Grant, State, Turnstile

LOOK_SECONDS = 1.0
"""Between two questions at most; and before what waits is asked about at the gate again."""
SHORTEST_WAIT = 0.05
PACED_SECONDS = 30.0
"""A lane waits so long for the pacer, with all that is behind it. After that the rest of a batch is parked, which is
what a provider with a low rate makes of a large batch."""
KEPT_SECONDS = 5.0
"""Good answers are told with the next question, if that comes soon; the turnstile forgets them after ten."""
A_TENTH = 0.1
"""Of a part's answers must ask for a rest of the whole provider: a single one may be one device's quota, which FCM
does not tell from the project's, or one server's mood."""


class Tally:
    """What came back for one grant."""

    __slots__ = ("bad", "good", "pleas", "turn", "wanted")

    def __init__(self, turn: int) -> None:
        self.turn = turn
        self.good = self.bad = 0
        self.pleas = 0
        """Answers that ask for a rest, the longest one for `wanted` seconds."""
        self.wanted = 0.0

    def hear(self, verdict: Verdict, n: int = 1, unwell: bool = False) -> None:
        """Whatever becomes of the send: a provider that says why it refuses one is well. `unwell`: it said nothing."""
        # A 429 of a single token counts too. When half of all answers are those, it is not the tokens.
        if unwell or verdict.action is Action.retry:
            self.bad += n
        else:
            self.good += n
        if verdict.block:
            self.pleas += n
            self.wanted = max(self.wanted, verdict.block)

    @property
    def block(self) -> float:
        """Seconds for which everybody has to leave the provider alone."""
        return self.wanted if self.pleas >= A_TENTH * (self.good + self.bad) else 0.0

    def answers(self) -> Answers:
        return Answers(self.turn, self.good, self.bad, self.block)


class Entry:
    """One provider's, for all batches of a lane. Waits as long as the gate is down."""

    def __init__(
        self, provider: str, turnstile: Turnstile, patience: Patience, tick: Callable[[], float] = time.monotonic
    ) -> None:
        self._provider = provider
        self._turnstile = turnstile
        self._patience = patience
        self._tick = tick
        self._kept: dict[int, int] = {}
        """Turn -> good answers that the turnstile was not told of yet."""
        self._until = 0.0
        # Answers that were not judged yet, and whether the last judgement was that tokens must not be retired.
        self._unjudged = 0
        self._wave = False

    async def ask(self, jobs: Sequence[Job]) -> Grant:
        """How many of these may be sent now; the wait of a grant that is none is one to be waited."""
        grant = await self._ask(_lane(jobs), len(jobs), self._told())
        return grant._replace(wait=min(max(grant.wait, SHORTEST_WAIT), LOOK_SECONDS))

    async def report(self, grant: Grant, tally: Tally) -> State:
        """How the provider stands after these answers."""
        if grant.state is State.closed and not tally.bad:
            # All is well, as nearly always: no call of its own for that.
            if not self._kept:
                self._until = self._tick() + KEPT_SECONDS
            self._kept[tally.turn] = self._kept.get(tally.turn, 0) + tally.good
            return State.closed
        return (await self._ask(Lane.normal, 0, [*self._told(), tally.answers()])).state

    async def may_retire(self, answers: int, bad: int) -> bool:
        """Whether tokens may be retired that were called bad: `bad` of so many answers that came in."""
        self._unjudged += answers
        # As nearly always there is none, or one in thousands; what becomes of a wave is asked with every part.
        if bad or self._wave:
            answers, self._unjudged = self._unjudged, 0
            may = await self._patience.until_done(
                "asking the turnstile", lambda: self._turnstile.may_retire(self._provider, answers, bad)
            )
            self._wave = not may
        return not self._wave

    def _told(self) -> list[Answers]:
        kept, self._kept = self._kept, {}
        return [Answers(turn, good) for turn, good in kept.items()] if self._tick() < self._until else []

    async def _ask(self, lane: Lane, n: int, answers: Sequence[Answers]) -> Grant:
        return await self._patience.until_done(
            "asking the turnstile", lambda: self._turnstile.ask(self._provider, lane, n, answers)
        )


def _lane(jobs: Sequence[Job]) -> Lane:
    """Of a batch: urgent where all of it is. A lane's topic holds one lane's sends, but nothing says that it must."""
    lanes = {KINDS[job.progress.send.kind].lane for job in jobs}
    return lanes.pop() if len(lanes) == 1 else Lane.normal
