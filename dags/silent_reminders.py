"""The hourly scan for silent users, as an Airflow DAG. All the work is in `batch`; this only calls it."""

from __future__ import annotations

import sys

# Parsed every few seconds by Airflow: what is slow to import (batch, shared) is imported by the tasks.
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import (  # type: ignore[attr-defined]  # its stub lacks what the deadlines are made of
    CronDataIntervalTimetable,
    DeadlineAlert,
    DeadlineReference,
    Param,
    SyncCallback,
    TriggerRule,
    dag,
    get_current_context,
    task,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch.plan import Plan
    from shared.settings import Settings

POOL = "surnia_scans"
# Beside `format`, which makes the form show a calendar but is only checked where an optional package is installed.
INSTANT = r"^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)$"

TRIED = sys.argv[1:3] == ["dags", "test"]
"""Airflow 3.3 ends such a run with an error where it has a deadline: it asks its database for an alert by the alert's
definition instead of its id."""

DOC = """\
### Comebacks for silent users

Once an hour this finds the users who have been silent for exactly a rung of the ladder (7, 14, 30, 60 or 90 days) and
whose comeback is due in the hour that begins: at the send hour where they are, spread over an hour. Each is asked of
the gate when due; who is granted goes to Kafka as a send, who is denied as an outcome with its reason. Nothing is
delivered from here.

The run whose data interval is [10:00, 11:00) starts at 11:00 and plans [11:00, 12:00). Its scans last until 12:00 and
sleep through most of it; one that starts late takes up at once what is due by then.

1. `plan` writes down which (time zone, local date, day of silence) the hour asks for and divides the users' 256 shards
   into groups.
2. `scan` runs once a group, each in a slot of the pool `surnia_scans`. What protects a database are the turns that
   scans take at it, `SURNIA_SCANS_PER_DATABASE` at once.
3. `report` adds up: candidates = granted + denied.

#### Parameters of a manual run

| name | meaning | if empty |
|---|---|---|
| `interval_start`, `interval_end` | plan this, with an offset; both or neither; a week at most | the hour that begins |
| `shard_groups` | how many `scan` tasks | `SURNIA_SHARD_GROUPS` |

#### When a run is red

Running it again is always safe: clear the failed tasks. A scan continues after the last page that Kafka acknowledged,
and the gate gives nobody the same reminder twice.

- *No address for …*: the tasks do not see the settings. Start the local stack with `surnia up` or set the address.
- *connection refused*, timeouts: PostgreSQL, the gate or Kafka is down. Tasks try again for about half an hour by
  themselves; afterwards clear them.
- *the gate is closed*: its data was lost and is being rebuilt. Nothing is sent meanwhile, on purpose. Clear the tasks
  once it is open.
- A scan that is only slow: look at the load of the database before you give the pool more slots.

Airflow does not make up for hours during which it was down or paused: trigger `reminder_backfill`, which looks first,
or `airflow backfill create`. What is past its time by then is reported as expired, not sent.

To try it without a scheduler: `surnia airflow exec -- dags test silent_reminders 2026-11-21T10:00:00+00:00` plans the
hour that begins then.
"""


@dag(
    dag_id="silent_reminders",
    description="Hourly: find the silent users due in the hour that begins, claim their reminders, hand them over",
    doc_md=DOC,
    schedule=CronDataIntervalTimetable("0 * * * *", "UTC"),
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    # A scan lasts its hour: what one has left to try again must not keep the next from beginning.
    max_active_runs=2,
    deadline=None
    if TRIED
    else DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(minutes=75),
        callback=SyncCallback(
            "dags.late.tell",
            {"consequence": "comebacks that it does not reach in their window are reported as expired"},
        ),
    ),
    tags=["surnia", "batch", "reminders"],
    params={
        "interval_start": Param(
            None,
            type=["null", "string"],
            format="date-time",
            pattern=INSTANT,
            title="Interval start",
            description="Plan from this time on, such as 2026-11-21T10:00:00+00:00. Empty: the hour that begins.",
        ),
        "interval_end": Param(
            None,
            type=["null", "string"],
            format="date-time",
            pattern=INSTANT,
            title="Interval end",
            description="Plan up to, not including, this time. Set both or neither; at most a week apart.",
        ),
        "shard_groups": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=256,
            title="Shard groups",
            description="Number of scan tasks. Empty: SURNIA_SHARD_GROUPS (4).",
        ),
    },
    default_args={
        "owner": "surnia",
        # 15 s, 30 s, 1 min … 10 min: about half an hour together, longer than a failover of any of the servers.
        "retries": 8,
        "retry_delay": timedelta(seconds=15),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=10),
        # A rerun goes on where a scan was cut off, so this only frees the slot of one that hangs.
        "execution_timeout": timedelta(hours=2),
    },
)
def silent_reminders() -> None:
    @task
    def plan() -> list[list[int]]:
        """Write the run's plan down and give the groups of shards to scan; none where nothing is due."""
        import asyncio

        from batch.scan import record
        from shared.store.databases import Databases

        settings, planned = _plan()
        asyncio.run(record(settings, planned))
        groups = get_current_context()["params"]["shard_groups"] or settings.shard_groups
        return Databases.of(settings).shard_groups(groups) if planned.slots else []

    # One XCom a task, not one for each key of what it returns.
    @task(
        pool=POOL,
        multiple_outputs=False,
        map_index_template="shards {{ task.op_kwargs.shards | first }}–{{ task.op_kwargs.shards | last }}",
    )
    def scan(shards: list[int]) -> dict[str, Any]:
        """Scan one group of shards."""
        import asyncio

        import msgspec

        from batch.scan import scan as scan_shards

        settings, planned = _plan()
        summary: dict[str, Any] = msgspec.to_builtins(asyncio.run(scan_shards(settings, planned, shards)))
        return summary

    # Also where no group was scanned, so that an hour without work is green and says so.
    @task(multiple_outputs=False, trigger_rule=TriggerRule.NONE_FAILED)
    def report(summaries: Sequence[dict[str, Any]] | None) -> dict[str, Any]:
        """Add up what the scans found, in one line of the log."""
        import structlog

        # Airflow hands over a lazy sequence: the slice asks for all of it at once instead of one by one.
        found = summaries[:] if summaries is not None else []
        denied: Counter[str] = Counter()
        for summary in found:
            denied.update(summary["denied"])
        totals = {
            "run_id": _plan()[1].run_id,
            "candidates": sum(summary["candidates"] for summary in found),
            "granted": sum(summary["granted"] for summary in found),
            "denied": dict(sorted(denied.items())),
        }
        structlog.get_logger(__name__).info("planned comebacks", **totals)
        return totals

    report(scan.expand(shards=plan()))  # type: ignore[arg-type]  # Airflow hands over what this stands for


def _plan() -> tuple[Settings, Plan]:
    """The running task's settings and plan; made anew by every task, since it costs less than handing it over."""
    from airflow.sdk.exceptions import AirflowFailException

    from batch.plan import plan
    from shared.settings import load_settings

    settings = load_settings()
    try:
        return settings, plan(*_interval(), settings)
    except ValueError as error:
        # An interval that makes no sense makes none at the ninth attempt: fail at once.
        raise AirflowFailException(str(error)) from error


def _interval() -> tuple[datetime, datetime]:
    """What the run plans: its parameters' interval, else the one that begins where its own ends. Never the clock's."""
    context = get_current_context()
    params = context["params"]
    given = params["interval_start"], params["interval_end"]
    if all(given):
        return datetime.fromisoformat(given[0]), datetime.fromisoformat(given[1])
    if any(given):
        raise ValueError("set both interval_start and interval_end, or neither")
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    if start is None or end is None:
        raise ValueError("this run has no interval of its own: trigger it with interval_start and interval_end")
    # Airflow's datetimes are pendulum's: given datetime.UTC as their zone, they turn naive when a timedelta is added.
    begin = datetime.fromtimestamp(end.timestamp(), UTC)
    return begin, begin + (end - start)


silent_reminders()
