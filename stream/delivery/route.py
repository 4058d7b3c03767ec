"""One provider's part of a batch: rounds of requests until every device has its answer."""

from __future__ import annotations

from collections.abc import Sequence

from shared.clock import Clock
from shared.gate.contract import Gate
from shared.patience import Patience
from shared.policy.kinds import Path
from shared.wire.sends import RetiredToken
from stream.delivery.admission import Admission
from stream.delivery.backoff import Backoff
from stream.delivery.caller import Caller
from stream.delivery.calls import Calls
from stream.delivery.entry import LOOK_SECONDS, PACED_SECONDS, Entry, Tally
from stream.delivery.errors import Action, Verdict
from stream.delivery.exchange import Engine
from stream.delivery.pauses import Pauses, covered
from stream.delivery.progress import Job
from stream.delivery.provider import Provider
from stream.delivery.turnstile.contract import State

ATTEMPTS = 4
"""Rounds at most: with the waits between them some seconds, so that a lane is not held up for long by a few sends."""

MAX_WAIT = 120.0
"""Seconds a batch is held up for one retry at most, or Kafka takes the worker for dead. A provider that asks for more
gets no retry."""


class Route:
    """Sends to one provider, in rounds, as fast as the turnstile lets it."""

    def __init__(
        self,
        provider: Provider,
        engine: Engine,
        gate: Gate,
        admission: Admission,
        pauses: Pauses,
        clock: Clock,
        patience: Patience,
        backoff: Backoff,
        entry: Entry,
        calls: Calls,
    ) -> None:
        self._name = provider.name
        self._caller = Caller(provider, engine, gate, clock, patience, entry)
        self._admission = admission
        self._pauses = pauses
        self._clock = clock
        self._patience = patience
        self._backoff = backoff
        self._entry = entry
        self._calls = calls

    async def push(self, path: Path, jobs: list[Job], retired: list[RetiredToken]) -> None:
        """Deliver what was admitted a moment ago; answers go into the jobs' progress, dead tokens into `retired`."""
        for tries in range(1, ATTEMPTS + 1):
            if tries > 1:
                jobs = await self._admission.wanted(path, jobs)
            verdicts, state = await self._all(path, jobs, retired)
            again = []
            for job, verdict in verdicts:
                if state is not State.closed and verdict.action is Action.retry:
                    # Nothing was wrong with it: however often it was tried, it goes another way, or waits.
                    job.wait()
                elif self._try_again(job, verdict, tries):
                    again.append((job, verdict))
            wait = self._wait(tries, [verdict for _, verdict in again])
            until = self._clock.now() + wait
            jobs = []
            for job, verdict in again:
                if wait <= MAX_WAIT and until < job.progress.send.expires_at:
                    jobs.append(job)
                else:
                    job.fail(verdict.reason)
            if not jobs:
                break
            if wait:
                await self._patience.rest(self._name, wait)

    async def _all(
        self, path: Path, jobs: list[Job], retired: list[RetiredToken]
    ) -> tuple[list[tuple[Job, Verdict]], State]:
        """Send each once, in as many parts as the turnstile makes of them. What it does not let through goes another
        way, or waits.

        Returns what was not accepted or retired, and why, and how the provider stands now.
        """
        rest: list[tuple[Job, Verdict]] = []
        state, waited, known = State.closed, 0.0, LOOK_SECONDS
        while jobs and (jobs := await self._not_paused(path, jobs)):
            grant = await self._entry.ask(jobs)
            state = grant.state
            if grant.n:
                tally = Tally(grant.turn)
                part, jobs = jobs[: grant.n], jobs[grant.n :]
                async with self._calls.one():
                    rest += await self._caller.call(path, part, retired, tally)
                state = await self._entry.report(grant, tally)
                known = 0.0
            elif state is State.closed and waited < PACED_SECONDS:
                await self._patience.sleep(grant.wait)
                waited, known = waited + grant.wait, known - grant.wait
            else:
                for job in jobs:
                    # The pacer's queue is no reason to go another way: there it would take somebody else's turn.
                    job.progress.hold() if state is State.closed else job.wait()
                break
            if jobs and known <= 0:
                jobs, known = await self._admission.wanted(path, jobs), LOOK_SECONDS
        return rest, state

    async def _not_paused(self, path: Path, jobs: list[Job]) -> list[Job]:
        """Without those that this provider must not get now: they are parked, unless another device takes the send.
        They go no other way: who pauses a provider wants its sends to wait."""
        rules = await self._pauses.rules()
        if not rules:
            return jobs
        free = []
        for job in jobs:
            if covered(rules, path, job.progress.send, self._name):
                job.progress.pause()
            else:
                free.append(job)
        return free

    def _try_again(self, job: Job, verdict: Verdict, tries: int) -> bool:
        """Whether a refused job has another try; if not, it has failed."""
        if tries < ATTEMPTS:
            if verdict.action is Action.retry:
                return True
            if verdict.action is Action.remint and not job.reminted:
                job.reminted = True
                return True
        job.fail(verdict.reason)
        if verdict.action in (Action.stop, Action.remint):
            self._caller.alert(verdict.reason)
        return False

    def _wait(self, tries: int, verdicts: Sequence[Verdict]) -> float:
        """Seconds before the next round: none for new credentials alone, else what was asked for plus backing off."""
        if all(verdict.action is Action.remint for verdict in verdicts):
            return 0.0
        return max((verdict.after or 0.0 for verdict in verdicts), default=0.0) + self._backoff.wait(tries)
