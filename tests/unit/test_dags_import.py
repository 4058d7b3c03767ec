"""The DAG files as Airflow sees them: cheap to import, complete, and strict about their parameters.

They are imported by a child process with an AIRFLOW_HOME of its own: importing Airflow writes there and stays for good.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.airflow.environment import DAG_ID, POOL, dags_folder

NIGHTLY = "maintenance"
DAGS = (DAG_ID, NIGHTLY)

IMPORT = """
import importlib.util, json, sys, warnings
import airflow.sdk
from airflow.sdk.exceptions import ParamValidationError

def refused(dag, name, value):
    try:
        dag.params.get_param(name).resolve(value)
    except ParamValidationError:
        return True
    return False

def task(found):
    partial = getattr(found, "partial_kwargs", {})
    return {
        "mapped": bool(partial),
        "pool": found.pool,
        "owner": found.owner,
        "retries": found.retries,
        "backoff": found.retry_exponential_backoff,
        "trigger_rule": found.trigger_rule.value,
        "map_index_template": found.map_index_template,
        "downstream": sorted(found.downstream_task_ids),
    }

def describe(folder, name, params):
    path = f"{folder}/{name}.py"
    before = set(sys.modules)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        loaded = sorted(set(sys.modules) - before)
        dag = getattr(module, name)()
        dag.validate()
    return {
        "loaded": loaded,
        "warnings": [str(one.message) for one in warned if one.filename == path],
        "dag_id": dag.dag_id,
        "doc": dag.doc_md,
        "tags": sorted(dag.tags),
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "starts_paused": dag.is_paused_upon_creation,
        "timetable": type(dag.timetable).__name__,
        "cron": dag.timetable.expression,
        "zone": str(dag.timetable.timezone),
        "described": {name: bool(dag.params.get_param(name).description) for name in dag.params},
        "refused": [refused(dag, name, value) for name, value in params],
        "tasks": {found.task_id: task(found) for found in dag.tasks},
    }

asked = json.loads(sys.stdin.read())
print(json.dumps({name: describe(sys.argv[1], name, params) for name, params in asked.items()}))
"""

ACCEPTED = [
    ("interval_start", None),
    ("interval_end", "2026-11-21T11:00:00+00:00"),
    ("interval_end", "2026-11-21T11:00:00Z"),
    ("interval_start", "2026-11-21T16:30:00.000+05:30"),
    ("shard_groups", None),
    ("shard_groups", 1),
    ("shard_groups", 256),
]
REFUSED = [
    ("interval_start", "yesterday"),
    ("interval_start", "2026-11-21"),
    # Without an offset nobody knows which hour is meant.
    ("interval_end", "2026-11-21T11:00:00"),
    ("interval_end", 1_795_262_400),
    ("shard_groups", 0),
    ("shard_groups", 257),
    ("shard_groups", "8"),
    ("shard_groups", 1.5),
]


@pytest.fixture(scope="module")
def dags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("airflow")
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, str(dags_folder())],
        env={**os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
        input=json.dumps({DAG_ID: ACCEPTED + REFUSED, NIGHTLY: []}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(params=DAGS)
def each(dags: dict[str, Any], request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = dags[request.param]
    return found


@pytest.fixture
def dag(dags: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = dags[DAG_ID]
    return found


def test_importing_it_loads_nothing_of_ours_and_no_client_of_a_server(each: dict[str, Any]) -> None:
    """Airflow parses the file again and again, in processes that never run a task."""
    heavy = {"batch", "shared", "infra", "stream", "aiokafka", "faust", "psycopg", "redis", "msgspec", "pyarrow"}
    assert {name.partition(".")[0] for name in each["loaded"]} & heavy == set()


def test_it_uses_nothing_that_airflow_warns_about(each: dict[str, Any]) -> None:
    assert each["warnings"] == []


@pytest.mark.parametrize(("name", "cron"), [(DAG_ID, "0 * * * *"), (NIGHTLY, "17 3 * * *")])
def test_it_runs_every_hour_or_night_for_the_one_before_and_one_run_at_a_time(
    dags: dict[str, Any], name: str, cron: str
) -> None:
    dag = dags[name]
    assert (dag["timetable"], dag["cron"], dag["zone"]) == ("CronDataIntervalTimetable", cron, "UTC")
    assert dag["max_active_runs"] == 1
    assert dag["catchup"] is False


def test_maintenance_is_one_task_and_on_from_the_start(dags: dict[str, Any]) -> None:
    assert list(dags[NIGHTLY]["tasks"]) == ["maintain"]
    assert dags[NIGHTLY]["starts_paused"] is False


def test_plan_feeds_the_scans_and_they_feed_the_report(dag: dict[str, Any]) -> None:
    downstream = {name: task["downstream"] for name, task in dag["tasks"].items()}
    assert downstream == {"plan": ["scan"], "scan": ["report"], "report": []}


def test_only_the_scans_are_mapped_and_share_the_pool(dag: dict[str, Any]) -> None:
    assert {name for name, task in dag["tasks"].items() if task["mapped"]} == {"scan"}
    assert {name for name, task in dag["tasks"].items() if task["pool"] == POOL} == {"scan"}
    assert "shards" in dag["tasks"]["scan"]["map_index_template"]


def test_the_report_also_runs_where_nothing_was_due(dag: dict[str, Any]) -> None:
    assert dag["tasks"]["report"]["trigger_rule"] == "none_failed"


def test_every_task_has_an_owner_and_is_tried_again_with_growing_pauses(each: dict[str, Any]) -> None:
    for name, task in each["tasks"].items():
        assert task["owner"] == "surnia", name
        assert task["retries"] >= 3, name
        assert task["backoff"] > 1, name


def test_it_says_what_it_does_what_it_takes_and_what_to_do_when_it_is_red(each: dict[str, Any]) -> None:
    assert each["dag_id"] in DAGS
    assert "surnia" in each["tags"]
    for name, described in each["described"].items():
        assert described, name
        assert f"`{name}`" in each["doc"], name
    assert "When a run is red" in each["doc"]
    assert f"surnia airflow exec -- dags test {each['dag_id']} " in each["doc"]


@pytest.mark.parametrize(("number", "param"), list(enumerate(ACCEPTED + REFUSED)), ids=repr)
def test_parameters_are_checked_when_the_run_is_triggered(
    dag: dict[str, Any], number: int, param: tuple[str, object]
) -> None:
    assert dag["refused"][number] == (param in REFUSED)


def test_airflow_finds_the_files_by_its_cheap_look_at_the_text() -> None:
    """Airflow skips files whose text lacks these two words, and the package's own file must be skipped."""

    def looks_like_a_dag(path: Path) -> bool:
        text = path.read_text().lower()
        return "dag" in text and "airflow" in text

    found = [path.stem for path in sorted(dags_folder().glob("*.py")) if looks_like_a_dag(path)]
    assert found == sorted(DAGS)
