"""What Airflow's processes are told: its own database and folders, loopback only, secrets that stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.airflow.environment import airflow_environment, database_url, settings_environment
from infra.airflow.runner import AirflowRunner, RunResult
from infra.stack.errors import StackError
from shared.settings import GivenSettings, Settings

URL = "postgresql://surnia:p%40ss@127.0.0.1:5433/surnia"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return GivenSettings.model_validate(
        {"postgres_url": URL, "state_dir": tmp_path / "state", "ladder_days": (3, 9), "log_json": True}
    )


def test_metadata_lives_beside_surnias_database(settings: Settings) -> None:
    assert database_url(settings) == "postgresql://surnia:p%40ss@127.0.0.1:5433/airflow"
    found = airflow_environment(settings)
    for name in ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC"):
        assert found[name] == "postgresql+psycopg://surnia:p%40ss@127.0.0.1:5433/airflow"


def test_everything_it_writes_lies_in_the_state_folder(settings: Settings) -> None:
    found = airflow_environment(settings)
    assert Path(found["AIRFLOW_HOME"]) == settings.state_dir / "airflow"
    assert Path(found["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]).parent == settings.state_dir / "airflow"


def test_it_listens_on_loopback_and_asks_for_a_login(settings: Settings) -> None:
    found = airflow_environment(settings, port=9876)
    assert (found["AIRFLOW__API__HOST"], found["AIRFLOW__API__PORT"]) == ("127.0.0.1", "9876")
    assert found["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:9876/execution/"
    assert found["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] == "False"


def test_another_airflow_of_the_caller_does_not_leak_in(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW_CONN_PROD", "postgres://prod")
    monkeypatch.setenv("_AIRFLOW__AS_LIBRARY", "1")
    found = airflow_environment(settings)
    assert found["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert not {"AIRFLOW_CONN_PROD", "_AIRFLOW__AS_LIBRARY"} & found.keys()


def test_secrets_are_made_once_and_for_nobody_else(settings: Settings) -> None:
    first, second = airflow_environment(settings), airflow_environment(settings)
    for name in ("CORE__FERNET_KEY", "API__SECRET_KEY", "API_AUTH__JWT_SECRET"):
        assert first[f"AIRFLOW__{name}"] == second[f"AIRFLOW__{name}"]
        assert len(first[f"AIRFLOW__{name}"]) >= 32
    folder = settings.state_dir / "airflow"
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("secrets.json", "passwords.json"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600


def test_the_password_of_the_login_is_the_one_that_airflow_reads(settings: Settings) -> None:
    airflow_environment(settings)
    folder = settings.state_dir / "airflow"
    password = json.loads((folder / "secrets.json").read_text())["password"]
    assert json.loads((folder / "passwords.json").read_text()) == {"admin": password}


def test_settings_survive_the_way_through_the_environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings_environment(settings).items():
        monkeypatch.setenv(name, value)
    read = GivenSettings()  # type: ignore[call-arg, unused-ignore]  # pydantic fills the fields from its sources
    assert {name: getattr(read, name) for name in settings.model_fields_set} == {
        name: getattr(settings, name) for name in settings.model_fields_set
    }


def test_a_runner_that_was_not_started_says_what_to_do(settings: Settings) -> None:
    from datetime import UTC, datetime

    runner = AirflowRunner(settings)
    with pytest.raises(StackError, match="call `start` first"):
        runner.run(datetime(2026, 11, 21, 10, tzinfo=UTC), datetime(2026, 11, 21, 11, tzinfo=UTC))
    runner.stop()


def test_a_result_without_a_report_counts_nothing() -> None:
    assert RunResult("failed", 1.0).candidates == 0
