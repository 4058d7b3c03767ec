"""Ends a process together with all that it started, children in process groups of their own included."""

from __future__ import annotations

import contextlib
import os
import signal

import psutil  # type: ignore[import-untyped]  # comes with Airflow, its types do not

from infra.stack import process
from infra.stack.process import ProcessId

_STOP_SECONDS = 15.0


def session_members(leader: ProcessId) -> list[int]:
    """Living pids of the session that `leader` opened; none where its pid is another process's by now."""
    # By session, not by process group: the scheduler gives every running task a group of its own.
    if _is_running(leader.pid) and not process.is_alive(leader):
        return []
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(pid) == leader.pid and _is_running(pid):
                found.append(pid)
    return found


def _is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def end_session(leader: ProcessId) -> None:
    """Ask the leader to stop, then end what is left of its session: the scheduler's tasks go on without it."""
    process.end(leader, signal.SIGTERM, _STOP_SECONDS)
    for pid in session_members(leader):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait_until(lambda: not session_members(leader), 10)
