"""`surnia airflow`: up, down, status, setup, run and exec."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from infra.airflow.services import Airflow, Report

airflow = typer.Typer(help="Airflow beside the local stack: the hourly scan for silent users.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
Instant = Annotated[datetime, typer.Option(formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M%z"])]


def register(app: typer.Typer) -> None:
    """Add the sub-commands to `app`."""
    app.add_typer(airflow, name="airflow")


@airflow.command()
def up(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The UI's port on loopback [8080 if free]")] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Leave the DAG paused, as Airflow first knows it")] = False,
) -> None:
    """Start Airflow, wait until it is healthy, and switch the hourly scan on."""
    with _told() as report:
        service = _airflow()
        changed = service.up(port, unpause=not paused, report=report)
    api = service.api()
    user, password = api.login
    typer.echo(f"Airflow {'is up' if changed else 'was up already'}: {api.url}  user {user}  password {password}")


@airflow.command()
def down() -> None:
    """End Airflow's processes; its database stays."""
    with _told() as report:
        report("ending its processes")
        ended = _airflow().down()
    typer.echo("Ended Airflow." if ended else "Nothing was running.")


@airflow.command()
def status(as_json: Json = False) -> None:
    """Show how Airflow is; exit code 1 unless all of it is healthy."""
    with _told():
        found = _airflow().status()
    if as_json:
        typer.echo(json.dumps({"healthy": found.healthy, **asdict(found)}, indent=2))
    else:
        typer.echo(f"Airflow: {found.state}" + (f" at {found.url}, its DAG is {found.dag}" if found.healthy else ""))
        for name, word in found.components.items():
            typer.echo(f"  {name:14} {word:9} {Path(found.logs) / name}.log")
        if not found.healthy:
            typer.echo("Run `surnia airflow up`.")
    raise typer.Exit(0 if found.healthy else 1)


@airflow.command()
def setup() -> None:
    """Make or migrate Airflow's database and its pool, without starting anything."""
    from infra.airflow.setup import setup as bring
    from shared.settings import load_settings

    with _told() as report:
        changed = bring(load_settings(), report)
    typer.echo(f"Airflow's database and pool {'are' if changed else 'were'} set up{'' if changed else ' already'}.")


@airflow.command()
def run(
    interval_start: Instant,
    interval_end: Instant,
    deadline: Annotated[float, typer.Option(min=1, help="Seconds to wait for the end of the run")] = 3600,
) -> None:
    """Have the running Airflow plan an interval, such as 2026-11-21T10:00Z to 2026-11-21T11:00Z, and wait for it."""
    from infra.airflow.environment import DAG_ID
    from infra.airflow.errors import AirflowError
    from infra.stack.process import wait_until

    with _told() as report:
        api = _airflow().api()
        if api.paused(DAG_ID):
            raise AirflowError(f"{DAG_ID} is paused, so that no run would start: `surnia airflow up` switches it on.")
        run_id = api.trigger(DAG_ID, interval_start, interval_end)
        state = "queued"

        def ended() -> bool:
            nonlocal state
            state = api.run_state(DAG_ID, run_id)
            report(f"{run_id} is {state}{', one run goes at a time' if state == 'queued' else ''}")
            return state in ("success", "failed")

        if not wait_until(ended, deadline):
            raise AirflowError(f"{run_id} is still {state} after {deadline:.0f} s; it goes on. See {api.url}.")
        if state == "failed":
            raise AirflowError(f"{run_id} failed: see the tasks' logs at {api.url}/dags/{DAG_ID}/runs/{run_id}.")
    typer.echo(json.dumps(api.result(DAG_ID, run_id, "report"), indent=2))


@airflow.command(
    "exec",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    no_args_is_help=True,
)
def execute(arguments: Annotated[list[str], typer.Argument(help="What to hand to Airflow's own command line")]) -> None:
    """Run Airflow's own command line here: surnia airflow exec -- dags list."""
    from infra.airflow.environment import airflow_environment
    from shared.settings import load_settings

    with _told():
        service = _airflow()
        environment = airflow_environment(load_settings(), service.record().port)
    command = [sys.executable, "-m", "airflow", *arguments]
    os.execve(sys.executable, command, environment)  # noqa: S606  # in our place, so that its exit code is ours


def _airflow() -> Airflow:
    from infra.airflow.services import Airflow
    from shared.settings import load_settings

    return Airflow(load_settings())


@contextmanager
def _told() -> Iterator[Report]:
    """A spinner that says what is going on; errors of ours end the command in one line."""
    from rich.console import Console

    from infra.stack.errors import StackError

    console = Console(stderr=True)
    try:
        with console.status("Airflow") as spinner:
            yield lambda text: spinner.update(f"Airflow: {text}")
    except StackError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("Interrupted. What had started goes on: `surnia airflow down` ends it.", err=True)
        raise typer.Exit(130) from None
