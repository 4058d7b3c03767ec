"""Alternating rounds and median ratios: machines are noisy, so ratios within one run are what counts."""

from __future__ import annotations

import resource
import time
from collections.abc import Awaitable, Callable, Mapping
from statistics import median

import msgspec

Contender = Callable[[int], Awaitable[None]]
"""Does one round's work; it is told the round's number, so that rounds do not meet each other's keys."""


class Figures(msgspec.Struct):
    """What a bench measured. `ratios`: the median over rounds of our rate to the other's, so above 1 is faster."""

    bench: str
    operations_a_round: int
    rounds: int
    ours: str
    median_rates: dict[str, float]
    ratios: dict[str, float]
    bytes_an_operation: dict[str, float]
    peak_rss_mb: float


async def measure(
    bench: str, operations: int, rounds: int, ours: str, contenders: Mapping[str, Contender]
) -> tuple[Figures, dict[str, list[float]]]:
    """Run every contender in every round, in turn; rates are operations a second."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for n in range(rounds):
        for name, work in contenders.items():
            began = time.perf_counter()
            await work(n)
            rates[name].append(operations / (time.perf_counter() - began))
    ratios = {
        name: median(mine / other for mine, other in zip(rates[ours], found, strict=True))
        for name, found in rates.items()
        if name != ours
    }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = Figures(
        bench, operations, rounds, ours, {name: median(found) for name, found in rates.items()}, ratios, {}, peak
    )
    return figures, rates
