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

from batch.backfill import KIND_NAMES
from dags.late import tell
from infra.airflow.environment import DAG_ID, POOL, dags_folder

NIGHTLY = "maintenance"
BACKFILL = "reminder_backfill"
DAGS = (DAG_ID, NIGHTLY, BACKFILL)

IMPORT = """
import importlib.util, json, sys, time, warnings
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
        begun = time.process_time()
        spec.loader.exec_module(module)
        seconds = time.process_time() - begun
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
        "cron": getattr(dag.timetable, "expression", None),
        "zone": str(getattr(dag.timetable, "timezone", None)),
        "deadlines": [
            (one.reference.reference_name, one.interval.total_seconds(), one.callback.path, one.callback.kwargs)
            for one in dag.deadline
        ],
        "defaults": {name: dag.params.get_param(name).value for name in dag.params},
        "seconds": seconds,
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
BACKFILL_ACCEPTED = [
    ("kinds", []),
    ("kinds", ["comeback", "streak_saver"]),
    ("zones", ["America/Sao_Paulo"]),
    ("shards", ""),
    ("shards", "0-7,12"),
    ("rate", None),
    ("rate", 500),
    ("dry_run", False),
    ("backfill_id", 3),
    ("interval_start", "2026-11-21T11:00:00Z"),
]
BACKFILL_REFUSED = [
    ("kinds", ["campaign"]),
    ("kinds", ["comeback", "comeback"]),
    ("kinds", "comeback"),
    ("shards", "all"),
    ("shards", "0-7;DROP"),
    ("rate", 0),
    ("rate", "fast"),
    ("dry_run", "no"),
    ("dry_run", None),
    ("backfill_id", 0),
    ("interval_end", "2026-11-21T11:00:00"),
    ("zones", ["x" * 65]),
]


@pytest.fixture(scope="module")
def dags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("airflow")
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, str(dags_folder())],
        env={**os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
        input=json.dumps({DAG_ID: ACCEPTED + REFUSED, NIGHTLY: [], BACKFILL: BACKFILL_ACCEPTED + BACKFILL_REFUSED}),
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
def test_it_runs_every_hour_or_night_and_makes_up_for_none(dags: dict[str, Any], name: str, cron: str) -> None:
    dag = dags[name]
    assert (dag["timetable"], dag["cron"], dag["zone"]) == ("CronDataIntervalTimetable", cron, "UTC")
    assert dag["max_active_runs"] == {DAG_ID: 2, NIGHTLY: 1}[name]
    assert dag["catchup"] is False


def test_maintenance_is_one_task_and_on_from_the_start(dags: dict[str, Any]) -> None:
    assert list(dags[NIGHTLY]["tasks"]) == ["maintain"]
    assert dags[NIGHTLY]["starts_paused"] is False


def test_importing_one_takes_less_than_a_second_of_the_processor(each: dict[str, Any]) -> None:
    """Airflow itself is loaded by then: what is measured is what the file adds to it."""
    assert each["seconds"] < 1


def test_a_run_that_is_late_says_what_that_means(each: dict[str, Any]) -> None:
    (deadline,) = each["deadlines"]
    reference, seconds, path, kwargs = deadline
    assert reference == "DagRunQueuedAtDeadline"
    assert seconds > 0
    assert path == "dags.late.tell"
    assert kwargs["consequence"]


def test_what_a_late_run_calls_says_which_one_it_is(caplog: pytest.LogCaptureFixture) -> None:
    run = {"dag_id": DAG_ID, "dag_run_id": "scheduled__2026-11-21T10:00:00+00:00", "state": "running"}
    tell("the next hour waits", {"dag_run": run, "deadline": {"deadline_time": "2026-11-21T11:55:00Z"}})
    assert caplog.messages == [
        f"late: run {run['dag_run_id']} of {DAG_ID} is running and was to be done by 2026-11-21T11:55:00Z: "
        "the next hour waits"
    ]


def test_a_backfill_is_begun_by_hand_and_only_looks_unless_told_otherwise(dags: dict[str, Any]) -> None:
    dag = dags[BACKFILL]
    assert (dag["timetable"], dag["catchup"], dag["starts_paused"]) == ("NullTimetable", False, False)
    assert dag["defaults"]["dry_run"] is True
    assert dag["max_active_runs"] > 1
    downstream = {name: task["downstream"] for name, task in dag["tasks"].items()}
    assert downstream == {"plan": ["report", "run"], "run": ["report"], "report": []}
    assert {name for name, task in dag["tasks"].items() if task["pool"] == POOL} == {"run"}
    assert dag["tasks"]["report"]["trigger_rule"] == "all_done"


@pytest.mark.parametrize(("number", "param"), list(enumerate(BACKFILL_ACCEPTED + BACKFILL_REFUSED)), ids=repr)
def test_so_are_those_of_a_backfill(dags: dict[str, Any], number: int, param: tuple[str, object]) -> None:
    assert dags[BACKFILL]["refused"][number] == (param in BACKFILL_REFUSED)


def test_the_kinds_of_the_form_are_those_that_can_be_backfilled() -> None:
    text = (dags_folder() / f"{BACKFILL}.py").read_text()
    assert f"KINDS = {json.dumps(list(KIND_NAMES))}" in text


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
