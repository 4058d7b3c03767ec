"""Commands of the batch path and its accounts: `audit`, `scan`."""

from __future__ import annotations

import asyncio
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from shared.settings import load_settings

if TYPE_CHECKING:
    from batch.audit import Audit

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

    Exit code 0: the accounts hold; 1: they don't, and the first places where they part are named.
    """
    import msgspec

    from batch.audit import audit as run

    result = asyncio.run(run(load_settings(), _day(day)))
    if as_json:
        print(msgspec.json.encode({**msgspec.to_builtins(result), "holds": result.holds}).decode())
    else:
        _show(result)
    if not result.holds:
        raise typer.Exit(1)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text[:40]!r} is no date: use YYYY-MM-DD", param_hint="--date") from None


def _show(result: Audit) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(box=box.SIMPLE)
    table.add_column("")
    for account in result.accounts:
        table.add_column(f"{account.path}\n{account.kind}", justify="right")
    for name in ("candidates", "denied", "granted", "delivered", "expired", "failed", "dropped", "in_flight", "lost"):
        parts = [getattr(account, name) for account in result.accounts]
        sums = [sum(part.values()) if isinstance(part, dict) else part for part in parts]
        table.add_row(name.replace("_", " "), *(f"{n:,}" for n in sums))
        reasons = sorted({reason for part in parts if isinstance(part, dict) for reason in part})
        for reason in reasons:
            table.add_row(f"  {reason}", *(f"{part.get(reason, 0):,}" for part in parts), style="dim")
    console.print(f"Reminders of local date {result.local_date}:" + ("" if result.accounts else " none were planned"))
    if result.accounts:
        console.print(table)
    if result.lag:
        console.print(f"{result.lag:,} messages are still to be read by delivery or the ledger")
    for run_id in result.unfinished_scans:
        console.print(f"the scan {run_id} is not finished; the scans' counts are not compared")
    for problem in result.problems:
        console.print(f"[red]does not hold:[/red] {problem}")
    if result.holds:
        console.print("[green]the accounts hold[/green]")


def scan(
    start: Annotated[datetime, typer.Option("--from", help="Start of the interval, UTC, such as 2026-11-21T10:00")],
    end: Annotated[datetime, typer.Option("--to", help="Its end, not included")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count who is due; claim and send nothing")] = False,
    as_json: AsJson = False,
) -> None:
    """Run the batch path over an interval without Airflow: what one run of the DAG `silent_reminders` does."""
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
        columns = (TextColumn("shards"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
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
