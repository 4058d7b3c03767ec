"""Airflow's configuration as environment variables, and the secrets it needs, kept in STATE_DIR/airflow."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from infra.stack.state import LOOPBACK, exclusive, write_private
from shared.store.addresses import spelled

if TYPE_CHECKING:
    from shared.settings import Settings

DAG_ID = "silent_reminders"
POOL = "surnia_scans"
USER = "admin"
DATABASE = "airflow"
DEFAULT_PORT = 8080


def home(settings: Settings) -> Path:
    """AIRFLOW_HOME: everything that Airflow writes to disk."""
    return settings.state_dir.absolute() / "airflow"


def database_url(settings: Settings) -> str:
    """libpq address of Airflow's metadata: Surnia's server, the database `airflow`."""
    return urlsplit(settings.require_postgres())._replace(path=f"/{DATABASE}").geturl()


def dags_folder() -> Path:
    """The folder of the `dags` package, in a checkout as in an installation."""
    spec = importlib.util.find_spec("dags")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("The package `dags` is not installed: run `uv sync`.")
    return Path(next(iter(spec.submodule_search_locations)))


def airflow_environment(settings: Settings, port: int = DEFAULT_PORT) -> dict[str, str]:
    """The whole environment of a process that imports Airflow: the caller's, with Airflow's configuration added.

    `port` is the API server's. Makes STATE_DIR/airflow and the secrets at the first call.
    """
    # Here, because it brings SQLAlchemy and Alembic along and most commands get by without.
    from shared.store.migrate import sqlalchemy_url

    folder = home(settings)
    kept = ensure_secrets(folder)
    url = sqlalchemy_url(database_url(settings))
    address = f"http://{LOOPBACK}:{port}"
    # What the caller's environment says about another Airflow must not leak into this one.
    own = {name: value for name, value in os.environ.items() if not name.lstrip("_").startswith("AIRFLOW")}
    return own | {
        # Components run with other working directories than ours; a relative state folder would move with them.
        "SURNIA_STATE_DIR": str(settings.state_dir.absolute()),
        "AIRFLOW_HOME": str(folder),
        # Airflow's default driver on PostgreSQL is asyncpg, which we do not have: name psycopg for both.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": url,
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder()),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        # Each is a process of about 150 MB; the pool lets no more scans run at once than this, plus plan and report.
        "AIRFLOW__CORE__PARALLELISM": str(scans_at_once(settings) + 1),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "AIRFLOW__CORE__FERNET_KEY": kept["fernet_key"],
        # A login even on loopback: whoever may trigger DAG runs may send reminders, and a laptop can have other users.
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
        "AIRFLOW__API__HOST": LOOPBACK,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": kept["secret_key"],
        "AIRFLOW__API_AUTH__JWT_SECRET": kept["jwt_secret"],
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        # What a scheduler had in hand when it was killed is tried again within the minute instead of five.
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "20",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "NO_COLOR": "1",
    }


def scans_at_once(settings: Settings) -> int:
    """One for each scan of an hour, which lasts as long, and as many as databases let in for a backfill beside them.
    Whoever finds his own database full waits there (batch/pressure)."""
    databases = max(1, len(settings.databases))
    return max(settings.shard_groups, databases) + settings.scans_per_database * databases


def settings_environment(settings: Settings) -> dict[str, str]:
    """The settings as the variables they are read from, so that a child process gets exactly these."""
    found: dict[str, str] = {}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if value is None:
            continue
        if name == "databases":
            value = spelled(value)
        elif isinstance(value, SecretStr):
            value = value.get_secret_value()
        found[f"SURNIA_{name.upper()}"] = json.dumps(value) if isinstance(value, tuple | bool) else str(value)
    return found


def ensure_secrets(folder: Path) -> dict[str, str]:
    """Airflow's secrets, made once, in files that nobody else may read."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    path = folder / "secrets.json"
    with exclusive(folder / "lock"):
        if path.exists():
            kept: dict[str, str] = json.loads(path.read_text())
            return kept
        kept = {
            "jwt_secret": secrets.token_urlsafe(48),
            "secret_key": secrets.token_urlsafe(32),
            "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "password": secrets.token_urlsafe(12),
        }
        write_private(folder / "passwords.json", json.dumps({USER: kept["password"]}) + "\n")
        write_private(path, json.dumps(kept, indent=2) + "\n")
        return kept
