"""Reminders that a path which was down has missed, as an Airflow DAG. All the work is in `batch`; this calls it."""

from __future__ import annotations

# Parsed every few seconds by Airflow: what is slow to import (batch, shared) is imported by the tasks.
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import (  # type: ignore[attr-defined]  # its stub lacks what the deadlines are made of
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

    from shared.settings import Settings

POOL = "surnia_scans"
# Beside `format`, which makes the form show a calendar but is only checked where an optional package is installed.
INSTANT = r"^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)$"
ROWS = 50
"""Of a dry run, by kind, hour and zone, the largest; all are in the sum."""
# Those that can be backfilled (batch/backfill/request.py); a campaign is triggered again instead.
KINDS = ["comeback", "streak_saver", "practice", "abandoned_lesson"]

TRIED = sys.argv[1:3] == ["dags", "test"]
"""Airflow 3.3 ends such a run with an error where it has a deadline: it asks its database for an alert by the alert's
definition instead of its id."""

DOC = """\
### Backfill: what a path that was down has missed

After an outage this plans what should have been planned between two times: comebacks that no scan found, and what the
stream path should have fired for active users. All goes through the gate, so nobody gets a reminder twice, however
often this runs and whoever else runs it. What is past its window by now is reported as expired, not sent.

**Dry run is on unless you take it off**: it sends nothing, and its `plan` task prints users by kind, zone and hour.
Look at that first.

1. `plan` looks (dry run) or writes the backfill down and divides its shards into groups.
2. `run` runs once a group, within the pool `surnia_scans`.
3. `report` adds up: sent, expired, denied by reason, decided before.

#### Parameters

| name | meaning | if empty |
|---|---|---|
| `interval_start`, `interval_end` | what was missed, with an offset; a week at most, not in the future | needed |
| `kinds` | kinds of reminders | all that can be backfilled |
| `zones` | IANA time zones, a line each | all |
| `shards` | such as `0-7,12` | all |
| `rate` | sends a second, of all tasks together | as fast as the database lets them |
| `shard_groups` | how many `run` tasks | `SURNIA_SHARD_GROUPS` |
| `dry_run` | only look | on |
| `backfill_id` | go on with this one, whatever the rest says; set by `surnia backfill run --via airflow` | a new one |

#### When a run is red

Running it again is always safe: clear the failed tasks, they go on from their checkpoints.

- *still to come*, *is no time zone*, *is no shard*: the parameters make no sense; trigger it again with others.
- *is being run by*: somebody runs all of it elsewhere; the message says who and since when.
- *was cancelled*: somebody typed `surnia backfill cancel`; `surnia backfill resume` goes on.
- *connection refused*, timeouts, *the gate is closed*: a server is down. Tasks try again for about half an hour.

`surnia backfill status` shows the same from a terminal. To try it without a scheduler:
`surnia airflow exec -- dags test reminder_backfill 2026-11-21T10:00:00+00:00 -c '{"interval_start":
"2026-11-21T08:00:00Z", "interval_end": "2026-11-21T09:00:00Z"}'`.
"""


def _instant(title: str, text: str) -> Param:
    return Param(
        None,
        type=["null", "string"],
        format="date-time",
        pattern=INSTANT,
        title=title,
        description=text,
        section="What",
    )


@dag(
    dag_id="reminder_backfill",
    description="By hand: plan what a path that was down has missed, through the same gate",
    doc_md=DOC,
    schedule=None,
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    # Two people may each run one; whoever asks for the same is told.
    max_active_runs=4,
    # Nothing happens unless somebody triggers it, and whoever does is in a hurry.
    is_paused_upon_creation=False,
    tags=["surnia", "batch", "reminders", "by hand"],
    deadline=None
    if TRIED
    else DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(hours=2),
        callback=SyncCallback(
            "dags.late.tell",
            {"consequence": "what is not sent within its window is reported as expired; `surnia backfill status`"},
        ),
    ),
    params={
        "interval_start": _instant("From", "What was missed from this time on, such as 2026-11-21T08:00:00+00:00."),
        "interval_end": _instant("To", "Up to, not including, this time. At most a week later, not in the future."),
        "kinds": Param(
            [],
            type="array",
            items={"type": "string", "enum": KINDS},
            examples=KINDS,
            uniqueItems=True,
            title="Kinds",
            description="Kinds of reminders. Empty: all.",
            section="What",
        ),
        "zones": Param(
            [],
            type="array",
            items={"type": "string", "maxLength": 64},
            maxItems=700,
            title="Time zones",
            description="IANA names such as America/Sao_Paulo, a line each. Empty: all.",
            section="What",
        ),
        "shards": Param(
            "",
            type="string",
            maxLength=2000,
            pattern=r"^[0-9,\- ]*$",
            title="Shards",
            description="Such as 0-7,12. Empty: all 256.",
            section="What",
        ),
        "rate": Param(
            None,
            type=["null", "number"],
            minimum=1,
            maximum=1_000_000,
            title="Sends a second",
            description="Of all tasks together. Empty: as fast as the database lets them.",
            section="How",
        ),
        "shard_groups": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=256,
            title="Shard groups",
            description="Number of run tasks. Empty: SURNIA_SHARD_GROUPS (4).",
            section="How",
        ),
        "dry_run": Param(
            True, type="boolean", title="Dry run", description="Only look: send nothing, write nothing.", section="How"
        ),
        "backfill_id": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Backfill",
            description="Go on with the backfill of this number, whatever else is set here. Empty: a new one.",
            section="How",
        ),
    },
    default_args={
        "owner": "surnia",
        # 15 s, 30 s, 1 min … 10 min: about half an hour together, longer than a failover of any of the servers.
        "retries": 8,
        "retry_delay": timedelta(seconds=15),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=10),
        "execution_timeout": timedelta(hours=6),
    },
)
def reminder_backfill() -> None:
    @task(multiple_outputs=False)
    def plan() -> list[dict[str, Any]]:
        """The groups of shards to run, with the number of their backfill; none in a dry run."""
        import asyncio

        from airflow.sdk.exceptions import AirflowFailException

        from batch.backfill import BusyBackfillError, NoSuchBackfillError
        from shared.settings import load_settings

        try:
            return asyncio.run(_plan(load_settings()))
        except (ValueError, BusyBackfillError, NoSuchBackfillError) as error:
            # A ninth attempt would find the same.
            raise AirflowFailException(str(error)) from error

    @task(
        pool=POOL,
        multiple_outputs=False,
        map_index_template="shards {{ task.op_kwargs.group.shards | first }}–{{ task.op_kwargs.group.shards | last }}",
    )
    def run(group: dict[str, Any]) -> None:
        """One group of shards."""
        import asyncio

        from airflow.sdk.exceptions import AirflowFailException

        from batch.backfill import BusyBackfillError, CancelledBackfillError
        from batch.backfill import run as run_shards
        from shared.settings import load_settings

        try:
            asyncio.run(run_shards(load_settings(), group["backfill_id"], group["shards"], rate=group["rate"]))
        except (BusyBackfillError, CancelledBackfillError) as error:
            raise AirflowFailException(str(error)) from error

    # Also where nothing was run, so that a dry run is green, and where a group failed: it says what the others did.
    @task(multiple_outputs=False, trigger_rule=TriggerRule.ALL_DONE)
    def report(groups: Sequence[dict[str, Any]] | None) -> dict[str, Any]:
        """Add up what the backfill came to, in one line of the log. Fails where a part of it was left undone."""
        import asyncio

        import msgspec
        import structlog

        from batch.backfill import finish
        from shared.settings import load_settings

        if not groups:
            context = get_current_context()
            looked: dict[str, Any] = context["ti"].xcom_pull(task_ids="plan", key="found") or {}
            structlog.get_logger(__name__).info("dry run: nothing was sent", **looked)
            return {"dry_run": True, "found": looked}
        found = asyncio.run(finish(load_settings(), groups[0]["backfill_id"]))
        totals: dict[str, Any] = msgspec.to_builtins(found)
        structlog.get_logger(__name__).info("backfill", **totals)
        if found.state != "done":
            raise RuntimeError(f"backfill {found.id} is {found.state}: {found.shards_done} of {found.shards} shards")
        return totals

    planned = plan()
    run.expand(group=planned) >> report(planned)  # type: ignore[arg-type]  # Airflow hands over what this stands for


