"""Commands of the batch path and its accounts: `audit`, `scan`."""

from __future__ import annotations

import asyncio
import sys
from datetime import date, datetime
from typing import Annotated

import typer

from shared.settings import load_settings

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object")]


def register(app: typer.Typer) -> None:
    """Add the batch path's commands."""
    app.command("audit")(audit)
    app.command("scan")(scan)


def audit(
    day: Annotated[str, typer.Option("--date", help="Local date of the reminders, such as 2026-11-21")],
    as_json: AsJson = False,
) -> None:
    """Check that every candidate of a local date ended in exactly one place.

    Exit code 0: the accounts hold; 1: they don't, and the first places where they part are named; 2: a server does not
    answer.
    """
    import msgspec
    import psycopg
    from aiokafka.errors import KafkaError

    from batch.audit import audit as run
    from batch.audit.terminal import progress, show

    date_asked = _day(day)
    try:
        with progress() as watch:
            result = asyncio.run(run(load_settings(), date_asked, watch=watch))
    except psycopg.errors.UndefinedTable:
        print(
            "surnia: tables of Surnia are missing in the database: run `surnia up`, which creates them", file=sys.stderr
        )
        raise typer.Exit(2) from None
    except (psycopg.OperationalError, KafkaError) as error:
        print(f"surnia: a server does not answer; see `surnia status`: {str(error).strip()[:300]}", file=sys.stderr)
        raise typer.Exit(2) from None
    if as_json:
        print(msgspec.json.encode({**msgspec.to_builtins(result), "holds": result.holds}).decode())
    else:
        show(result)
    if not result.holds:
        raise typer.Exit(1)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text[:40]!r} is no date: use YYYY-MM-DD", param_hint="--date") from None


def scan(
    start: Annotated[datetime, typer.Option("--from", help="Start of the interval, UTC, such as 2026-11-21T10:00")],
    end: Annotated[datetime, typer.Option("--to", help="Its end, not included")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count who is due; claim and send nothing")] = False,
    as_json: AsJson = False,
) -> None:
    """Run the batch path over an interval without Airflow, as the DAG `silent_reminders` does: each user when due,
    so that an interval that is not over takes until its end."""
    import msgspec
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from batch.local import count, run
    from batch.plan import plan

    settings = load_settings()
    try:
        planned = plan(_utc(start), _utc(end), settings)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if dry_run:
        result = msgspec.to_builtins(asyncio.run(count(settings, planned)))
    else:
        # Nobody knows how many there are before they are read.
        columns = (TextColumn("users"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            result = msgspec.to_builtins(asyncio.run(run(settings, planned, progress)))
    if as_json:
        print(msgspec.json.encode(result).decode())
    else:
        for name, value in result.items():
            print(f"{name}: {value}")


def _utc(moment: datetime) -> datetime:
    from datetime import UTC

    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
