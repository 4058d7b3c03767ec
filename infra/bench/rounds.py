"""Alternating rounds and median ratios: machines are noisy, so ratios within one run are what counts."""

from __future__ import annotations

import resource
import time
from collections.abc import Awaitable, Callable, Mapping
from statistics import median

Contender = Callable[[int], Awaitable[float]]
"""Does one round's work; it is told the round's number, so that rounds do not meet each other's keys, and answers its
rate, operations a second."""
Rates = dict[str, list[float]]


async def alternate(rounds: int, contenders: Mapping[str, Contender], say: Callable[[str], None]) -> Rates:
    """Run every contender in every round, in turn; their rates, round by round."""
    rates: Rates = {name: [] for name in contenders}
    for n in range(rounds):
        for name, work in contenders.items():
            rates[name].append(await work(n))
        say(", ".join(f"{name} {found[-1]:,.0f}/s" for name, found in rates.items()))
    return rates


def ratio(rates: Rates, mine: str, other: str) -> float:
    """The median over the rounds of one contender's rate to another's: above 1 is faster."""
    return round(median(a / b for a, b in zip(rates[mine], rates[other], strict=True)), 3)


async def timed(operations: int, work: Awaitable[object]) -> float:
    """Operations a second."""
    began = time.perf_counter()
    await work
    return operations / (time.perf_counter() - began)


def peak_rss_mb() -> float:
    """Of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
