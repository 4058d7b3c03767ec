"""Handing a backfill to Airflow."""

from __future__ import annotations

import typer

from batch.backfill import Backfill
from infra.airflow.errors import AirflowError
from infra.airflow.services import Airflow
from shared.settings import Settings

DAG_ID = "reminder_backfill"


def trigger(settings: Settings, backfill: Backfill) -> str:
    """Start a run of the DAG for a backfill that is written down; the address of the run in the UI.

    Ends the command where Airflow does not take it: it stays written down, and `surnia backfill resume` tries again.
    """
    try:
        api = Airflow(settings).api()
        conf = {"backfill_id": backfill.id, "rate": backfill.rate, "dry_run": False}
        if api.paused(DAG_ID) is None:
            raise AirflowError(f"it does not know the DAG {DAG_ID} yet: wait until it has read the folder dags")
        api.unpause(DAG_ID)
        made = api.call("POST", f"/api/v2/dags/{DAG_ID}/dagRuns", {"logical_date": None, "conf": conf})
    except AirflowError as error:
        typer.echo(
            f"surnia: {error}\nNothing was sent. `surnia backfill resume {backfill.id}` hands it over once more; "
            "the same `surnia backfill run` without --via airflow does it here.",
            err=True,
        )
        raise typer.Exit(1) from None
    return f"{api.url}/dags/{DAG_ID}/runs/{made['dag_run_id']}"
