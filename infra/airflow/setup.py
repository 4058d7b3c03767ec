"""Brings Airflow's database to the installed version and makes the pool the scans share. Idempotent."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from infra.airflow.environment import DAG_ID, DATABASE, POOL, airflow_environment, database_url, home, scans_at_once
from infra.airflow.errors import AirflowError
from infra.stack.state import exclusive

if TYPE_CHECKING:
    from shared.settings import Settings

_DESCRIPTION = "Scans of the batch path: SURNIA_SHARD_GROUPS of an hour, and those of a backfill beside them"


def setup(settings: Settings, report: Callable[[str], None] = lambda _: None) -> bool:
    """Make Airflow's database, tables and pool; False where all was there, which takes a few milliseconds to see."""
    folder = home(settings)
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / "setup.lock", lambda: report("another process sets Airflow up, waiting for it")):
        _create_database(settings)
        migrated, slots = _found(settings)
        if not migrated:
            report("bringing Airflow's tables up to date")
            _cli(settings, "db", "migrate")
            _sign(settings)
        wanted = scans_at_once(settings)
        if slots != wanted:
            report(f"giving the pool {POOL} {wanted} slots")
            _set_pool(settings)
            return True
        return not migrated


def _found(settings: Settings) -> tuple[bool, int | None]:
    """Whether the installed Airflow migrated these tables last, and the slots of our pool.

    Airflow itself needs seconds to say the first; so whoever migrates signs the tables (see `_sign`).
    """
    with psycopg.connect(database_url(settings), connect_timeout=5, autocommit=True) as connection:
        try:
            row = connection.execute(
                "SELECT obj_description('alembic_version'::regclass), (SELECT version_num FROM alembic_version), "
                "(SELECT slots FROM slot_pool WHERE pool = %s)",
                (POOL,),
            ).fetchone()
        except psycopg.errors.UndefinedTable:
            row = None
    if row is None:
        return False, None
    return row[0] is not None and row[0] == _signature(row[1]), row[2]


def _sign(settings: Settings) -> None:
    with psycopg.connect(database_url(settings), connect_timeout=5) as connection:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        # With the revision, since another Airflow that migrates the tables later leaves the signature as it is.
        connection.execute(
            sql.SQL("COMMENT ON TABLE alembic_version IS {}").format(_signature(row[0] if row else None))
        )


def _signature(revision: str | None) -> str:
    return f"apache-airflow {version('apache-airflow')} at {revision}"


def _set_pool(settings: Settings) -> None:
    # Straight to the table: the command line needs three seconds to do the same.
    with psycopg.connect(database_url(settings), connect_timeout=5) as connection:
        connection.execute(
            "INSERT INTO slot_pool (pool, slots, description, include_deferred) VALUES (%s, %s, %s, false) "
            "ON CONFLICT (pool) DO UPDATE SET slots = excluded.slots, description = excluded.description",
            (POOL, scans_at_once(settings), _DESCRIPTION),
        )


def close_abandoned_tests(settings: Settings) -> int:
    """Close the runs of a `dag.test` that was killed; gives their number. For when no scheduler runs yet.

    Nobody goes on with such a run, Airflow never notices, and as the one active run it would hold up every other.
    """
    with psycopg.connect(database_url(settings), connect_timeout=5) as connection:
        ended = connection.execute(
            "UPDATE dag_run SET state = 'failed', end_date = now() WHERE dag_id = %s AND triggered_by = 'TEST' "
            "AND state IN ('queued', 'running') RETURNING run_id",
            (DAG_ID,),
        ).fetchall()
        connection.execute(
            "UPDATE task_instance SET state = 'failed', end_date = now() "
            "WHERE dag_id = %s AND run_id = ANY(%s) AND state IN ('scheduled', 'queued', 'running', 'up_for_retry')",
            (DAG_ID, [run_id for (run_id,) in ended]),
        )
    return len(ended)


def _create_database(settings: Settings) -> None:
    """Make the database `airflow` on the server, unless it is there (the local stack makes it itself)."""
    with psycopg.connect(settings.require_postgres(), connect_timeout=5, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
            return
        try:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        except psycopg.errors.InsufficientPrivilege as error:
            raise AirflowError(
                f"the user of SURNIA_POSTGRES_URL may not create databases: have somebody run "
                f"`CREATE DATABASE {DATABASE} OWNER {connection.info.user}` on that server."
            ) from error


def _cli(settings: Settings, *arguments: str) -> None:
    """Run Airflow's own command line; its output goes to a log."""
    log = home(settings) / "setup.log"
    with log.open("wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=airflow_environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        raise AirflowError(f"`airflow {' '.join(arguments)}` failed; mend what it says and try again.", log)
