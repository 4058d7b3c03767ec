"""The pressure experiment, small: that it runs and prints the fields that others read, whatever it finds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_the_pressure_experiment_prints_its_fields_and_its_table(tmp_path: Path) -> None:
    found = tmp_path / "pressure.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "surnia", "bench", "pressure", "--users", "10000", "--rate", "50"),
            *("--rounds", "1", "--seconds", "2", "--json", str(found)),
        ],
        env=os.environ | {"SURNIA_STATE_DIR": str(tmp_path / "state")},
        check=False,
        timeout=240,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "| a naive scan, 4 tasks " in done.stdout
    figures = json.loads(found.read_bytes())
    assert (figures["users"], figures["oltp_rate"], figures["tasks"]) == (10_000, 50, 4)
    for name in ("none", "naive", "ours"):
        side = figures[name]
        assert len(side["rounds_p99_ms"]) == 1
        assert side["max_ms"] >= side["p99_ms"] >= side["p50_ms"] > 0
        assert (side["due_users_per_s"] > 0) == (name != "none")
    assert figures["p99_naive_to_none"] > 0
    assert figures["p99_ours_to_none"] > 0
