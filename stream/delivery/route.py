"""One provider's part of a batch: rounds of requests until every device has its answer."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from shared.clock import Clock
from shared.gate.contract import Gate
from shared.patience import Patience
from shared.policy.kinds import Path
from shared.wire.sends import RetiredToken
from stream.delivery.admission import Admission
from stream.delivery.backoff import Backoff
from stream.delivery.errors import Action, Verdict
from stream.delivery.exchange import FINAL, Answer, Engine, PushRequest, TransportError, perhaps_sent
from stream.delivery.pauses import Pauses, covered
from stream.delivery.progress import EXPIRED, Job
from stream.delivery.provider import CredentialsError, PayloadTooLargeError, Provider, Push

ATTEMPTS = 4
"""Rounds at most: with the waits between them some seconds, so that a lane is not held up for long by a few sends."""

MAX_WAIT = 120.0
"""Seconds a batch is held up for one retry at most, or Kafka takes the worker for dead. A provider that asks for more
gets no retry."""

_log = structlog.get_logger(__name__)


class Route:
    """Sends to one provider, in rounds. What is accepted is settled before anything else happens."""

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
    ) -> None:
        self._provider = provider
        self._engine = engine
        self._gate = gate
        self._admission = admission
        self._pauses = pauses
        self._clock = clock
        self._patience = patience
        self._backoff = backoff
        self._alerted: set[str] = set()

    async def push(self, path: Path, jobs: list[Job]) -> list[RetiredToken]:
        """Deliver what was admitted a moment ago; the answers go into the jobs' progress."""
        retired: list[RetiredToken] = []
        for tries in range(1, ATTEMPTS + 1):
            if tries > 1:
                jobs = await self._still_wanted(path, jobs)
            jobs = await self._not_paused(path, jobs)
            if not jobs:
                break
            verdicts = await self._round(path, jobs, retired)
            again = [(job, verdict) for job, verdict in verdicts if self._try_again(job, verdict, tries)]
            wait = self._wait(tries, [verdict for _, verdict in again])
            until = self._clock.now() + wait
            jobs = []
            for job, verdict in again:
                if wait <= MAX_WAIT and until < job.progress.send.expires_at:
                    jobs.append(job)
                else:
                    job.progress.fail(self._provider.name, verdict.reason, job.target)
            if not jobs:
                break
            if wait:
                await self._patience.sleep(wait)
        return retired

    async def _still_wanted(self, path: Path, jobs: list[Job]) -> list[Job]:
        wanted = set(await self._admission.admit(path, (job.progress for job in jobs)))
        return [job for job in jobs if job.progress in wanted]

    async def _not_paused(self, path: Path, jobs: list[Job]) -> list[Job]:
        """Without those that this provider must not get now: they are parked, unless another device takes the send."""
        rules = await self._pauses.rules()
        if not rules:
            return jobs
        free = []
        for job in jobs:
            if covered(rules, path, job.progress.send, self._provider.name):
                job.progress.park()
            else:
                free.append(job)
        return free

    async def _round(self, path: Path, jobs: list[Job], retired: list[RetiredToken]) -> list[tuple[Job, Verdict]]:
        """Send once. Returns what was not accepted or retired, and why."""
        name = self._provider.name
        try:
            credentials = await self._provider.credentials()
        except CredentialsError as error:
            _log.warning("delivery.no_credentials", provider=name, error=str(error))
            action = Action.retry if error.transient else Action.stop
            return [(job, Verdict(action, f"{name}_no_credentials")) for job in jobs]
        jobs, requests = self._requests(jobs, credentials)
        answers = await self._engine.send(requests)
        rest: list[tuple[Job, Verdict]] = []
        accepted = []
        for job, answer in zip(jobs, answers, strict=True):
            verdict = self._verdict(answer)
            if verdict.action is Action.accepted:
                job.progress.accept(name, answer.seconds)
                accepted.append(job.progress.key)
            elif verdict.action is Action.retire:
                job.progress.retire(name, job.target)
                target, at = job.target, self._clock.now() if verdict.at is None else verdict.at
                user_id = job.progress.send.user_id
                retired.append(RetiredToken(user_id, target.device_id, target.token, verdict.reason, at))
            else:
                if perhaps_sent(answer):
                    job.progress.doubt()
                if verdict.action is Action.remint:
                    self._provider.reject(credentials)
                rest.append((job, verdict))
        if accepted:
            keys = list(dict.fromkeys(accepted))
            await self._patience.until_done("settling at the gate", lambda: self._gate.settle(path, keys))
            self._alerted.clear()
        return rest

    def _requests(self, jobs: list[Job], credentials: str) -> tuple[list[Job], list[PushRequest]]:
        """The requests of those that are in time and can be put into the provider's words."""
        now = self._clock.now()
        sendable, requests = [], []
        for job in jobs:
            progress = job.progress
            if progress.send.expires_at <= now:
                progress.end(EXPIRED)
                continue
            push = Push(progress.send, progress.send_id, progress.text, job.target.token, now)
            try:
                requests.append(self._provider.request(push, credentials))
            except PayloadTooLargeError:
                progress.fail(self._provider.name, f"{self._provider.name}_payload_too_large", job.target)
            except ValueError as error:
                _log.warning("delivery.unsendable", provider=self._provider.name, error=str(error))
                progress.fail(self._provider.name, f"{self._provider.name}_unsendable", job.target)
            else:
                sendable.append(job)
        return sendable, requests

    def _verdict(self, answer: Answer) -> Verdict:
        if isinstance(answer, TransportError):
            action = Action.fail if answer.reason in FINAL else Action.retry
            return Verdict(action, f"{self._provider.name}_{answer.reason}")
        return self._provider.verdict(answer)

    def _try_again(self, job: Job, verdict: Verdict, tries: int) -> bool:
        """Whether a refused job has another try; if not, it has failed."""
        if tries < ATTEMPTS:
            if verdict.action is Action.retry:
                return True
            if verdict.action is Action.remint and not job.reminted:
                job.reminted = True
                return True
        job.progress.fail(self._provider.name, verdict.reason, job.target)
        if verdict.action in (Action.stop, Action.remint) and verdict.reason not in self._alerted:
            self._alerted.add(verdict.reason)
            _log.error(
                "delivery.stopped",
                provider=self._provider.name,
                reason=verdict.reason,
                remedy="no push is accepted until the provider's settings (keys, topic, project) are put right",
            )
        return False

    def _wait(self, tries: int, verdicts: Sequence[Verdict]) -> float:
        """Seconds before the next round: none for new credentials alone, else what was asked for plus backing off."""
        if all(verdict.action is Action.remint for verdict in verdicts):
            return 0.0
        return max((verdict.after or 0.0 for verdict in verdicts), default=0.0) + self._backoff.wait(tries)
