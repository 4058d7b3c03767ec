"""What chaos strikes: servers, simulator and workers of its own, each of which may be killed and brought back alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Self, TypeVar

import psutil  # type: ignore[import-untyped]  # comes with Airflow, its types do not
import psycopg

from infra.simulator.engine_settings import engine_settings
from infra.simulator.process import SimulatorProcess
from infra.stack import process
from infra.stack.errors import StackError
from infra.stack.part import process_of
from infra.stack.stack import Stack
from shared.clock import FileClock, utc
from shared.gate.keeper import open_fresh
from shared.settings import Settings
from shared.topics import ensure_topics
from tests.chaos.workers import Workers, kill_group
from tests.conftest import NOON, settings_of

DEADLINE = 120.0
"""Real seconds after which what should have happened counts as never happening."""
# A push takes long enough to be caught half-way; some tokens are dead, some answers ask to try again.
_PROVIDER_FAULTS: list[dict[str, Any]] = [
    {"probability": 0.5, "latency_ms": 60},
    {"provider": "apns", "percent": 1, "salt": "chaos", "reason": "Unregistered"},
    {"provider": "fcm", "percent": 1, "salt": "chaos", "reason": "UNREGISTERED"},
    {"provider": "apns", "probability": 0.02, "reason": "ServiceUnavailable"},
    {"provider": "fcm", "probability": 0.02, "reason": "UNAVAILABLE", "retry_after": None},
]
T = TypeVar("T")


class Care(StrEnum):
    """Who opens the gate again when it has closed."""

    by_hand = "by hand"
    by_itself = "by itself"
    durable = "durable"
    """Nobody has to where the server kept its data; else by hand."""


class World:
    """One installation. Use it as a context manager; its methods may be called from several threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.journal = folder / "journal"
        self.stack = Stack(folder)
        self.environment: dict[str, str] = {}
        self.turned: list[tuple[float, float, bool]] = []
        """(real instant, what the clock shows since, nothing was in flight then): every turn of the clock."""
        self.paused: list[tuple[str, float, float]] = []
        """(kind, from, to): real instants between which nothing of the kind may be sent."""
        self.care = Care.by_hand
        self._locks = {name: threading.RLock() for name in ("postgres", "valkey", "kafka", "simulator")}
        self._said = (folder / "timeline.log").open("a")
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.callback(self._said.close)
            stack.callback(self.stack.remove)
            self.stack.up()
            self.clock = FileClock.create(self.folder / "clock", NOON)
            self.addresses: dict[str, str] = json.loads((self.folder / "stack.json").read_text())["settings"]
            self.environment = {f"SURNIA_{name.upper()}": value for name, value in self.addresses.items()} | {
                "SURNIA_STATE_DIR": str(self.folder),
                "SURNIA_CLOCK_FILE": str(self.folder / "clock"),
                "SURNIA_TOPIC_PREFIX": "chaos.",
                "SURNIA_PARTITIONS": "4",
                "SURNIA_SHARD_GROUPS": "2",
                "SURNIA_PAGE_SIZE": "10",
                # The load's comebacks are due at the send hour.
                "SURNIA_SPREAD_MINUTES": "0",
                "SURNIA_SEND_BATCH": "50",
                "SURNIA_GATE_BUCKET_BITS": "1",
                "SURNIA_COMMIT_SECONDS": "0.1",
                "SURNIA_DUE_POLL_SECONDS": "0.1",
                "SURNIA_OUTBOX_SECONDS": "3",
                # Faust's own: a worker that was killed is missed after this long, the shortest that Kafka allows.
                "BROKER_SESSION_TIMEOUT": "6",
                "BROKER_HEARTBEAT_INTERVAL": "1",
            }
            self.settings: Settings = settings_of(self.environment)
            asyncio.run(ensure_topics(self.settings))
            asyncio.run(open_fresh(self.settings))
            faults = self.folder / "faults.json"
            faults.write_text(json.dumps(_PROVIDER_FAULTS))
            self.simulator = SimulatorProcess(
                self.folder, faults=faults, journal=self.journal, environment=self.environment
            )
            stack.enter_context(self.simulator)
            self.environment |= engine_settings(self.folder, self.simulator.url)
            self.workers = Workers(self.environment, self.logs)
            stack.callback(self.workers.close)
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def begin(self, care: Care) -> None:
        """Make ready for a seed: all workers run, with the settings it asks for."""
        self.environment["SURNIA_GATE_AUTO_REBUILD"] = str(care is Care.by_itself).lower()
        self.environment["SURNIA_GATE_DURABLE"] = str(care is Care.durable).lower()
        self.settings = self.settings.model_copy(update={"gate_durable": care is Care.durable})
        if care is not self.care:
            self.workers.stop("stream", "delivery")
            # A server that was trusted without a look has to be vouched for again.
            self.until_done("gate", "rebuild")
        self.care = care
        self.workers.only_one_each()

    # The clock.

    def turn(self, instant: float, settled: bool = False) -> None:
        """Turn the clock; `settled` says that nothing was in flight."""
        self.turned.append((time.monotonic(), instant, settled))
        self.clock.set(instant)

    def say(self, what: str) -> None:
        """A line for the timeline of the seed."""
        self._said.write(f"{time.monotonic():12.3f}  {utc(self.clock.now()):%m-%d %H:%M}  {what}\n")
        self._said.flush()

    # Servers.

    def kill_server(self, name: str) -> None:
        """kill -9 a server and every process it started."""
        with self._locks[name]:
            running = process_of(self.stack.parts[name].record())
            if running is not None and process.is_alive(running):
                # Before their parent is gone: PostgreSQL gives each a session of its own.
                children = psutil.Process(running.pid).children(recursive=True)
                kill_group(running)
                for child in children:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()
                psutil.wait_procs(children, timeout=10)

    def start_server(self, name: str, *, empty: bool = False) -> None:
        """Start a server where it was, with its data or without; nothing where it runs."""
        with self._locks[name]:
            if empty:
                self.stack.parts[name].empty(self.stack.parts[name].record())
            with contextlib.suppress(StackError):
                # Once more where the machine is so busy that its patience is not enough.
                self.stack.up(parts=(name,))
            self.stack.up(parts=(name,))
            part = self.stack.parts[name]
            found = part.address(part.record())
            assert found == self.addresses[part.setting], f"{name} came back at another address"

    def kill_simulator(self) -> None:
        with self._locks["simulator"]:
            self.simulator.kill()

    def break_providers(self, *rules: dict[str, Any], seconds: float) -> None:
        """Put these before the faults that there always are; a simulator that is killed meanwhile forgets them."""
        for faults in ([*rules, *_PROVIDER_FAULTS], _PROVIDER_FAULTS):
            # While it is dead there is nobody to tell, and it comes back with its own.
            with self._locks["simulator"], contextlib.suppress(OSError, RuntimeError):
                self.simulator.set_faults(*faults)
            if faults is not _PROVIDER_FAULTS:
                time.sleep(seconds)

    def start_simulator(self) -> None:
        with self._locks["simulator"]:
            self.simulator.start()

    # Commands and questions.

    def spawn(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command of the engine's, in a process group of its own; what it prints comes out of a pipe."""
        with (self.logs / "commands.log").open("a") as complaints:
            return subprocess.Popen(
                [sys.executable, "-m", "surnia", *arguments],
                env=os.environ | self.environment,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
                start_new_session=True,
            )

    def until_done(self, *arguments: str) -> str:
        """Run a command again until it succeeds, as somebody on call would; what it said last."""

        def succeeded() -> list[str]:
            command = self.spawn(*arguments)
            said, _ = command.communicate(timeout=DEADLINE)
            self.say(f"`surnia {' '.join(arguments)}` ended with {command.returncode}")
            return [] if command.returncode else [said]

        return wait_for(succeeded, f"`surnia {' '.join(arguments)}` to succeed")[0]

    @contextlib.contextmanager
    def database(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        with psycopg.connect(self.settings.require_postgres(), connect_timeout=5, autocommit=True) as connection:
            yield connection


def wait_for(condition: Callable[[], T], what: str, seconds: float = DEADLINE) -> T:
    """The first true answer of a condition that is asked again and again."""
    end = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < end, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.05)
    return answer
