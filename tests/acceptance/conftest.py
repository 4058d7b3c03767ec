"""The engine as processes: the provider simulator and a worker of each role, over the session's stack."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil  # type: ignore[import-untyped]  # comes with Airflow, its types do not
import pytest
from confluent_kafka import Producer as ForeignProducer

from infra.simulator.engine_settings import engine_settings
from infra.simulator.process import SimulatorProcess
from infra.stack import process
from shared.clock import utc
from shared.settings import Settings
from tests.conftest import settings_of

DEADLINE = 90.0


class Engine:
    """A running engine."""

    def __init__(self, simulator: SimulatorProcess, environment: dict[str, str], logs: Path) -> None:
        self.simulator = simulator
        self.environment = environment
        self.settings: Settings = settings_of(environment)
        self._logs = logs
        self._workers: dict[str, process.ProcessId] = {}

    def start(self, *roles: str, release: Path | None = None) -> None:
        """`release`: a folder with another release of the engine."""
        for role in roles:
            self._workers[role] = process.spawn(
                [sys.executable, "-m", "surnia", "worker", role],
                self._logs / f"{role}.log",
                cwd=release or Path.cwd(),
                env=os.environ | self.environment,
            )

    def stop(self, *roles: str) -> None:
        ending = [self._workers.pop(role) for role in roles or list(self._workers)]
        for worker in ending:
            if process.is_alive(worker):
                os.kill(worker.pid, signal.SIGTERM)  # All at once; below each is waited for.
        for worker in ending:
            process.end(worker, signal.SIGTERM, 15.0)

    def kill(self) -> None:
        """At the end of a test, where nobody waits for them to leave their groups in order."""
        for worker in self._workers.values():
            process.end(worker, signal.SIGKILL, 15.0)
        self._workers.clear()

    def memory_mb(self, role: str) -> float:
        """What a worker takes now, its resident set."""
        return float(psutil.Process(self._workers[role].pid).memory_info().rss) / 1e6

    def produce(self, at: float, user: int, *events: dict[str, Any]) -> None:
        """Events of one user in Lisbon, sent with librdkafka, as any producer would."""
        producer = ForeignProducer({"bootstrap.servers": self.settings.require_kafka()})
        common = {"user_id": user, "at": utc(at).isoformat(), "time_zone": "Europe/Lisbon"}
        for event in events:
            value = json.dumps(common | event).encode()
            producer.produce(f"{self.settings.topic_prefix}activity.events", value=value, key=str(user).encode())
        assert producer.flush(30) == 0

    def surnia(self, *arguments: str, stdin: str | None = None, code: int = 0) -> str:
        """Run a command to its end; what it printed."""
        return self.typed(*arguments, stdin=stdin, code=code).stdout

    def typed(self, *arguments: str, stdin: str | None = None, code: int = 0) -> subprocess.CompletedProcess[str]:
        """The same with what it said on standard error; code -1: whatever it ends with."""
        done = subprocess.run(
            [sys.executable, "-m", "surnia", *arguments],
            env=os.environ | self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        said = f"{done.stdout}\n{done.stderr}"
        assert code < 0 or done.returncode == code, f"{arguments} ended with {done.returncode}:\n{said}"
        return done

    def audit(self, day: str) -> dict[str, Any]:
        """`surnia audit --json`, once nothing is in flight any more."""

        def settled() -> dict[str, Any] | None:
            found: dict[str, Any] = json.loads(self.surnia("audit", "--date", day, "--json"))
            return found if not found["lag"] else None

        return wait_for(settled, f"the accounts of {day} to settle")


T = TypeVar("T")


def wait_for(condition: Callable[[], T | None], what: str, seconds: float = DEADLINE) -> T:
    """The first true answer of a condition that is asked again and again."""
    end = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < end, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.05)
    return answer


@pytest.fixture
def engine(environment: dict[str, str], tmp_path: Path) -> Iterator[Engine]:
    """Simulator and workers of all roles, on an emptied stack and a clock that stands at noon UTC."""
    folder = tmp_path / "state"
    with SimulatorProcess(folder, environment=environment) as simulator:
        environment |= engine_settings(folder, simulator.url)
        engine = Engine(simulator, environment, folder)
        try:
            engine.start("stream", "delivery", "ledger")
            yield engine
        except BaseException:
            for log in folder.glob("*.log"):
                print(f"--- {log.name}\n" + "\n".join(process.tail(log, 40)))
            raise
        finally:
            engine.kill()
