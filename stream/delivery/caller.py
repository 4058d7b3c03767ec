"""One call of a provider for each of some sends: what is accepted is settled before anything else happens."""

from __future__ import annotations

import structlog

from shared.clock import Clock
from shared.gate.contract import Gate
from shared.patience import Patience
from shared.policy.kinds import Path
from shared.wire.sends import RetiredToken
from stream.delivery.entry import Entry, Tally
from stream.delivery.errors import Action, Verdict
from stream.delivery.exchange import FINAL, Answer, Engine, PushRequest, TransportError, perhaps_sent
from stream.delivery.http2_batch import NOT_SENT
from stream.delivery.progress import EXPIRED, Job
from stream.delivery.provider import CredentialsError, PayloadTooLargeError, Provider, Push

_log = structlog.get_logger(__name__)


class Caller:
    """Calls one provider."""

    def __init__(
        self, provider: Provider, engine: Engine, gate: Gate, clock: Clock, patience: Patience, entry: Entry
    ) -> None:
        self._provider = provider
        self._entry = entry
        self._engine = engine
        self._gate = gate
        self._clock = clock
        self._patience = patience
        self._alerted: set[str] = set()

    async def call(
        self, path: Path, jobs: list[Job], retired: list[RetiredToken], tally: Tally
    ) -> list[tuple[Job, Verdict]]:
        """Send each once. Returns what was not accepted or retired, and why; `tally` hears all that came back."""
        name = self._provider.name
        try:
            credentials = await self._provider.credentials()
        except CredentialsError as error:
            _log.warning("delivery.no_credentials", provider=name, error=str(error))
            action = Action.retry if error.transient else Action.stop
            verdict = Verdict(action, f"{name}_no_credentials")
            tally.hear(verdict, len(jobs))
            return [(job, verdict) for job in jobs]
        jobs, requests = self._requests(jobs, credentials)
        answers = await self._engine.send(requests)
        rest: list[tuple[Job, Verdict]] = []
        gone: list[tuple[Job, Verdict]] = []
        accepted = []
        for job, answer in zip(jobs, answers, strict=True):
            verdict = self._verdict(answer)
            # What we did not send ourselves says nothing of the provider.
            if answer is not NOT_SENT:
                tally.hear(verdict, unwell=isinstance(answer, TransportError) and answer.reason != "request")
            if verdict.action is Action.accepted:
                job.progress.accept(name, answer.seconds)
                accepted.append(job.progress.key)
            elif verdict.action is Action.retire:
                gone.append((job, verdict))
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
        await self._retire(gone, len(answers), retired)
        return rest

    async def _retire(self, gone: list[tuple[Job, Verdict]], answers: int, retired: list[RetiredToken]) -> None:
        """Note the tokens to be retired; where too many are called bad, only the sends have failed."""
        suspects = sum(verdict.suspect for _, verdict in gone)
        may = await self._entry.may_retire(answers, suspects)
        now = self._clock.now()
        for job, verdict in gone:
            if verdict.suspect and not may:
                job.fail(verdict.reason)
            else:
                retired.append(job.retire(verdict.reason, now if verdict.at is None else verdict.at))

    def _requests(self, jobs: list[Job], credentials: str) -> tuple[list[Job], list[PushRequest]]:
        """The requests of those that are in time and can be put into the provider's words."""
        now = self._clock.now()
        sendable, requests = [], []
        for job in jobs:
            progress = job.progress
            if progress.send.expires_at <= now:
                progress.end(EXPIRED)
                continue
            push = Push(progress.send, progress.send_id, progress.text, job.leg.token, now, job.ios)
            try:
                requests.append(self._provider.request(push, credentials))
            except PayloadTooLargeError:
                job.fail(f"{self._provider.name}_payload_too_large")
            except ValueError as error:
                _log.warning("delivery.unsendable", provider=self._provider.name, error=str(error))
                job.fail(f"{self._provider.name}_unsendable")
            else:
                sendable.append(job)
        return sendable, requests

    def _verdict(self, answer: Answer) -> Verdict:
        if isinstance(answer, TransportError):
            action = Action.fail if answer.reason in FINAL else Action.retry
            return Verdict(action, f"{self._provider.name}_{answer.reason}")
        return self._provider.verdict(answer)

    def alert(self, reason: str) -> None:
        """Say once what keeps every push from being accepted; again after one was."""
        if reason not in self._alerted:
            self._alerted.add(reason)
            _log.error(
                "delivery.stopped",
                provider=self._provider.name,
                reason=reason,
                remedy="no push is accepted until the provider's settings (keys, topic, project) are put right",
            )
