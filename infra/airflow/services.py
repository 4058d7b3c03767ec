"""Airflow's processes on this machine: API server, scheduler and DAG processor, each in a session of its own.

`airflow standalone` would run the same three plus a triggerer that nothing here needs, and leaves children behind when
it is ended; these are known one by one, so that `down` can end every one with what it started.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from infra.airflow.api import Api, ApiError
from infra.airflow.environment import DAG_ID, DEFAULT_PORT, airflow_environment, home
from infra.airflow.errors import AirflowError
from infra.airflow.sessions import end_session, session_members
from infra.airflow.setup import close_abandoned_tests, setup
from infra.stack import process
from infra.stack.process import ProcessId
from infra.stack.state import choose_port, exclusive, write_private

if TYPE_CHECKING:
    from shared.settings import Settings

Report = Callable[[str], None]

COMMANDS = {
    "api-server": ["api-server"],
    # Without its log server, which would listen on every address: the API server reads the files itself.
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
}
_START_SECONDS = 180.0


@dataclass
class Record:
    """What STATE_DIR/airflow/processes.json remembers; the port outlives `down`."""

    port: int = DEFAULT_PORT
    processes: dict[str, ProcessId] = field(default_factory=dict)


@dataclass(frozen=True)
class Status:
    """How Airflow is. Components: "running", "crashed", "stopped" or "starting" (runs, but not healthy yet)."""

    state: str
    url: str
    components: dict[str, str]
    dag: str
    """"active", "paused", "missing" or, with Airflow down, "unknown"."""
    logs: str

    @property
    def healthy(self) -> bool:
        return self.state == "running"


class Airflow:
    """The Airflow of one state folder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._home = home(settings)
        self._path = self._home / "processes.json"

    def up(self, port: int | None = None, unpause: bool = True, report: Report = lambda _: None) -> bool:
        """Set up, start what is not running, wait until healthy; False where all was. Raises `AirflowError`."""
        self._home.mkdir(parents=True, exist_ok=True)
        with exclusive(self._home / "up.lock", lambda: report("another `surnia airflow up` or `down` is at work")):
            changed = setup(self._settings, report)
            record = self.record()
            if port not in (None, record.port) and any(map(process.is_alive, record.processes.values())):
                raise AirflowError(f"it runs on port {record.port}: `surnia airflow down` first to move it to {port}.")
            if not self._all_alive(record):
                self._end(record)
                record = self._start(port or record.port, exact=port is not None, report=report)
                changed = True
            self._wait(record, report)
            if unpause and Api(self._settings, record.port).unpause(DAG_ID):
                changed = True
            return changed

    def down(self) -> bool:
        """End every process and what it started; False where none was running."""
        if not self._path.exists():
            return False
        with exclusive(self._home / "up.lock"):
            return self._end(self.record())

    def status(self) -> Status:
        record = self.record()
        found = {name: self._component(record, name) for name in COMMANDS}
        state, dag = "stopped", "unknown"
        api = Api(self._settings, record.port)
        if any(word == "running" for word in found.values()):
            state = "crashed" if "crashed" in found.values() else "starting"
            try:
                unhealthy = api.unhealthy()
                found |= {name: "starting" for name in unhealthy if found[name] == "running"}
                dag = {None: "missing", True: "paused", False: "active"}[api.paused(DAG_ID)]
                if not unhealthy and state == "starting":
                    state = "running"
            except ApiError:
                found["api-server"] = "starting" if found["api-server"] == "running" else found["api-server"]
        elif "crashed" in found.values():
            state = "crashed"
        return Status(state, api.url, found, dag, str(self._home))

    def record(self) -> Record:
        """The processes that were started last."""
        try:
            raw = json.loads(self._path.read_text())
            return Record(raw["port"], {name: ProcessId(**one) for name, one in raw["processes"].items()})
        except (OSError, ValueError, KeyError, TypeError):
            return Record()

    def api(self) -> Api:
        """A client of the running API server. Raises `AirflowError` where none was started."""
        record = self.record()
        # Never somebody else's Airflow that happens to listen on the same port.
        if not self._all_alive(record):
            raise AirflowError("it is not running: `surnia airflow up` starts it.")
        return Api(self._settings, record.port)

    def log(self, component: str) -> Path:
        return self._home / f"{component}.log"

    def _start(self, port: int, exact: bool, report: Report) -> Record:
        chosen = choose_port(port)
        if exact and chosen != port:
            raise AirflowError(f"port {port} is taken: name another one with --port.")
        close_abandoned_tests(self._settings)
        report("starting its processes")
        environment = airflow_environment(self._settings, chosen)
        record = Record(chosen)
        for name, command in COMMANDS.items():
            record.processes[name] = process.spawn(
                [sys.executable, "-m", "airflow", *command], self.log(name), cwd=Path.cwd(), env=environment
            )
            # After each: a crash of ours must leave no process behind that `down` does not know.
            self._save(record)
        return record

    def _wait(self, record: Record, report: Report) -> None:
        api = Api(self._settings, record.port)
        missing = ["the API server"]

        def ready() -> bool:
            if not self._all_alive(record):
                return True
            try:
                missing[:] = api.unhealthy() or ([] if api.paused(DAG_ID) is not None else [f"the DAG {DAG_ID}"])
            except ApiError:
                missing[:] = ["the API server"]
            report(f"waiting for {', '.join(missing)}")
            return not missing

        arrived = process.wait_until(ready, _START_SECONDS)
        for name in COMMANDS:
            if not process.is_alive(record.processes[name]):
                self._end(record)
                raise AirflowError(f"its {name} ended at once; the others were ended, too.", self.log(name))
        if not arrived:
            blamed = missing[0] if missing and missing[0] in COMMANDS else "dag-processor"
            raise AirflowError(
                f"still waiting for {', '.join(missing)} after {_START_SECONDS:.0f} s. `surnia airflow status` says "
                "how it goes on, `surnia airflow down` ends it.",
                self.log(blamed),
            )

    def _end(self, record: Record) -> bool:
        ours = [one for one in record.processes.values() if session_members(one)]
        with ThreadPoolExecutor(max_workers=len(COMMANDS)) as pool:
            list(pool.map(end_session, ours))
        self._save(Record(record.port))
        return bool(ours)

    def _component(self, record: Record, name: str) -> str:
        one = record.processes.get(name)
        if one is None:
            return "stopped"
        return "running" if process.is_alive(one) else "crashed"

    def _all_alive(self, record: Record) -> bool:
        return all(name in record.processes and process.is_alive(record.processes[name]) for name in COMMANDS)

    def _save(self, record: Record) -> None:
        write_private(self._path, json.dumps(asdict(record), indent=2) + "\n")
