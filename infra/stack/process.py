"""Server processes that outlive the command which started them: spawn, recognise, end.

A process is recognised by its pid *and* its start time, because the kernel hands out pids again: nothing
that is not ours is ever signalled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.02
_LOG_KEEP_BYTES = 1_000_000
_PROC = Path("/proc/self")


@dataclass(frozen=True)
class ProcessId:
    """One process for all time: pid, its process group, and when it started in clock ticks since boot."""

    pid: int
    pgid: int
    started_ticks: int


@dataclass(frozen=True)
class _Stat:
    state: str
    pgid: int
    session: int
    started_ticks: int
    threads: int = 1

    @property
    def lives(self) -> bool:
        """A zombie is dead, once its last thread is: until then a killed JVM still holds its ports and files."""
        return self.state not in "ZX" or self.threads > 1


def spawn(
    command: Sequence[str],
    log: Path,
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    uid: int | None = None,
    gid: int | None = None,
) -> ProcessId:
    """Start `command` in a session of its own, its output going to `log` (the previous run's end is kept)."""
    _trim(log)
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=None if env is None else dict(env),
            start_new_session=True,
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
        )
    stat = _stat(child.pid)
    # Somebody has to collect the exit code for as long as we live, or a dead server stays a zombie.
    threading.Thread(target=child.wait, name=f"reap-{child.pid}", daemon=True).start()
    return ProcessId(child.pid, child.pid, stat.started_ticks if stat else 0)


def is_alive(process: ProcessId) -> bool:
    """Whether exactly this process still runs; a zombie or a stranger with the same pid does not count."""
    stat = _stat(process.pid)
    return stat is not None and stat.lives and stat.started_ticks == process.started_ticks


def end(process: ProcessId, stop: signal.Signals, deadline: float) -> None:
    """Ask the process to stop, and after `deadline` seconds end what is left of its whole group."""
    if is_alive(process):
        _signal(process.pid, stop)
        wait_until(lambda: not is_alive(process), deadline)
    if group_members(process):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pgid, signal.SIGKILL)
        wait_until(lambda: not group_members(process), 10)


def group_members(process: ProcessId) -> list[int]:
    """Living pids of the process's group, its dead leader's orphans included; none where the pid was reused."""
    leader = _stat(process.pid)
    if leader is not None and leader.started_ticks != process.started_ticks:
        return []
    members = []
    for entry in _all_pids():
        stat = _stat(entry)
        if (
            stat is not None
            and stat.lives
            and stat.pgid == process.pgid
            and stat.session == process.pgid
            and stat.started_ticks >= process.started_ticks
        ):
            members.append(entry)
    return members


def working_in(folder: Path) -> list[int]:
    """Pids whose working folder is `folder`, as far as we may look; none where there is no /proc."""
    found = []
    here = folder.resolve()
    for pid in _all_pids():
        try:
            if Path(f"/proc/{pid}/cwd").readlink() == here:
                found.append(pid)
        except OSError:
            continue
    return found


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll `condition()` until it holds; False once `seconds` are over."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(POLL_SECONDS)
    return True


def tail(log: Path, lines: int = 15) -> list[str]:
    """The last lines of a log; none where it cannot be read."""
    try:
        with log.open("rb") as handle:
            handle.seek(max(0, os.fstat(handle.fileno()).st_size - 256 * lines - 4096))
            return handle.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _trim(log: Path) -> None:
    if log.exists() and log.stat().st_size > _LOG_KEEP_BYTES:
        log.replace(log.with_suffix(".old.log"))


def _all_pids() -> list[int]:
    if _PROC.is_dir():
        return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]  # noqa: PTH208 (thousands, and often)
    listed = subprocess.run(["ps", "-axo", "pid="], capture_output=True, text=True, check=False)
    return [int(line) for line in listed.stdout.split()]


def _stat(pid: int) -> _Stat | None:
    """What the kernel says about a pid; None where there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None if _PROC.is_dir() else _stat_by_ps(pid)
    # The second field is the command in brackets and may itself contain spaces and brackets.
    rest = text[text.rindex(")") + 2 :].split()
    return _Stat(rest[0], pgid=int(rest[2]), session=int(rest[3]), started_ticks=int(rest[19]), threads=int(rest[17]))


def _stat_by_ps(pid: int) -> _Stat | None:
    """The same where there is no /proc (macOS): the start time is then in whole seconds."""
    shown = subprocess.run(
        ["ps", "-o", "stat=,pgid=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    ).stdout.split(maxsplit=2)
    if len(shown) < 3:
        return None
    started = int(time.mktime(time.strptime(shown[2].strip(), "%a %b %d %H:%M:%S %Y")))
    return _Stat(state=shown[0][0], pgid=int(shown[1]), session=int(shown[1]), started_ticks=started)
