"""Delivery of a batch: what is still wanted goes to the providers, what was accepted is settled, all answered for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from msgspec.structs import replace

from shared.clock import Clock
from shared.gate.contract import Gate
from shared.patience import Patience
from shared.policy.kinds import Path
from shared.routes import BY_EMAIL, Leg, Routes
from shared.settings import Settings
from shared.templates import Catalogue
from shared.wire.sends import OutcomeBatch, RetiredToken, Send, SendBatch
from stream.delivery.admission import Admission
from stream.delivery.apns import Apns
from stream.delivery.backoff import Backoff
from stream.delivery.calls import Calls
from stream.delivery.entry import Entry
from stream.delivery.exchange import Engine
from stream.delivery.fcm import Fcm
from stream.delivery.pauses import Pauses
from stream.delivery.progress import NO_DEVICE, Job, Mailbox, Progress
from stream.delivery.provider import Provider
from stream.delivery.route import Route
from stream.delivery.turnstile.contract import NoTurnstile, Turnstile

NO_PROVIDER = "no_provider"


def open_providers(settings: Settings, clock: Clock) -> dict[str, Provider]:
    """The providers that the routes name. Raises `SetupError` where a setting is missing or wrong."""
    providers: dict[str, Provider] = {}
    for name in Routes.of(settings).providers:
        providers[name] = Apns(settings, clock) if name == Apns.name else Fcm(settings)
    return providers


class Delivery(NamedTuple):
    """What became of a batch: every distinct send of it is in one of the two."""

    outcomes: OutcomeBatch
    parked: SendBatch
    """What has to wait for the end of a pause or for a provider, for the devices that are left to try."""


class Deliverer:
    """Takes batches to the providers. Any number of batches may be under way at once."""

    def __init__(
        self,
        clock: Clock,
        gate: Gate,
        pauses: Pauses,
        engine: Engine,
        providers: Mapping[str, Provider],
        routes: Routes,
        catalogue: Catalogue,
        patience: Patience,
        backoff: Backoff = Backoff(),  # noqa: B008  # frozen
        turnstile: Turnstile | None = None,
        mail: tuple[Provider, Engine] | None = None,
        email_last: float = 0.0,
        calls: Calls | None = None,
    ) -> None:
        """Without a turnstile a provider gets everything at once, whatever it answers.

        `providers` by name. `mail`: provider and engine of the last resort; None: there is none. `email_last`: seconds
        before the end of a window at which a send goes by e-mail rather than wait for a provider. `calls`: those of the
        worker.
        """
        self._clock = clock
        self._catalogue = catalogue
        self._admission = Admission(gate, clock, patience)
        self._routes = routes
        self._email_last = email_last
        turnstile = turnstile or NoTurnstile()
        under_way = calls or Calls()

        def route(provider: Provider, engine: Engine) -> Route:
            entry = Entry(provider.name, turnstile, patience)
            return Route(provider, engine, gate, self._admission, pauses, clock, patience, backoff, entry, under_way)

        self._providers = {name: route(provider, engine) for name, provider in providers.items()}
        self._mail = route(*mail) if mail else None

    async def deliver(self, batch: SendBatch, firsthand: bool = True) -> Delivery:
        """One outcome or a place to wait for each distinct send, and the tokens that turned out to be retired.

        Waits as long as the gate is down. What it raises (`EngineClosedError`, a bug) leaves the batch to be delivered
        again: what was accepted by then is settled, and not sent twice. `firsthand`: nobody can have had the batch
        before.
        """
        every = list({progress.key: progress for progress in map(self._begun, batch.sends)}.values())
        if not firsthand:
            for progress in every:
                if progress.send.targets:
                    progress.doubt()
        retired: list[RetiredToken] = []
        jobs = self._jobs(await self._admission.admit(batch.path, every))
        while jobs:
            await self._push(batch.path, jobs, retired)
            jobs = await self._admission.wanted(batch.path, [job for job in jobs if job.goes_over()])
        await self._by_email(batch.path, every, retired)
        now = self._clock.now()
        waiting = [(progress, progress.parked) for progress in every]
        outcomes = tuple(progress.outcome(now) for progress, parked in waiting if not parked)
        parked = tuple(parked for _, parked in waiting if parked)
        return Delivery(
            OutcomeBatch(batch.path, outcomes, tuple(retired)), SendBatch(batch.path, batch.planned_at, parked)
        )

    def _begun(self, send: Send) -> Progress:
        if send.email and not (self._mail and self._routes.address(send)):
            send = replace(send, email="")
        return Progress(send)

    async def _push(self, path: Path, jobs: list[Job], retired: list[RetiredToken]) -> None:
        """Try each by its present provider."""
        parts: dict[str, list[Job]] = {}
        for job in jobs:
            parts.setdefault(job.leg.provider, []).append(job)
        done = await asyncio.gather(
            *(self._providers[name].push(path, part, retired) for name, part in parts.items()),
            return_exceptions=True,  # So that no part is cut off between acceptance and settling by another's error.
        )
        for error in done:
            if error:
                raise error

    async def _by_email(self, path: Path, every: list[Progress], retired: list[RetiredToken]) -> None:
        """The last resort of those whose pushes all failed for good, who have no device, or who can't wait longer."""
        now = self._clock.now()
        left = [progress for progress in every if progress.wants_email(now, self._email_last)]
        if left and self._mail:
            # The pushes took their time, and whoever has practised since then needs no reminder any more.
            jobs = [Job(each, Mailbox(each.send.email), [Leg(BY_EMAIL, each.send.email)]) for each in left]
            await self._mail.push(path, await self._admission.wanted(path, jobs), retired)

    def _jobs(self, admitted: list[Progress]) -> list[Job]:
        """One job a device, with the texts rendered."""
        jobs = []
        for progress in admitted:
            send = progress.send
            if not send.targets and not send.email:
                progress.end(NO_DEVICE)
                continue
            progress.text = self._catalogue.render(
                send.kind, send.locale, send.user_id, streak=send.streak, silent_days=send.silent_days
            )
            for target in dict.fromkeys(send.targets):
                legs = [leg for leg in self._routes.legs(target) if leg.provider in self._providers]
                if legs:
                    jobs.append(Job(progress, target, legs))
                else:
                    progress.fail("", NO_PROVIDER, target)
        return jobs
