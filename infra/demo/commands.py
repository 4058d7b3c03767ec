"""`surnia demo`: both paths remind a world-wide population for a day, in minutes."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add `surnia demo`."""
    app.command("demo")(demo)


def demo(
    users: Annotated[int, typer.Option(min=100, max=1_000_000, help="Users in the population")] = 20_000,
    hours: Annotated[int, typer.Option(min=1, max=72, help="Hours to simulate")] = 24,
    report: Annotated[Path, typer.Option(help="Folder for index.html and demo.json")] = Path("report"),
    day: Annotated[str | None, typer.Option("--date", help="Day to simulate, from 00:00 UTC; default: today")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same users and events")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print demo.json instead of tables")] = False,
) -> None:
    """Simulate a day on real servers: PostgreSQL, Valkey, Kafka, Airflow, and push providers over HTTP/2.

    It runs on servers of its own under the state folder, empties them at the start and stops them at the end;
    nothing is sent anywhere but to the simulator. Exit code 0: every count holds; 1: one does not.
    """
    from rich.console import Console

    from infra.demo.run import run

    console = Console(stderr=as_json)
    start = _midnight(day)
    try:
        summary = run(console, users=users, hours=hours, folder=report, start=start, seed=seed)
    except KeyboardInterrupt:
        console.print("stopped; everything the demo started is ended")
        raise typer.Exit(130) from None
    if as_json:
        import msgspec

        print(msgspec.json.encode(summary).decode())
    if not summary.audit_holds:
        raise typer.Exit(1)


def _midnight(day: str | None) -> float:
    from shared.clock import SystemClock, utc

    try:
        chosen = date.fromisoformat(day) if day else utc(SystemClock().now()).date()
    except ValueError:
        raise typer.BadParameter(f"{str(day)[:40]!r} is no date: use YYYY-MM-DD", param_hint="--date") from None
    return datetime(chosen.year, chosen.month, chosen.day, tzinfo=UTC).timestamp()
