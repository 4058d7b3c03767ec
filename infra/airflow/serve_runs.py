"""Runs the DAG for one interval after another inside one process: the child of `infra.airflow.runner`.

Reads `{"start": iso, "end": iso, "groups": n or null}` lines on stdin and answers each with one JSON line on stdout.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.sdk import DAG

LOG_VARIABLE = "SURNIA_AIRFLOW_RUNNER_LOG"
_HOUR = timedelta(hours=1)


def main() -> None:
    """Serve until stdin ends."""
    answers = _claim_stdout(os.environ.get(LOG_VARIABLE, os.devnull))
    dag = _load()
    _warm_up()
    _say(answers, {"ready": True})
    for line in sys.stdin:
        began = time.monotonic()
        try:
            request = json.loads(line)
            start, end = (datetime.fromisoformat(request[name]).astimezone(UTC) for name in ("start", "end"))
            answer = run(dag, start, end, request.get("groups"))
        except Exception as error:  # whatever a run raises is its answer; the next one may well succeed
            traceback.print_exc()
            answer = {"state": "failed", "summary": None, "error": f"{type(error).__name__}: {error}"}
        _say(answers, {**answer, "seconds": round(time.monotonic() - began, 3)})


def run(dag: DAG, start: datetime, end: datetime, groups: int | None) -> dict[str, Any]:
    """One run of the DAG for [start, end): its final state and what its task `report` returned."""
    conf: dict[str, Any] = {"shard_groups": groups}
    if end - start != _HOUR or end.minute or end.second or end.microsecond:
        conf |= {"interval_start": start.isoformat(), "interval_end": end.isoformat()}
    # The timetable gives a manual run the last whole hour before its logical date; planned is the hour after that.
    done = dag.test(logical_date=start, run_conf=conf)
    return {"state": str(done.state), "summary": _summary(done)}


def _summary(done: DagRun) -> Any:
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        query = XComModel.get_many(run_id=done.run_id, dag_ids=done.dag_id, task_ids="report", key="return_value")
        row = session.scalars(query).first()
        return None if row is None else XComModel.deserialize_value(row)


def _load() -> DAG:
    # Only now: Airflow reads its configuration from the environment at import.
    from airflow.dag_processing.dagbag import DagBag

    from infra.airflow.environment import DAG_ID, dags_folder

    bag = DagBag(str(dags_folder() / f"{DAG_ID}.py"))
    if DAG_ID not in bag.dags:
        raise SystemExit(f"{DAG_ID} does not import: {bag.import_errors}")
    dag: DAG = bag.dags[DAG_ID]
    dag.deadline = None  # Airflow's `test` can't end a run that has one: see the file.
    for task in dag.tasks:
        # A retry would sleep in here for up to half an hour: the failure is the answer, and asking again is safe.
        task.retries = 0
    return dag


def _warm_up() -> None:
    """Do before "ready" what the first run would otherwise spend seconds on."""
    import batch.scan  # noqa: F401  # the tasks import it

    try:
        import httpx
        from airflow.sdk.execution_time.supervisor import in_process_api_server

        # dag.test's tasks talk to this server, which is slow to build and builds its routes at the first request.
        transport = in_process_api_server().transport
        httpx.Client(transport=transport, base_url="http://in-process.invalid./").get("health/ping")
    except Exception:  # not part of Airflow's public interface: where it is gone, the first run is slow and no more
        traceback.print_exc()
    # What is loaded by now stays; without this every full collection walks through all of Airflow again.
    gc.collect()
    gc.freeze()


def _claim_stdout(log: str) -> TextIO:
    """Keep the real stdout for answers; whatever else is printed, by C libraries too, goes to the log."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    return answers


def _say(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
