"""The scan bench, small: that it runs and prints the fields that others read. How fast it is, is not asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_the_scan_bench_prints_its_fields(tmp_path: Path) -> None:
    found = tmp_path / "scan.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "surnia", "bench", "scan", "--users", "20000", "--rounds", "2"),
            *("--seconds", "0.1", "--no-keep", "--json", str(found)),
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
    for name in ("ours", "orm_loop", "limit"):
        side = figures[name]
        assert len(side["rounds"]) == 2
        assert all(side[field] > 0 for field in ("users_per_s", "users", "cpu_us_per_user", "peak_rss_mb"))
    assert figures["ratio_to_orm_loop"] > 0
    assert figures["ratio_to_limit"] > 0
    # One look into each shard and slot, which here have hardly anybody, and everybody once.
    assert 1 <= figures["rows_read_per_row_due"] <= 2.1
    assert figures["idle_hour_s"] > 0
    assert figures["peak_rss_mb"] == figures["ours"]["peak_rss_mb"]
    assert figures["hours_for_80m"] == figures["ours"]["hours_for_80m"] > 0
    assert figures["database_users"] == 20_000
    assert not list((tmp_path / "state" / "bench-scan").glob("postgres*"))
