"""Delivery of a batch: what is still wanted goes to the providers, what was accepted is settled, all answered for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from shared.clock import Clock
from shared.gate.contract import Gate, Standing
from shared.patience import Sleep, until_done
from shared.settings import Settings
from shared.templates import Catalogue
from shared.wire.sends import OutcomeBatch, Platform, Result, RetiredToken, SendBatch
from stream.delivery.apns import Apns
from stream.delivery.backoff import Backoff
from stream.delivery.exchange import Engine
from stream.delivery.fcm import Fcm
from stream.delivery.progress import EXPIRED, NO_DEVICE, Job, Progress
from stream.delivery.provider import Provider
from stream.delivery.route import ENDINGS, Route

NO_PROVIDER = (Result.failed, "no_provider")


def open_providers(settings: Settings, clock: Clock) -> dict[Platform, Provider]:
    """The provider of each platform. Raises `SetupError` where a setting is missing or wrong."""
    return {"ios": Apns(settings, clock), "android": Fcm(settings)}


class Deliverer:
    """Takes batches to the providers. Any number of batches may be under way at once."""

    def __init__(
        self,
        clock: Clock,
        gate: Gate,
        engine: Engine,
        providers: Mapping[Platform, Provider],
        catalogue: Catalogue,
        *,
        sleep: Sleep = asyncio.sleep,
        backoff: Backoff = Backoff(),  # noqa: B008  # frozen
    ) -> None:
        self._clock = clock
        self._gate = gate
        self._sleep = sleep
        self._catalogue = catalogue
        self._routes = {
            platform: Route(provider, engine, gate, clock, sleep, backoff) for platform, provider in providers.items()
        }

    async def deliver(self, batch: SendBatch) -> OutcomeBatch:
        """One outcome for each distinct send of the batch, and the tokens that turned out to be retired.

        Waits as long as the gate is down. What it raises (`EngineClosedError`, a bug) leaves the batch to be delivered
        again: what was accepted by then is settled, and not sent twice.
        """
        every = list({progress.key: progress for progress in map(Progress, batch.sends)}.values())
        jobs = self._jobs(await self._wanted(batch, every))
        parts = await asyncio.gather(
            *(self._routes[platform].push(batch.path, part) for platform, part in jobs.items()),
            return_exceptions=True,  # So that no part is cut off between acceptance and settling by another's error.
        )
        retired: list[RetiredToken] = []
        for part in parts:
            if isinstance(part, BaseException):
                raise part
            retired += part
        now = self._clock.now()
        return OutcomeBatch(batch.path, tuple(progress.outcome(now) for progress in every), tuple(retired))

    async def _wanted(self, batch: SendBatch, every: list[Progress]) -> list[Progress]:
        """Those that are in time, claimed, not settled, and whose user has not practised."""
        now = self._clock.now()
        timely = []
        for progress in every:
            if progress.send.expires_at <= now:
                progress.end(EXPIRED)
            else:
                timely.append(progress)
        if not timely:
            return []
        wanted = []
        keys = [progress.key for progress in timely]
        standings = await until_done("asking the gate", lambda: self._gate.standing(batch.path, keys), self._sleep)
        for progress, standing in zip(timely, standings, strict=True):
            if standing is Standing.clear:
                wanted.append(progress)
            else:
                progress.end(ENDINGS[standing])
        return wanted

    def _jobs(self, wanted: list[Progress]) -> dict[Platform, list[Job]]:
        """One job a device, by platform, with the texts rendered."""
        jobs: dict[Platform, list[Job]] = {}
        for progress in wanted:
            send = progress.send
            targets = {(target.platform, target.token): target for target in send.targets}
            if not targets:
                progress.end(NO_DEVICE)
                continue
            progress.text = self._catalogue.render(
                send.kind, send.locale, send.user_id, streak=send.streak, silent_days=send.silent_days
            )
            for (platform, _), target in targets.items():
                if platform in self._routes:
                    jobs.setdefault(platform, []).append(Job(progress, target))
                else:
                    progress.fail("", NO_PROVIDER[1])
        return jobs
