"""The gate's bench, small: that it runs and prints the fields that others read. How fast it is, is not asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from infra.bench.ids import Ids, pages
from infra.bench.latency import measure_latency
from infra.bench.rounds import Contender, alternate, ratio
from shared.identity import shard_of


def test_the_gates_bench_prints_its_fields_for_sparse_and_dense_ids(tmp_path: Path) -> None:
    found = tmp_path / "gate.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "surnia", "bench", "gate", "--claims", "20000", "--rounds", "2", "--grow-to", "0"),
            *("--json", str(found)),
        ],
        env=os.environ | {"SURNIA_STATE_DIR": str(tmp_path / "state")},
        check=False,
        timeout=240,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    figures = json.loads(found.read_bytes())
    for ids in ("sparse", "dense"):
        side = figures[ids]
        assert side["claims"] == 20_000
        for name, fields in {
            "ours": ("claims_per_s", "bytes_per_claim"),
            "baseline": ("claims_per_s", "bytes_per_claim"),
            "limit": ("ops_per_s",),
        }.items():
            assert all(side[name][field] > 0 for field in fields)
        assert all(side[name] > 0 for name in ("ratio_to_baseline", "bytes_ratio_to_baseline", "ratio_to_limit"))
        assert side["peak_rss_mb"] > 0
    assert figures["single_claim_at_1000_per_s"]["p99_ms"] >= figures["single_claim_at_1000_per_s"]["p50_ms"] > 0
    assert not list((tmp_path / "state" / "bench").glob("valkey*"))


@pytest.mark.parametrize("ids", Ids)
def test_ids_are_distinct_positive_and_the_same_wherever_one_starts(ids: Ids) -> None:
    numbers = ids.numbers(0, 100_000)
    assert len(np.unique(numbers)) == 100_000
    assert numbers.min() >= 1
    assert int(numbers.max()) < 2**60
    assert ids.numbers(500, 10).tolist() == numbers[500:510].tolist()


def test_pages_hold_everyone_once_and_users_of_one_shard_each() -> None:
    ids = Ids.sparse.numbers(0, 5_000)
    found = list(pages(ids, 7))
    assert sorted(user for page in found for user in page) == sorted(ids.tolist())
    assert all(len(page) <= 7 and len({shard_of(user) for user in page}) == 1 for page in found)


async def test_contenders_take_turns_and_ratios_are_medians_of_rounds() -> None:
    order: list[str] = []

    def contender(name: str, rates: list[float]) -> Contender:
        async def work(n: int) -> float:
            order.append(f"{name}{n}")
            return rates[n]

        return work

    rates = await alternate(
        3,
        {"ours": contender("ours", [4.0, 9.0, 8.0]), "other": contender("other", [2.0, 1.0, 2.0])},
        lambda _: None,
    )
    assert order == ["ours0", "other0", "ours1", "other1", "ours2", "other2"]
    assert ratio(rates, "ours", "other") == 4.0


async def test_latency_counts_from_when_an_operation_should_have_started() -> None:
    async def one(_: int) -> None:
        return None

    found = await measure_latency(one, rate=10_000.0, operations=100)
    assert 0 <= found.p50_ms <= found.p99_ms
