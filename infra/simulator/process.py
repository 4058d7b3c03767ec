"""Starts the simulator as a child process, for the demo and for tests."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from infra.simulator.client import AdminClient

START_SECONDS: Final = 60.0  # a file of millions of devices takes seconds to read
STOP_SECONDS: Final = 10.0
ROOT: Final = Path(__file__).resolve().parents[2]


class SimulatorStartError(RuntimeError):
    """The simulator did not get ready; the message holds the end of its log."""


class SimulatorProcess:
    """A running simulator. Use it as a context manager, or call `start` and `stop`.

    Keys and certificates are in `state_dir`; `environment` adds variables such as SURNIA_CLOCK_FILE. Started again, it
    listens where it did, and with a `journal` it knows what it had accepted before.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        port: int = 0,
        devices: Path | None = None,
        faults: Path | None = None,
        journal: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.state_dir = state_dir
        self.admin_token = secrets.token_urlsafe(24)
        self.url = ""
        self._port = port
        self._options = ["--state-dir", str(state_dir)]
        if devices:
            self._options += ["--devices", str(devices)]
        if faults:
            self._options += ["--faults", str(faults)]
        if journal:
            self._options += ["--journal", str(journal)]
        self._environment = environment or {}
        self._child: subprocess.Popen[bytes] | None = None
        self._admin: AdminClient | None = None

    def start(self) -> Self:
        """Start it and wait until it serves."""
        self.state_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="surnia-simulator-") as scratch:
            ready = Path(scratch) / "ready.json"
            environment = os.environ | self._environment | {"SURNIA_SIMULATOR_ADMIN_TOKEN": self.admin_token}
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH"))))
            command = [sys.executable, "-m", "infra.simulator", *self._options]
            command += ["--port", str(self._port), "--ready-file", str(ready)]
            with self.log_file.open("ab" if self.url else "wb") as log:
                self._child = subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            try:
                self.url = self._wait(ready, self._child)
                self._port = urlsplit(self.url).port or 0
                from infra.stack.tls import (
                    ensure_tls,  # the child has just made the files
                )

                self._admin = AdminClient(self.url, ensure_tls(self.state_dir).ca, self.admin_token)
                self._admin.healthy()
            except BaseException:
                self.stop()
                raise
        return self

    @property
    def log_file(self) -> Path:
        return self.state_dir / "simulator.log"

    @property
    def pid(self) -> int:
        """The child's process id, for tests that kill it."""
        return self._running().pid

    def kill(self) -> None:
        """End it as a crash would, without a chance to finish anything; `start` brings it back."""
        child, self._child, self._admin = self._running(), None, None
        child.kill()
        child.wait()

    def stop(self) -> None:
        """End it; safe to call again."""
        child, self._child, self._admin = self._child, None, None
        if child is None:
            return
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def stats(self) -> dict[str, Any]:
        """The witness's counts."""
        return self._client().stats()

    def pushes(self, token: str) -> list[dict[str, Any]]:
        """The last accepted pushes for a device, the oldest first."""
        return self._client().pushes(token)

    def faults(self) -> list[dict[str, Any]]:
        """The rules in force, each with its hits."""
        return self._client().faults()

    def set_faults(self, *rules: dict[str, Any]) -> None:
        """Replace all fault rules; without any, the providers are well again."""
        self._client().set_faults(*rules)

    def reset(self) -> None:
        """Forget all counts and pushes."""
        self._client().reset()

    def _wait(self, ready: Path, child: subprocess.Popen[bytes]) -> str:
        deadline = time.monotonic() + START_SECONDS
        while not ready.exists():
            if child.poll() is not None or time.monotonic() > deadline:
                said = self.log_file.read_text(errors="replace")[-2000:]
                raise SimulatorStartError(f"The simulator did not start. It said:\n{said}")
            time.sleep(0.02)
        return str(json.loads(ready.read_text())["url"])

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise RuntimeError("The simulator is not running: call start() first.")
        return self._child

    def _client(self) -> AdminClient:
        self._running()
        assert self._admin is not None
        return self._admin

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
