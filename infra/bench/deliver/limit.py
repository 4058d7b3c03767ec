"""What the server can do at all with the same request: h2load on the sender's core."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import time
from collections.abc import Set as AbstractSet
from pathlib import Path

from infra.bench.cores import on
from infra.bench.deliver.report import BenchError, Report, peak_rss_mb
from stream.delivery.exchange import PushRequest

_FINISHED = re.compile(r"finished in ([0-9.]+)(us|ms|s|m)?,")
_SUCCEEDED = re.compile(r"(\d+) succeeded")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, None: 1.0}
_LOOK_SECONDS = 0.01


def find_h2load() -> str | None:
    return shutil.which("h2load")


class H2load:
    """One request again and again, over as many connections and streams as our engine has under way."""

    def __init__(
        self,
        binary: str,
        request: PushRequest,
        connections: int,
        in_flight: int,
        cores: AbstractSet[int],
        folder: Path,
    ) -> None:
        body = folder / "h2load-body"
        body.write_bytes(request.body)
        self._command = [
            *(binary, "-t", "1", "-c", str(connections), "-m", str(-(-in_flight // connections)), "-d", str(body)),
            *(part for line in request.headers for part in ("-H", line)),
            request.url,
        ]
        self._cores = cores
        self.what = f"h2load -t 1 -c {connections} -m {-(-in_flight // connections)}"

    async def push(self, pushes: int, within: float) -> Report:
        return await asyncio.to_thread(self._run, pushes, within)

    async def close(self) -> None:
        """Nothing stays open."""

    def _run(self, pushes: int, within: float) -> Report:
        with on(self._cores):
            child = subprocess.Popen(
                [*self._command[:1], "-n", str(pushes), *self._command[1:]],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        assert child.stdout
        deadline, peak, ended = time.monotonic() + within, 0.0, 0
        # It says what it used when it is collected, but its peak only while it lives.
        while not ended:
            peak = max(peak, peak_rss_mb(child.pid))
            ended, status, used = os.wait4(child.pid, os.WNOHANG)
            if not ended and time.monotonic() > deadline:
                child.kill()
                child.wait()
                raise BenchError(f"not finished within {within:.0f} s")
            time.sleep(_LOOK_SECONDS)
        child.returncode = os.waitstatus_to_exitcode(status)
        said = child.stdout.read()
        child.stdout.close()
        finished, succeeded = _FINISHED.search(said), _SUCCEEDED.search(said)
        if not (finished and succeeded and int(succeeded[1]) == pushes):
            raise BenchError(f"h2load ended with {child.returncode}. It said:\n{said[-1000:]}")
        seconds = float(finished[1]) * _UNITS[finished[2]]
        return Report(seconds, used.ru_utime + used.ru_stime, peak)
