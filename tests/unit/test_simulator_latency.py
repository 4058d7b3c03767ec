"""Latencies that the simulator draws, and those it refuses to."""

from __future__ import annotations

import json
from random import Random
from statistics import mean, quantiles
from typing import Any

import msgspec
import pytest

from infra.simulator.faults import Fault, Faults, decode_faults
from infra.simulator.faults.latency import LONGEST, Exponential, Latency, Lognormal, Uniform, draw

NOW = 1_800_000_000.0


def drawn(latency: Latency, count: int = 20_000) -> list[float]:
    """In milliseconds."""
    random = Random(1)
    return [draw(latency, random) * 1000 for _ in range(count)]


def test_a_number_is_a_latency() -> None:
    assert set(drawn(25.0, 10)) == {25.0}


def test_a_lognormal_one_has_the_percentiles_it_is_named_by() -> None:
    cuts = quantiles(drawn(Lognormal(p50=40, p99=900)), n=100)
    assert cuts[49] == pytest.approx(40, rel=0.05)
    assert cuts[98] == pytest.approx(900, rel=0.15)


def test_an_exponential_one_has_its_mean() -> None:
    assert mean(drawn(Exponential(mean=30))) == pytest.approx(30, rel=0.05)


def test_a_uniform_one_stays_between_its_ends() -> None:
    values = drawn(Uniform(low=10, high=20))
    assert 10 <= min(values) < 10.1
    assert 19.9 < max(values) <= 20


def test_no_tail_is_longer_than_ten_minutes() -> None:
    assert max(drawn(Lognormal(p50=1000, p99=500_000))) <= LONGEST


def test_the_same_seed_draws_the_same_latencies() -> None:
    rule = Fault(latency_ms=Exponential(mean=5), seed=3)
    first, second = Faults(), Faults()
    for faults in (first, second):
        faults.set([rule], NOW)
    told = [[faults.judge("apns", "aa", NOW) for _ in range(5)] for faults in (first, second)]
    assert told[0] == told[1]
    assert len({verdict.delay for verdict in told[0] if verdict}) == 5


@pytest.mark.parametrize(
    "latency",
    [
        {"shape": "lognormal", "p50": 50, "p99": 40},
        {"shape": "lognormal", "p50": 0, "p99": 40},
        {"shape": "uniform", "low": 2, "high": 1},
        {"shape": "exponential"},
        {"shape": "exponential", "mean": 1, "more": 1},
        {"shape": "gamma"},
        -1,
        1e9,
        "fast",
    ],
)
def test_a_latency_that_makes_no_sense_is_refused(latency: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_faults(json.dumps([{"latency_ms": latency}]).encode())
