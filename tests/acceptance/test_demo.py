"""The demo as a newcomer runs it: a process, a report, and an exit code that means something."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.acceptance.conftest import wait_for

KEYS = {
    "users", "active", "silent", "events", "dead_letters", "candidates", "granted", "denied", "delivered", "expired",
    "failed", "dropped", "in_flight", "by_path", "by_kind", "devices", "lost", "latency_ms", "seconds",
}  # fmt: skip


def start(tmp_path: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "surnia", "demo", "--report", str(tmp_path / "report"), *options],
        env=os.environ | {"SURNIA_STATE_DIR": str(tmp_path / "state")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def left_behind(tmp_path: Path) -> list[str]:
    """Command lines of processes that still work in the demo's folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(tmp_path) in line and "pytest" not in line.split(" ", maxsplit=1)[0]:
            found.append(line)
    return found


def test_a_small_demo_reminds_over_both_paths_and_every_count_holds(tmp_path: Path) -> None:
    demo = start(tmp_path, "--users", "4000", "--hours", "5", "--date", "2026-11-20")
    printed, _ = demo.communicate(timeout=280)
    assert demo.returncode == 0, printed

    found = json.loads((tmp_path / "report" / "demo.json").read_text())
    assert found.keys() >= KEYS
    assert found["users"] == found["active"] + found["silent"] == 4000
    assert found["candidates"] == found["granted"] + sum(found["denied"].values())
    ends = ("delivered", "expired", "failed", "dropped", "in_flight")
    assert found["granted"] == sum(found[name] for name in ends)
    assert (found["lost"], found["in_flight"]) == (0, 0)
    assert (found["devices"]["shown_twice"], found["devices"]["outside_window"]) == (0, 0)
    # Nothing plans campaigns yet.
    assert {path for path, n in found["by_path"].items() if not n} == {"blast"}
    assert {kind for kind, n in found["by_kind"].items() if not n} == {"campaign"}
    assert found["dead_letters"] > 0
    assert (tmp_path / "report" / "index.html").stat().st_size > 100_000
    assert left_behind(tmp_path) == []


def test_ctrl_c_ends_the_demo_and_everything_it_started(tmp_path: Path) -> None:
    demo = start(tmp_path, "--users", "500")
    try:
        wait_for(lambda: (tmp_path / "state" / "demo" / "stack.json").exists() or None, "the demo's stack")
        wait_for(lambda: len(left_behind(tmp_path)) > 3 or None, "its servers")
        demo.send_signal(signal.SIGINT)
        printed, _ = demo.communicate(timeout=180)
    finally:
        demo.kill()
        demo.communicate()
    assert demo.returncode == 130, printed
    assert left_behind(tmp_path) == []
