"""The nightly maintenance of the tables, as an Airflow DAG. All the work is in `batch`; this only calls it."""

from __future__ import annotations

# Parsed every few seconds by Airflow: what is slow to import (batch, shared) is imported by the task.
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import (  # type: ignore[attr-defined]  # its stub lacks what the deadlines are made of
    CronDataIntervalTimetable,
    DeadlineAlert,
    DeadlineReference,
    SyncCallback,
    dag,
    get_current_context,
    task,
)

TRIED = sys.argv[1:3] == ["dags", "test"]
"""Airflow 3.3 ends such a run with an error where it has a deadline: it asks its database for an alert by the alert's
definition instead of its id."""

DOC = """\
### Partitions and old scans

Once a night this creates the partitions of `ledger` and `planned` for the coming days, drops those of local dates that
are kept no longer (`SURNIA_LEDGER_KEEP_DAYS`, `SURNIA_PLANNED_KEEP_DAYS`), and forgets old scans with their
checkpoints. It counts from the date on which the run's interval ends.

#### When a run is red

Running it again is always safe, and `surnia maintenance` does the same by hand; with `--dry-run` it only says what it
would do. Nothing is urgent: partitions are made a week ahead, and what is not dropped today is dropped tomorrow.

- *in use*: somebody reads or writes the table in a transaction that does not end, and this waits for nobody longer than
  a second. The task tries again for an hour or so. To see who it is:
  `SELECT pid, application_name, xact_start, query FROM pg_stat_activity WHERE xact_start < now() - interval '1 minute'`
- *something else is in its way*: the table has a partition that is not ours and covers the day.
- *connection refused*, timeouts: PostgreSQL is down.
- *No address for …*: the task does not see the settings.

To try it without a scheduler: `surnia airflow exec -- dags test maintenance 2026-11-21T03:17:00+00:00`.
"""


@dag(
    dag_id="maintenance",
    description="Nightly: create the coming days' partitions, drop the days that are kept no longer, forget old scans",
    doc_md=DOC,
    schedule=CronDataIntervalTimetable("17 3 * * *", "UTC"),
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    deadline=None
    if TRIED
    else DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(hours=4),
        callback=SyncCallback("dags.late.tell", {"consequence": "partitions are made a week ahead: nothing is urgent"}),
    ),
    # It sends nothing, and without it the disk fills up: nobody should have to think of switching it on.
    is_paused_upon_creation=False,
    tags=["surnia", "batch", "maintenance"],
    default_args={
        "owner": "surnia",
        # 1 min, 2 min, 4 min … 20 min: about an hour together, longer than most of what holds a table.
        "retries": 6,
        "retry_delay": timedelta(minutes=1),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=20),
        "execution_timeout": timedelta(minutes=10),
    },
)
def maintenance() -> None:
    @task(multiple_outputs=False)
    def maintain() -> dict[str, Any]:
        """Keep the tables in shape; fails, to be tried again, where something was in use."""
        import asyncio

        import msgspec
        import structlog

        from batch.maintenance import maintain as run
        from shared.clock import utc
        from shared.settings import load_settings

        settings = load_settings()
        # A run that somebody triggers without an interval of its own goes by the engine's clock.
        end = get_current_context().get("data_interval_end")
        day = utc(end.timestamp() if end else settings.clock().now()).date()
        done = asyncio.run(run(settings, day))
        document: dict[str, Any] = msgspec.to_builtins(done)
        structlog.get_logger(__name__).info("maintenance", **document)
        if done.left:
            raise RuntimeError("; ".join(f"{name}: {why}" for name, why in done.left.items()))
        return document

    maintain()


maintenance()
