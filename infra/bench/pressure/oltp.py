"""The load whose latency is measured: pgbench, in a process of its own, at a fixed rate.

With a rate it counts from the moment a transaction was to start: what waits for others in front of it is not left out.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from infra.bench.deliver.report import BenchError
from infra.stack.postgres import find_install

_SCRIPT = Path(__file__).parent / "oltp.sql"


class Latency(NamedTuple):
    """Of one run's transactions, milliseconds."""

    per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float


def find_pgbench() -> Path:
    """The wheel's."""
    binary = find_install() / "bin" / "pgbench"
    if not binary.exists():
        raise BenchError("the wheel with PostgreSQL brings no pgbench for this machine")
    return binary


async def run(url: str, users: int, rate: int, clients: int, seconds: int) -> Latency:
    """So many transactions a second for so long."""
    with TemporaryDirectory(prefix="surnia-oltp-") as folder:
        command = [
            str(find_pgbench()), "--no-vacuum", "--protocol=prepared", f"--file={_SCRIPT}", f"--define=users={users}",
            f"--rate={rate}", f"--client={clients}", "--jobs=1", f"--time={seconds}", "--log",
            f"--log-prefix={folder}/t", url,
        ]  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await process.communicate()
        if process.returncode:
            raise BenchError(f"pgbench failed: {said.decode()[-300:]}")
        times = _times(Path(folder))
    p50, p99 = np.percentile(times, [50, 99])
    return Latency(
        round(len(times) / seconds, 1), round(float(p50), 2), round(float(p99), 2), round(float(times.max()), 2)
    )


def _times(folder: Path) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Milliseconds of each transaction in the logs."""
    # client, transaction, microseconds, script, and when (pgbench's manual, "Per-Transaction Logging")
    lines = [line.split() for path in folder.iterdir() for line in path.read_text().splitlines()]
    return np.array([int(line[2]) for line in lines], np.float64) / 1000
