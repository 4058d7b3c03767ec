"""`AirflowRunner`: runs the DAG for intervals of the caller's choice, without a scheduler.

Importing Airflow takes seconds and a run about one, so whoever turns the hours of a day (the demo, tests) keeps one
child process (`infra.airflow.serve_runs`) and asks it for one interval after another.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from infra.airflow.environment import airflow_environment, home, settings_environment
from infra.airflow.errors import AirflowError
from infra.airflow.serve_runs import LOG_VARIABLE
from infra.airflow.setup import setup

if TYPE_CHECKING:
    from shared.settings import Settings

START_SECONDS = 180.0
STOP_SECONDS = 10.0


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


class AirflowRunner:
    """Use as `with AirflowRunner(settings) as runner: runner.run(start, end)`; threads take turns.

    A run that fails is not tried again by itself: asking for it once more is safe.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None
        self._turn = threading.Lock()
        self._stopped = False
        self.log: Path = home(settings) / "runner.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Set Airflow's database up, start the process and wait until Airflow is loaded: some seconds.

        Raises `AirflowError` with the end of the log where that fails.
        """
        setup(self._settings)
        self.log.unlink(missing_ok=True)
        environment = airflow_environment(self._settings) | settings_environment(self._settings)
        # Airflow says dozens of lines a run at "info", and making them takes a tenth of its time.
        environment |= {LOG_VARIABLE: str(self.log), "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}
        with self._turn:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "infra.airflow.serve_runs"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
                # A Ctrl-C in the terminal is ours to handle; the child ends when its stdin does.
                start_new_session=True,
            )
            if self._stopped:
                # While the database was being set up: whoever stopped us found no process to end.
                self.stop()
                raise AirflowError("it was stopped while it started.")
            self._exchange(None, START_SECONDS)

    def run(self, start: datetime, end: datetime, groups: int | None = None, deadline: float = 600.0) -> RunResult:
        """Run the DAG for [start, end), aware datetimes, with `groups` scan tasks (None: the settings').

        Raises `AirflowError` when the process ended or did not answer within `deadline` seconds; it is ended then.
        """
        request = {"start": start.isoformat(), "end": end.isoformat(), "groups": groups}
        with self._turn:
            answer = self._exchange(request, deadline)
        summary = answer["summary"] or {}
        return RunResult(
            state=answer["state"],
            seconds=answer["seconds"],
            run_id=summary.get("run_id", ""),
            candidates=summary.get("candidates", 0),
            granted=summary.get("granted", 0),
            denied=summary.get("denied", {}),
            error=answer.get("error", "") or (f"see {self.log}" if answer["state"] != "success" else ""),
        )

    def stop(self) -> None:
        """End the process. Safe to call at any time, from any thread, more than once; cuts a run in progress off."""
        self._stopped = True
        process, self._process = self._process, None
        if process is None:
            return
        if self._turn.locked():
            # It would only look at its stdin after the run. A rerun of the interval continues from the checkpoints.
            process.kill()
        _close(process.stdin)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # Last: closing waits for a thread that reads, which ends with the process.
        _close(process.stdout)

    def _exchange(self, request: dict[str, Any] | None, deadline: float) -> dict[str, Any]:
        """Send a line, wait for a line."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise AirflowError("the runner is not started; call `start` first.")
        late = threading.Timer(deadline, process.kill)
        late.daemon = True
        late.start()
        try:
            if request is not None:
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
            line = process.stdout.readline()
        except (OSError, ValueError):  # the pipe broke, or `stop` closed it meanwhile
            line = ""
        finally:
            # False alarms are over once the answer is here; a killed process reads as one that ended.
            late.cancel()
        if not line:
            self.stop()
            raise AirflowError(f"the runner ended before it answered, or took over {deadline:.0f} s.", self.log)
        answer: dict[str, Any] = json.loads(line)
        return answer


def _close(stream: IO[str] | None) -> None:
    if stream is None:
        return
    try:
        stream.close()
    except OSError:  # unsent bytes for a process that is gone
        return
