"""Delivery of a batch: what is still wanted goes to the providers, what was accepted is settled, all answered for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from shared.clock import Clock
from shared.gate.contract import Gate
from shared.patience import Patience
from shared.policy.kinds import Path
from shared.settings import Settings
from shared.templates import Catalogue
from shared.wire.sends import OutcomeBatch, Platform, RetiredToken, SendBatch
from stream.delivery.admission import Admission
from stream.delivery.apns import Apns
from stream.delivery.backoff import Backoff
from stream.delivery.entry import Entry
from stream.delivery.exchange import Engine
from stream.delivery.fcm import Fcm
from stream.delivery.pauses import Pauses
from stream.delivery.progress import NO_DEVICE, Job, Mailbox, Progress
from stream.delivery.provider import Provider
from stream.delivery.route import Route
from stream.delivery.turnstile.contract import NoTurnstile, Turnstile

NO_PROVIDER = "no_provider"


def open_providers(settings: Settings, clock: Clock) -> dict[Platform, Provider]:
    """The provider of each platform. Raises `SetupError` where a setting is missing or wrong."""
    return {"ios": Apns(settings, clock), "android": Fcm(settings)}


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
        providers: Mapping[Platform, Provider],
        catalogue: Catalogue,
        patience: Patience,
        backoff: Backoff = Backoff(),  # noqa: B008  # frozen
        turnstile: Turnstile | None = None,
        mail: tuple[Provider, Engine] | None = None,
    ) -> None:
        """Without a turnstile a provider gets everything at once, whatever it answers.

        `mail`: provider and engine of the last resort; None: there is none.
        """
        self._clock = clock
        self._catalogue = catalogue
        self._admission = Admission(gate, clock, patience)
        turnstile = turnstile or NoTurnstile()

        def route(provider: Provider, engine: Engine) -> Route:
            entry = Entry(provider.name, turnstile, patience)
            return Route(provider, engine, gate, self._admission, pauses, clock, patience, backoff, entry)

        self._routes = {platform: route(provider, engine) for platform, provider in providers.items()}
        self._mail = route(*mail) if mail else None

    async def deliver(self, batch: SendBatch, firsthand: bool = True) -> Delivery:
        """One outcome or a place to wait for each distinct send, and the tokens that turned out to be retired.

        Waits as long as the gate is down. What it raises (`EngineClosedError`, a bug) leaves the batch to be delivered
        again: what was accepted by then is settled, and not sent twice. `firsthand`: nobody can have had the batch
        before.
        """
        every = list({progress.key: progress for progress in map(Progress, batch.sends)}.values())
        if not firsthand:
            for progress in every:
                if progress.send.targets:
                    progress.doubt()
        jobs = self._jobs(await self._admission.admit(batch.path, every))
        parts = await asyncio.gather(
            *(self._routes[platform].push(batch.path, part) for platform, part in jobs.items()),
            return_exceptions=True,  # So that no part is cut off between acceptance and settling by another's error.
        )
        retired: list[RetiredToken] = []
        for part in parts:
            if isinstance(part, BaseException):
                raise part
            retired += part
        retired += await self._by_email(batch.path, every)
        now = self._clock.now()
        outcomes = tuple(progress.outcome(now) for progress in every if not progress.parked)
        parked = tuple(send for progress in every if (send := progress.parked))
        return Delivery(
            OutcomeBatch(batch.path, outcomes, tuple(retired)), SendBatch(batch.path, batch.planned_at, parked)
        )

    async def _by_email(self, path: Path, every: list[Progress]) -> list[RetiredToken]:
        """The last resort of those whose pushes all failed for good, or who have no device."""
        now = self._clock.now()
        left = [progress for progress in every if progress.wants_email and progress.send.expires_at > now]
        if not left or not self._mail:
            return []
        # The pushes took their time, and whoever has practised since then needs no reminder any more.
        admitted = await self._admission.admit(path, left)
        return await self._mail.push(path, [Job(progress, Mailbox(progress.send.email)) for progress in admitted])

    def _jobs(self, admitted: list[Progress]) -> dict[Platform, list[Job]]:
        """One job a device, by platform, with the texts rendered."""
        jobs: dict[Platform, list[Job]] = {}
        for progress in admitted:
            send = progress.send
            targets = {(target.platform, target.token): target for target in send.targets}
            if not targets and not (self._mail and send.email):
                progress.end(NO_DEVICE)
                continue
            progress.text = self._catalogue.render(
                send.kind, send.locale, send.user_id, streak=send.streak, silent_days=send.silent_days
            )
            for (platform, _), target in targets.items():
                if platform in self._routes:
                    jobs.setdefault(platform, []).append(Job(progress, target))
                else:
                    progress.fail("", NO_PROVIDER, target)
        return jobs
