"""How long an answer takes: a number, or a distribution that is drawn from once a request. All in milliseconds."""

from __future__ import annotations

from math import log
from random import Random
from typing import Annotated, Final

import msgspec
from msgspec import Meta

LONGEST: Final = 600_000.0  # a tail is cut off here
_Z99: Final = 2.3263478740408408  # standard deviations from the median to the 99th percentile
Milliseconds = Annotated[float, Meta(ge=0, le=LONGEST)]
Positive = Annotated[float, Meta(gt=0, le=LONGEST)]


class _Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="shape"):
    """What all distributions have in common: their JSON names one by `shape`."""


class Uniform(_Shape, frozen=True, tag="uniform"):
    low: Milliseconds
    high: Milliseconds

    def __post_init__(self) -> None:
        if self.high < self.low:
            raise ValueError("a uniform latency has its low end below its high one")


class Exponential(_Shape, frozen=True, tag="exponential"):
    mean: Positive


class Lognormal(_Shape, frozen=True, tag="lognormal"):
    """The shape that services have, by the two figures that people know of one."""

    p50: Positive
    p99: Positive

    def __post_init__(self) -> None:
        if self.p99 < self.p50:
            raise ValueError("a lognormal latency has its p50 below its p99")


Latency = Milliseconds | Uniform | Exponential | Lognormal


def draw(latency: Latency, random: Random) -> float:
    """One latency in seconds."""
    match latency:
        case Uniform(low=low, high=high):
            drawn = random.uniform(low, high)
        case Exponential(mean=mean):
            drawn = random.expovariate(1 / mean)
        case Lognormal(p50=p50, p99=p99):
            drawn = random.lognormvariate(log(p50), (log(p99) - log(p50)) / _Z99)
        case _:
            drawn = latency
    return min(drawn, LONGEST) / 1000
