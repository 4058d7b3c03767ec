"""The engine's workers as processes, each behind a network of its own that can be cut."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

from infra.stack import process
from tests.chaos.proxy import Proxy

ROLES = ("stream", "delivery", "ledger")


class Workers:
    """Workers by name: those of one role are told apart by what follows the role, as in "stream" and "stream-2"."""

    def __init__(self, environment: dict[str, str], logs: Path) -> None:
        """`environment` is read at every start: whoever changes it changes the workers that are started later."""
        self.fallen: list[str] = []
        """Workers that ended by themselves and were started again."""
        self._environment = environment
        self._logs = logs
        self._redis = urlsplit(environment["SURNIA_REDIS_URL"])
        self._running: dict[str, process.ProcessId] = {}
        self._proxies: dict[str, Proxy] = {}
        self._lock = threading.RLock()

    def start(self, name: str) -> None:
        """Start a worker, unless it runs."""
        with self._lock:
            if name in self._running and process.is_alive(self._running[name]):
                return
            # The password stays, the port is the proxy's.
            address = f"{self._redis.netloc.rpartition(':')[0]}:{self.proxy(name).port}"
            environment = os.environ | self._environment
            environment["SURNIA_REDIS_URL"] = self._redis._replace(netloc=address).geturl()
            command = [sys.executable, "-m", "surnia", "worker", name.partition("-")[0]]
            log = self._logs / f"{name}.log"
            self._running[name] = process.spawn(command, log, cwd=Path.cwd(), env=environment)

    def kill(self, name: str) -> None:
        """kill -9; it stays down until it is started again."""
        with self._lock:
            if (worker := self._running.pop(name, None)) is not None:
                kill_group(worker)

    def stop(self, *names: str) -> None:
        """End these workers in an orderly way."""
        with self._lock:
            ending = [self._running.pop(name) for name in names if name in self._running]
        for worker in ending:
            if process.is_alive(worker):
                os.kill(worker.pid, signal.SIGTERM)  # All at once; below each is waited for.
        for worker in ending:
            process.end(worker, signal.SIGTERM, 15.0)

    def only_one_each(self) -> None:
        """One worker a role, none beside it, every network whole."""
        with self._lock:
            self.stop(*(set(self._running) - set(ROLES)))
            for proxy in self._proxies.values():
                proxy.mend()
            for role in ROLES:
                self.start(role)

    def mind(self) -> list[str]:
        """Start again what has ended by itself, as whoever runs workers does; the names."""
        with self._lock:
            fallen = [name for name, worker in self._running.items() if not process.is_alive(worker)]
            for name in fallen:
                self.start(name)
        self.fallen += fallen
        return fallen

    def pids(self) -> dict[str, int]:
        """Of the workers that should run."""
        with self._lock:
            return {name: worker.pid for name, worker in self._running.items()}

    def proxy(self, name: str) -> Proxy:
        """The network between a worker and Redis."""
        with self._lock:
            if name not in self._proxies:
                self._proxies[name] = Proxy(self._redis.port or 0)
            return self._proxies[name]

    def close(self) -> None:
        self.stop(*self._running)
        for proxy in self._proxies.values():
            proxy.close()


def kill_group(running: process.ProcessId) -> None:
    """kill -9 a process and its group; returns when all are gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pgid, signal.SIGKILL)
    process.wait_until(lambda: not process.group_members(running), 10)
