"""A PostgreSQL of a test's own with a streaming replica, from the wheel's binaries."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psycopg

from infra.stack import process
from infra.stack.postgres import find_install
from infra.stack.state import LOOPBACK
from infra.stack.unprivileged import choose_runner, reachable_folder, reachable_install
from shared.store.migrate import upgrade
from tests.integration.valkeys import free_port

_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
wal_level = replica
max_wal_senders = 4
fsync = off
max_standby_streaming_delay = '200ms'
wal_receiver_status_interval = '100ms'
"""


class Pair(NamedTuple):
    """The two servers' addresses."""

    primary: str
    replica: str


@contextmanager
def primary_and_replica(folder: Path) -> Iterator[Pair]:
    """Both, with Surnia's tables; gone afterwards. No passwords: loopback, and nothing in it."""
    runner = choose_runner()
    install = reachable_install(find_install(), runner)
    data = reachable_folder(folder, runner, "")
    ports, running = (free_port(), free_port()), list[process.ProcessId]()
    primary, replica = (f"postgresql://surnia@{LOOPBACK}:{port}/postgres" for port in ports)

    def run(program: str, *arguments: str) -> None:
        done = runner.run([str(install / "bin" / program), *arguments], cwd=data, env={"LC_ALL": "C", "TZ": "UTC"})
        assert done.returncode == 0, done.stderr

    def start(name: str, port: int) -> None:
        command = [str(install / "bin" / "postgres"), "-D", str(data / name), "-c", f"port={port}"]
        running.append(
            process.spawn(
                command, folder / f"{name}.log", cwd=data, env={"LC_ALL": "C", "TZ": "UTC"},
                uid=runner.uid, gid=runner.gid,
            )
        )  # fmt: skip
        url = f"postgresql://surnia@{LOOPBACK}:{port}/postgres"
        assert process.wait_until(lambda: _answers(url), 30), process.tail(folder / f"{name}.log", 20)

    try:
        run(
            "initdb",
            "--pgdata=one",
            "--username=surnia",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-sync",
            "--no-instructions",
        )
        with (data / "one" / "postgresql.conf").open("a") as conf:
            conf.write(_SETTINGS)
        start("one", ports[0])
        upgrade(primary)
        run(
            "pg_basebackup", "--pgdata=two", f"--host={LOOPBACK}", f"--port={ports[0]}", "--username=surnia",
            "--write-recovery-conf", "--checkpoint=fast", "--no-sync",
        )  # fmt: skip
        start("two", ports[1])
        yield Pair(primary, replica)
    finally:
        for server in reversed(running):
            process.end(server, signal.SIGQUIT, 15.0)
        with suppress(OSError):
            shutil.rmtree(data)


def _answers(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=3):
            return True
    except psycopg.OperationalError:
        return False
