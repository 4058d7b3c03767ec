"""The due bench, small: that it runs and prints the fields that others read. How fast it is, is not asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from infra.bench.due import material
from infra.bench.due.report import percentile_ms
from shared.policy.localtime import local_time


def test_the_due_bench_prints_its_fields(tmp_path: Path) -> None:
    found = tmp_path / "due.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "surnia", "bench", "due", "--due", "5000", "--rounds", "2"),
            *("--json", str(found)),
        ],
        env=os.environ | {"SURNIA_STATE_DIR": str(tmp_path / "state"), "SURNIA_FIRE_CONCURRENCY": "3"},
        check=False,
        timeout=240,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    figures = json.loads(found.read_bytes())
    for name in ("ours", "baseline", "limit"):
        side = figures[name]
        assert len(side["rounds"]) == 2
        assert all(side[field] > 0 for field in ("users_per_s", "cpu_us_per_user", "postgres_statements_per_user"))
    assert (figures["ours"]["users"], figures["baseline"]["users"], figures["limit"]["users"]) == (5_000, 500, 5_000)
    assert figures["ratio_to_baseline"] > 0
    assert figures["ratio_to_limit"] > 0
    assert figures["lateness_ms"]["p99"] >= figures["lateness_ms"]["p50"] > 0
    assert (figures["due_in_one_minute"], figures["scale"], figures["fire_concurrency"]) == (5_000, 200.0, 3)
    assert figures["peak_rss_mb"] == figures["ours"]["peak_rss_mb"] > 0
    # Four a page: looked up, written down, nobody erased meanwhile, and out of the outbox.
    assert figures["postgres_statements_per_user"] < 0.02
    assert figures["baseline"]["postgres_statements_per_user"] == 1
    assert not list((tmp_path / "state" / "bench").glob("postgres*"))


def test_the_crowd_is_due_at_ten_in_the_evening_and_no_two_crowds_share_a_user() -> None:
    due = material.due_at(1_795_262_400.0)
    assert local_time(due, material.ZONE).hour == 22
    assert due - 1_795_262_400.0 < 86_400
    first, second = ({user for chunk in material.users(crowd, 30_000) for user in chunk} for crowd in (0, 1))
    assert len(first) == len(second) == 30_000
    assert not first & second


def test_lateness_is_that_of_users_not_of_pages() -> None:
    acknowledged = [(3.0, 10), (1.0, 980), (2.0, 10)]
    assert percentile_ms(acknowledged, 50) == 1000.0
    assert percentile_ms(acknowledged, 99) == 2000.0
    assert percentile_ms(acknowledged, 100) == 3000.0
