"""`AirflowRunner`: runs the DAG for chosen intervals through one `infra.airflow.runner` process that it keeps."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from infra.airflow.environment import airflow_environment, home, settings_environment
from infra.airflow.errors import AirflowError
from infra.airflow.runner import LOG_VARIABLE
from infra.airflow.setup import setup

if TYPE_CHECKING:
    from shared.settings import Settings

_START_SECONDS = 120.0


@dataclass(frozen=True)
class RunResult:
    """One run of the DAG. Counts are those of its task `report`, zero where it did not get that far."""

    state: str
    """Airflow's word: "success" or "failed"."""
    seconds: float
    run_id: str = ""
    candidates: int = 0
    granted: int = 0
    denied: dict[str, int] = field(default_factory=dict)
    error: str = ""

    @property
    def succeeded(self) -> bool:
        return self.state == "success"


class AirflowRunner:
    """Use as `async with AirflowRunner(settings) as runner: await runner.run(start, end)`; one run at a time.

    `start` sets Airflow's database up first. A run that fails is not tried again: asking for it once more is safe.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self.log: Path = home(settings) / "runner.log"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the process and wait until Airflow is loaded: some seconds."""
        await asyncio.to_thread(setup, self._settings)
        self.log.unlink(missing_ok=True)
        environment = airflow_environment(self._settings) | settings_environment(self._settings)
        # Airflow says dozens of lines a run at "info", and the formatting takes a tenth of its time.
        environment |= {LOG_VARIABLE: str(self.log), "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "infra.airflow.runner",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
            # A Ctrl-C in the terminal is ours to handle; the child ends when its stdin does.
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._answer()
        except BaseException:
            await self.stop()
            raise

    async def run(
        self, start: datetime, end: datetime, groups: int | None = None, deadline: float = 600.0
    ) -> RunResult:
        """Run the DAG for [start, end) with `groups` scan tasks (None: the settings'). Aware datetimes.

        Raises `AirflowError` when the process ended and `TimeoutError` after `deadline` seconds, which also ends it.
        """
        process = self._process
        if process is None or process.stdin is None:
            raise AirflowError("the runner is not started; call `start` first.")
        request = {"start": start.isoformat(), "end": end.isoformat(), "groups": groups}
        async with self._turn:
            try:
                async with asyncio.timeout(deadline):
                    process.stdin.write(json.dumps(request).encode() + b"\n")
                    answer = await self._answer()
            except BaseException:
                # An answer that comes later would be taken for the next request's.
                await self.stop(patience=0)
                raise
        summary = answer["summary"] or {}
        return RunResult(
            state=answer["state"],
            seconds=answer["seconds"],
            run_id=summary.get("run_id", ""),
            candidates=summary.get("candidates", 0),
            granted=summary.get("granted", 0),
            denied=summary.get("denied", {}),
            error=answer.get("error", ""),
        )

    async def stop(self, patience: float = 10.0) -> None:
        """End the process; after `patience` seconds without asking."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(patience):
                await process.wait()
        except TimeoutError:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def _answer(self) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise AirflowError("the runner ended.", self.log)
        answer: dict[str, Any] = json.loads(line)
        return answer
