"""What the stack remembers in STATE_DIR: `stack.json`, its secrets, the lock that one `up` at a time holds, ports."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

VERSION = 1
LOOPBACK = "127.0.0.1"
# Below the ports that systems give to outgoing connections (Linux: 32768 on), or any client could be sitting on a
# server's port when that starts again.
_PORTS = range(20_000, 32_000)


@dataclass
class PartRecord:
    """One server we started. `pid` is None once it was ended; ports and data outlive it."""

    pid: int | None = None
    pgid: int | None = None
    started_ticks: int | None = None
    started_at: float | None = None
    port: int | None = None
    extra_ports: dict[str, int] = field(default_factory=dict)
    log: str = ""
    version: str = ""
    data: str = ""
    note: str = ""


@dataclass
class StackState:
    """The content of stack.json. `settings` holds the addresses `shared.settings` falls back on."""

    settings: dict[str, str] = field(default_factory=dict)
    parts: dict[str, PartRecord] = field(default_factory=dict)
    # Which topics and migrations were last applied, so that a second `up` need not ask the servers.
    prepared: dict[str, str] = field(default_factory=dict)


class StateStore:
    """Reads and writes STATE_DIR/stack.json; threads that start parts side by side share one."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir.absolute()
        self.path = self.state_dir / "stack.json"
        self._guard = threading.Lock()

    def prepare(self) -> None:
        """Make STATE_DIR; others may pass through it (PostgreSQL's user must, under root) but not list it."""
        if not self.state_dir.exists():
            self.state_dir.mkdir(parents=True, exist_ok=True)
            self.state_dir.chmod(0o711)
        (self.state_dir / "logs").mkdir(exist_ok=True)

    def read(self) -> StackState:
        """The recorded state; an empty one where there is none or a crash left half a file."""
        try:
            raw = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return StackState()
        if not isinstance(raw, dict) or raw.get("version") != VERSION:
            return StackState()
        known = {item.name for item in fields(PartRecord)}
        parts = {
            name: PartRecord(**{key: value for key, value in part.items() if key in known})
            for name, part in raw.get("parts", {}).items()
        }
        return StackState(dict(raw.get("settings", {})), parts, dict(raw.get("prepared", {})))

    def change(self, edit: Callable[[StackState], None]) -> StackState:
        """Read, edit and write in one step."""
        with self._guard:
            state = self.read()
            edit(state)
            document = {
                "version": VERSION,
                "settings": state.settings,
                "parts": {name: asdict(part) for name, part in sorted(state.parts.items())},
                "prepared": state.prepared,
            }
            write_private(self.path, json.dumps(document, indent=2) + "\n")
            return state

    def record(self, name: str, **changes: Any) -> PartRecord:
        """Change some fields of one part's record."""

        def edit(state: StackState) -> None:
            part = state.parts.setdefault(name, PartRecord())
            for key, value in changes.items():
                setattr(part, key, value)

        return self.change(edit).parts[name]

    def secret(self, name: str) -> str:
        """The password of one server, made once; it outlives `down` because the data does."""
        with self._guard:
            path = self.state_dir / "secrets.json"
            try:
                known: dict[str, str] = json.loads(path.read_text())
            except (OSError, ValueError):
                known = {}
            if name not in known:
                known[name] = secrets.token_urlsafe(24)
                write_private(path, json.dumps(known, indent=2) + "\n")
            return known[name]


@contextlib.contextmanager
def exclusive(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the file lock at `path`; calls `waiting` once when somebody else has it. The kernel frees it at exit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file nobody else may read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "w") as handle:
            handle.write(text)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def choose_port(wanted: int | None, taken: tuple[int, ...] = ()) -> int:
    """`wanted` if it is still free on loopback, else a free one that is not in `taken`."""
    if wanted and wanted not in taken and _is_free(wanted):
        return wanted
    while True:
        port = _PORTS[secrets.randbelow(len(_PORTS))]
        if port not in taken and _is_free(port):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # Servers set SO_REUSEADDR themselves: a port whose last connections linger in TIME_WAIT is free to them.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