async def _plan(settings: Settings) -> list[dict[str, Any]]:
    """Look, or begin and divide, as the run's parameters say."""
    import msgspec
    import structlog

    from batch.backfill import begin, go_on, look, request
    from batch.backfill.look import largest
    from batch.plan import shard_groups

    log = structlog.get_logger(__name__)
    context = get_current_context()
    params, by = context["params"], f"airflow {context['run_id']}"
    rate: float | None = params["rate"]
    if number := params["backfill_id"]:
        backfill = await go_on(settings, number, by, "airflow", rate)
    else:
        if not (params["interval_start"] and params["interval_end"]):
            raise ValueError("set interval_start and interval_end: what was missed, such as 2026-11-21T08:00:00+00:00")
        start, end = (datetime.fromisoformat(params[name]) for name in ("interval_start", "interval_end"))
        wanted = request(start, end, settings.clock().now(), params["kinds"], params["shards"], params["zones"])
        if params["dry_run"]:
            found = await look(settings, wanted)
            for row in largest(found.rows, ROWS):
                log.info("would be", **msgspec.to_builtins(row))
            context["ti"].xcom_push("found", found.expected())
            return []
        backfill, _ = await begin(settings, wanted, by, "airflow", rate)
    shards = backfill.request.shards
    groups = [
        [shards[place] for place in places]
        for places in shard_groups(min(params["shard_groups"] or settings.shard_groups, len(shards)), len(shards))
    ]
    # So many run at once at most; each gets its part.
    at_once = min(len(groups), settings.scans_per_database)
    return [{"backfill_id": backfill.id, "shards": group, "rate": rate and rate / at_once} for group in groups]


reminder_backfill()
