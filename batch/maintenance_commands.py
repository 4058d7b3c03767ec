"""The command `maintenance`: what the DAG of that name does every night."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("maintenance")(maintenance)


def maintenance(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object")] = False,
) -> None:
    """Create the coming days' partitions, drop the days that are kept no longer, forget old scans.

    Exit code 0: all is done; 1: something was in use and is left for the next time.
    """
    import msgspec

    from batch.maintenance import maintain
    from shared.clock import utc
    from shared.settings import load_settings

    settings = load_settings()
    done = asyncio.run(maintain(settings, utc(settings.clock().now()).date(), dry_run))
    if as_json:
        typer.echo(msgspec.json.encode(done))
    else:
        would = "would be " if dry_run else ""
        for verb, names in (("created", done.created), ("dropped", done.dropped)):
            for name in names:
                typer.echo(f"{would}{verb}: {name}")
        typer.echo(f"scans {would}forgotten: {done.scan_runs}")
        typer.echo(f"erased users {would}forgotten: {done.erased}")
        for name, why in done.left.items():
            typer.echo(f"left: {name}, {why}")
    raise typer.Exit(1 if done.left else 0)
