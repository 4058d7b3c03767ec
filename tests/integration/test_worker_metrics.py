"""A worker's metrics as Prometheus reads them: over HTTP, on loopback, from the real process."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from infra.stack import process
from infra.stack.process import wait_until

ROOT = Path(__file__).parents[2]
OF_DELIVERY = {"surnia_provider_state", "surnia_retiring_stopped"}
"""What only delivery's workers serve."""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def metrics(port: int) -> dict[str, float]:
    """Family -> its largest value that is not NaN; empty while nobody answers."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except URLError:
        return {}
    return {
        family.name: max((sample.value for sample in family.samples if sample.value == sample.value), default=-1)
        for family in text_string_to_metric_families(text)
    }


def test_a_worker_serves_what_the_documentation_lists(environment: dict[str, str], tmp_path: Path) -> None:
    port = free_port()
    # Nothing answers there: a gate that is down is what somebody would look at the metrics for.
    environment |= {"SURNIA_METRICS_PORT": str(port), "SURNIA_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    worker = process.spawn(
        [sys.executable, "-m", "surnia", "worker", "stream"], tmp_path / "log", cwd=ROOT, env=os.environ | environment
    )
    try:
        waits = wait_until(lambda: metrics(port).get("surnia_waiting", 0) >= 1, 90)
        assert waits, process.tail(tmp_path / "log")
        found = metrics(port)
        assert found["surnia_server_trouble"] >= 1
    finally:
        process.end(worker, signal.SIGTERM, 20)
    page = (ROOT / "docs/operations.md").read_text()
    documented = set(re.findall(r"^\| `(surnia_\w+?)(?:_total)?[`{]", page, re.MULTILINE))
    # Beside each count Prometheus' client says since when it counts.
    served = {name for name in found if name.startswith("surnia_") and not name.endswith("_created")}
    assert served | OF_DELIVERY == documented


def test_a_port_that_is_taken_is_named_with_its_setting(environment: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run(
            [sys.executable, "-m", "surnia", "worker", "ledger"],
            env=os.environ | environment | {"SURNIA_METRICS_PORT": str(taken.getsockname()[1])},
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("surnia: SURNIA_METRICS_PORT:")
