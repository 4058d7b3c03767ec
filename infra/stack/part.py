"""What every server of the stack has in common: where it keeps its things, how it is started and ended."""

from __future__ import annotations

import shutil
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from infra.stack import process
from infra.stack.errors import PartError
from infra.stack.process import ProcessId
from infra.stack.state import PartRecord, StateStore
from infra.stack.unprivileged import is_elsewhere
from shared.clock import SystemClock

Report = Callable[[str], None]


class Part(ABC):
    """One server of the stack. `name` is its key in stack.json, `setting` the settings' field for its address."""

    name: ClassVar[str]
    title: ClassVar[str]
    setting: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    discard_signal: ClassVar[signal.Signals] = signal.SIGKILL
    """Ends it where its data goes with it: there is nothing to be put in order, which takes Kafka seconds."""
    stop_seconds: ClassVar[float] = 20
    start_seconds: ClassVar[float] = 60

    def __init__(self, store: StateStore) -> None:
        self.store = store
        self.home = store.state_dir / self.name
        self.log = store.state_dir / "logs" / f"{self.name}.log"

    @abstractmethod
    def launch(self, report: Report) -> ProcessId:
        """Prepare the data folder if need be and spawn the server; records ports and version."""

    @abstractmethod
    def address(self, record: PartRecord) -> str:
        """The address clients use, password included."""

    @abstractmethod
    def check(self, address: str) -> str:
        """Talk to the server in its own protocol; gives its version, raises whatever the client raises."""

    def empty(self, record: PartRecord) -> None:
        """Delete the data. Only ever called on a server of ours that is stopped."""
        elsewhere = self.data_folder(record)
        for folder in (self.home, elsewhere) if is_elsewhere(elsewhere) else (self.home,):
            if folder.exists():
                shutil.rmtree(folder)

    def record(self) -> PartRecord:
        return self.store.read().parts.get(self.name, PartRecord())

    def start(self, report: Report) -> str:
        """Start the server, wait until it answers, and give its address."""
        running = self.launch(report)
        self.store.record(
            self.name,
            pid=running.pid,
            pgid=running.pgid,
            started_ticks=running.started_ticks,
            started_at=SystemClock().now(),
            log=str(self.log),
        )
        report("waiting until it answers")
        return self.wait(running)

    def wait(self, running: ProcessId) -> str:
        """The address, once the server answers; an error with its log when it ends or stays silent."""
        address = self.address(self.record())
        last = "no answer"

        def settled() -> bool:
            nonlocal last
            if not process.is_alive(running):
                return True
            try:
                version = self.check(address)
            except Exception as error:  # clients raise many kinds while a server comes up; the deadline decides
                last = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                return False
            self.store.record(self.name, version=version)
            last = ""
            return True

        process.wait_until(settled, self.start_seconds)
        if not process.is_alive(running):
            raise self.failure("it ended while starting.")
        if last:
            raise self.failure(f"it does not answer within {self.start_seconds:.0f} s ({last}).")
        return address

    def failure(self, problem: str) -> PartError:
        """The error for `problem`, with the end of the log and what to type."""
        remedy = (
            "Run `surnia up` again; if it fails again with the same lines, `surnia up --fresh` starts with empty data."
        )
        return PartError(self.title, f"{problem} {remedy}", self.log, process.tail(self.log))

    def stop(self, record: PartRecord, *, discard: bool = False) -> bool:
        """End our process and what is left of its group; False where it did not run. `discard`: its data goes, too."""
        running = process_of(record)
        if running is None:
            return False
        was_alive = process.is_alive(running)
        process.end(running, self.discard_signal if discard else self.stop_signal, self.stop_seconds)
        self.store.record(self.name, pid=None, pgid=None, started_ticks=None, started_at=None)
        return was_alive

    def data_folder(self, record: PartRecord) -> Path:
        return Path(record.data) if record.data else self.home


def process_of(record: PartRecord) -> ProcessId | None:
    """The process a record names, alive or not."""
    if record.pid is None or record.pgid is None or record.started_ticks is None:
        return None
    return ProcessId(record.pid, record.pgid, record.started_ticks)
