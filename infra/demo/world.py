"""What the demo runs on: servers, simulator, workers and Airflow of its own, emptied first, ended last.

The demo never touches servers that the settings name: it empties what it runs on.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Self

import psycopg

from infra.airflow.runner import AirflowRunner, RunResult
from infra.simulator.engine_settings import engine_settings
from infra.simulator.process import SimulatorProcess
from infra.stack import process
from infra.stack.stack import Stack
from shared.clock import FileClock, SystemClock
from shared.gate import open_fresh
from shared.keyspace import open_keyspace
from shared.settings import Settings, load_settings
from shared.topics import ensure_topics, remove_topics

STOP_SECONDS = 10.0
DEAD_TOKENS = {"provider": "apns", "percent": 0.6, "salt": "demo", "status": 410, "reason": "Unregistered"}
DEAD_FCM_TOKENS = {"provider": "fcm", "percent": 0.6, "salt": "demo", "status": 404, "reason": "UNREGISTERED"}
USERS_A_BUCKET = 200
PREFIX = "demo-"

Say = Callable[[str], None]


class WorkerDiedError(RuntimeError):
    """A part of the demo ended by itself; the message holds the end of its log."""


class World:
    """The demo's parts. A context manager: whatever was started is ended, Ctrl-C included."""

    def __init__(self, state_dir: Path, start: float, users: int, say: Say, meanwhile: Callable[[World], None]) -> None:
        """`meanwhile` is called while the servers start: what it makes needs none of them."""
        self.state_dir = state_dir.resolve()
        self._start = start
        self._users = users
        self._say = say
        self._meanwhile = meanwhile
        self._exit = ExitStack()
        self._workers: dict[str, process.ProcessId] = {}
        self.devices_file = self.state_dir / "devices.csv"
        self.clock: FileClock
        self.settings: Settings
        self.simulator: SimulatorProcess
        self._airflow: AirflowRunner
        self._airflow_started: Future[None]

    def __enter__(self) -> Self:
        try:
            self._servers()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def _servers(self) -> None:
        self._say("starting PostgreSQL, Valkey and Kafka")
        stack = Stack(self.state_dir)
        self._exit.callback(stack.down)
        with ThreadPoolExecutor(1) as aside:
            starting = aside.submit(stack.up)
            self._meanwhile(self)
            status = starting.result()
        if not status.healthy:
            raise WorkerDiedError(f"the local stack did not start: see `surnia status` in {self.state_dir}")
        self._environment(json.loads((self.state_dir / "stack.json").read_text())["settings"])
        self.settings = load_settings()
        self._say("emptying them")
        asyncio.run(self._empty())
        # Airflow takes longest to load and is needed last, when the first simulated hour is over.
        self._airflow = AirflowRunner(self.settings)
        aside = ThreadPoolExecutor(1)
        # In the end in the other order: stopped first, so that nobody waits for it to get ready.
        self._exit.callback(aside.shutdown)
        self._exit.callback(self._airflow.stop)
        self._airflow_started = aside.submit(self._airflow.start)
        for role in ("stream", "ledger"):
            self._worker(role)

    def _environment(self, addresses: dict[str, str]) -> None:
        """Settings for this process and its children. Explicit, so that nothing in `.env` leads elsewhere."""
        self.clock_file = self.state_dir / "clock"
        self.clock = FileClock.create(self.clock_file, self._start)
        buckets = max(1, self._users // 256 // USERS_A_BUCKET)
        values = {f"SURNIA_{name.upper()}": value for name, value in addresses.items()} | {
            "SURNIA_STATE_DIR": str(self.state_dir),
            "SURNIA_DATABASES": "",
            "SURNIA_CLOCK_FILE": str(self.clock_file),
            # New topics every time: a consumer group's offsets outlive a topic that is deleted and made again.
            "SURNIA_TOPIC_PREFIX": f"{PREFIX}{round(SystemClock().now())}.",
            "SURNIA_PARTITIONS": "4",
            "SURNIA_SHARD_GROUPS": "4",
            "SURNIA_GATE_BUCKET_BITS": str((buckets - 1).bit_length()),
            # The clock jumps; what waits between its steps is only our own patience.
            "SURNIA_COMMIT_SECONDS": "0.1",
            "SURNIA_DUE_POLL_SECONDS": "0.1",
        }
        before = {name: os.environ.get(name) for name in values}
        self._exit.callback(_restore, before)
        os.environ.update(values)

    async def _empty(self) -> None:
        async with await psycopg.AsyncConnection.connect(self.settings.require_postgres()) as connection:
            await connection.execute(
                "TRUNCATE users, devices, ledger, scan_runs, scan_checkpoints, planned, outbox, pauses, "
                "erased, erasure_keys, erasures"
            )
        keyspace = open_keyspace(self.settings)
        await keyspace.everywhere("FLUSHDB")
        await keyspace.close()
        await open_fresh(self.settings)
        await remove_topics(self.settings, PREFIX)
        await ensure_topics(self.settings)

    def serve(self) -> None:
        """Start what needs the population's device file: the simulator, and the worker that calls it."""
        self._say("starting the provider simulator")
        faults = self.state_dir / "faults.json"
        faults.write_text(json.dumps([DEAD_TOKENS, DEAD_FCM_TOKENS]))
        self.simulator = SimulatorProcess(self.state_dir, devices=self.devices_file, faults=faults)
        with _uninterrupted():
            self._exit.enter_context(self.simulator)
        values = engine_settings(self.state_dir, self.simulator.url)
        self._exit.callback(_restore, {name: os.environ.get(name) for name in values})
        os.environ.update(values)
        self.settings = load_settings()
        self._worker("delivery")

    def run_dag(self, start: datetime, end: datetime) -> RunResult:
        """Run `silent_reminders` for an interval; waits until Airflow is loaded."""
        self._airflow_started.result()
        return self._airflow.run(start, end)

    def _worker(self, role: str) -> None:
        with _uninterrupted():
            started = process.spawn(
                [sys.executable, "-m", "surnia", "worker", role], self.log(role), cwd=Path.cwd(), env=os.environ
            )
            self._workers[role] = started
            self._exit.callback(process.end, started, signal.SIGTERM, STOP_SECONDS)

    def log(self, role: str) -> Path:
        return self.state_dir / "logs" / f"worker-{role}.log"

    def check(self) -> None:
        """Raise if a worker has ended."""
        for role, worker in self._workers.items():
            if not process.is_alive(worker):
                last = "\n".join(process.tail(self.log(role)))
                raise WorkerDiedError(f"the {role} worker ended; the end of {self.log(role)}:\n{last}")


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put a Ctrl-C off to the end of the block: between a start and its entry in the exit list, nobody would end it."""
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def _restore(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
