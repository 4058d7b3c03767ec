"""Processes are recognised by pid and start time, ended by group, and strangers are never touched."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.stack import process
from infra.stack.process import ProcessId

Spawn = Callable[[str], ProcessId]


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    started: list[ProcessId] = []

    def start(script: str) -> ProcessId:
        started.append(process.spawn(["/bin/sh", "-c", script], tmp_path / "log", cwd=tmp_path))
        return started[-1]

    yield start
    for one in started:
        process.end(one, signal.SIGKILL, 5)


def test_a_process_lives_in_a_group_of_its_own(spawn: Spawn) -> None:
    one = spawn("sleep 60")
    assert process.is_alive(one)
    assert one.pgid == one.pid
    assert process.group_members(one)


def test_a_stranger_with_the_same_pid_is_not_ours_and_survives(spawn: Spawn) -> None:
    stranger = spawn("sleep 60")
    remembered = replace(stranger, started_ticks=stranger.started_ticks - 1)
    assert not process.is_alive(remembered)
    assert process.group_members(remembered) == []
    process.end(remembered, signal.SIGKILL, 1)
    assert process.is_alive(stranger)


def test_the_end_takes_the_whole_group(spawn: Spawn, tmp_path: Path) -> None:
    one = spawn("sleep 60 & sleep 60 & echo ready; wait")
    assert process.wait_until(lambda: process.tail(tmp_path / "log") == ["ready"], 5)
    assert len(process.group_members(one)) == 3
    process.end(one, signal.SIGTERM, 5)
    assert process.group_members(one) == []


def test_what_ignores_the_signal_is_killed_after_the_deadline(spawn: Spawn, tmp_path: Path) -> None:
    one = spawn("trap '' TERM; echo ready; while :; do sleep 60; done")
    assert process.wait_until(lambda: process.tail(tmp_path / "log") == ["ready"], 5)
    process.end(one, signal.SIGTERM, 0.1)
    assert not process.is_alive(one)
    assert process.group_members(one) == []


def test_orphans_of_a_dead_leader_are_found_and_ended(spawn: Spawn) -> None:
    one = spawn("sleep 60 & echo ready; exit 0")
    assert process.wait_until(lambda: not process.is_alive(one), 5)
    assert len(process.group_members(one)) == 1
    process.end(one, signal.SIGTERM, 1)
    assert process.group_members(one) == []


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    try:
        stat = process._stat(child.pid)
        assert stat is not None
        one = ProcessId(child.pid, stat.pgid, stat.started_ticks)
        assert process.wait_until(lambda: not process.is_alive(one), 10)
        assert process._stat(child.pid) is not None, "nobody has collected its exit code yet"
    finally:
        child.wait()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="threads are only looked at where there is a /proc")
def test_a_process_whose_threads_outlive_its_main_thread_still_lives(spawn: Spawn, tmp_path: Path) -> None:
    # What a JVM looks like for a moment after SIGKILL: a zombie whose threads still hold its ports.
    script = (
        "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(60,)).start(); "
        "print('ready', flush=True); ctypes.CDLL(None).pthread_exit(None)"
    )
    one = spawn(f'exec {sys.executable} -c "{script}"')

    def main_thread_has_left() -> bool:
        stat = process._stat(one.pid)
        return stat is not None and stat.state == "Z"

    assert process.wait_until(main_thread_has_left, 10)
    assert process.is_alive(one)
    assert process.group_members(one)


def test_the_tail_is_the_end_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert process.tail(log) == []
    log.write_bytes(b"".join(b"line %d\n" % n for n in range(100_000)) + b"\xff broken")
    assert process.tail(log, 2) == ["line 99999", "\ufffd broken"]


def test_a_log_that_has_grown_is_put_aside(spawn: Spawn, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 1_000_001)
    one = spawn("echo new")
    assert process.wait_until(lambda: not process.is_alive(one), 5)
    assert process.tail(log) == ["new"]
    assert (tmp_path / "log.old.log").stat().st_size == 1_000_001
