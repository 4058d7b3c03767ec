"""The simulation from end to end: chunk by chunk, so that memory does not grow with the number of users."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date

import numpy as np

from infra.simulate.calendar import Calendar
from infra.simulate.counts import Counts
from infra.simulate.day import Days
from infra.simulate.figures import Loads, Result, result
from infra.simulate.mix import Mix
from infra.simulate.people import People, World
from infra.simulate.rates import Rate
from shared.settings import Settings

CHUNK = 500_000


def mix_of(
    settings: Settings,
    users: int,
    start: date,
    days: int,
    active: float,
    ladder: tuple[int, ...] | None,
    send_hour: int | None,
    spread_minutes: int | None,
    seed: int,
) -> Mix:
    """A mix with the settings' policy, but for what is given."""
    return Mix(
        users,
        start,
        days,
        active,
        ladder or tuple(sorted(set(settings.ladder_days))),
        settings.send_hour if send_hour is None else send_hour,
        settings.spread_minutes if spread_minutes is None else spread_minutes,
        active_days=settings.active_days,
        stop_after=settings.stop_after,
        daily_cap=settings.daily_cap,
        quiet_start=settings.quiet_start,
        quiet_end=settings.quiet_end,
        gate_keep_hours=settings.gate_keep_hours,
        seed=seed,
    )


def quotas_of(settings: Settings) -> dict[str, float]:
    """Sends a second that each provider is given at most; 0: any number."""
    return {"apns": settings.apns_per_second, "fcm": settings.fcm_per_second, "smtp": settings.smtp_per_second}


def count(mix: Mix, calendar: Calendar, world: World, chunks: Iterable[People]) -> Counts:
    """What these users do and get."""
    counts = Counts(mix, calendar)
    days = Days(mix, calendar, world, counts)
    for n, people in enumerate(chunks):
        # A generator a chunk: none depends on those before it.
        days.run(np.random.default_rng((mix.seed, n, 1)), people)
    return counts


def simulate(
    mix: Mix, rates: Sequence[Rate], quotas: dict[str, float], on_users: Callable[[int], None] = lambda _: None
) -> Result:
    """Draw the users and count. `quotas`: a provider's sends a second, 0 for any number."""
    began = time.perf_counter()
    world = World(mix)
    calendar = Calendar(mix, world.zones)

    def chunks() -> Iterable[People]:
        for n, first in enumerate(range(0, mix.users, CHUNK)):
            size = min(CHUNK, mix.users - first)
            yield world.people(np.random.default_rng((mix.seed, n, 0)), size, calendar)
            on_users(size)

    loads = Loads(mix, calendar, count(mix, calendar, world, chunks()), quotas)
    return result(mix, loads, rates, quotas, time.perf_counter() - began, _peak_rss_mb())


def _peak_rss_mb() -> float:
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(size / (1024 if sys.platform != "darwin" else 1024 * 1024), 1)
