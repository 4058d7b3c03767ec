"""A contender's process: started anew for each round, and asked over HTTP how far it is."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
import urllib.request
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]  # comes with Airflow, its types do not

from infra.bench.cores import on
from infra.bench.deliver.report import BenchError
from infra.stack import process

_ROOT = Path(__file__).resolve().parents[3]
_COUNT = re.compile(r"^surnia_events_total(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_GRACE = 60.0


class Progress(NamedTuple):
    """How far a process is."""

    at: float
    """By the loop's clock."""
    events: float
    cpu_seconds: float


class Running:
    """`async with` it: a Python process that serves its count of events at the port put in for `PORT`."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], cores: AbstractSet[int], log: Path
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port: int = free.getsockname()[1]
        self._arguments = [word.replace("PORT", str(self._port)) for word in arguments]
        named = {name: value.replace("PORT", str(self._port)) for name, value in environment.items()}
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("SURNIA_")}
        self._environment |= named | {"PYTHONPATH": str(_ROOT)}
        self._cores = cores
        self._log = log
        self._process: Process
        self._watched: psutil.Process
        self.peak_rss_mb = 0.0

    async def __aenter__(self) -> Running:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log, on(self._cores):
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, *self._arguments), stdout=log, stderr=log, cwd=self._log.parent, env=self._environment
            )
        self._watched = psutil.Process(self._process.pid)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(_GRACE):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    async def progress(self) -> Progress:
        """Raises `BenchError` when it has ended."""
        if self._process.returncode is not None:
            raise BenchError("the process ended. It said:\n" + "\n".join(process.tail(self._log)))
        try:
            page = await asyncio.to_thread(self._page)
        except OSError:
            page = ""  # Not listening yet.
        used, memory = self._watched.cpu_times(), self._watched.memory_info()
        self.peak_rss_mb = max(self.peak_rss_mb, round(memory.rss / 1e6, 1))
        now = asyncio.get_running_loop().time()
        return Progress(now, sum(map(float, _COUNT.findall(page))), used.user + used.system)

    async def past(self, events: float, within: float, step: float = 0.2) -> Progress:
        """When it has handled so many, or the time is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while (found := await self.progress()).events < events and found.at < deadline:  # noqa: ASYNC110  # it is asked
            await asyncio.sleep(step)
        return found

    def _page(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=10) as answer:  # ours
            return str(answer.read().decode())
