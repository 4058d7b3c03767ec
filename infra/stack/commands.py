"""`surnia up`, `surnia down`, `surnia status`."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.stack.errors import StackError

if TYPE_CHECKING:
    from infra.stack.stack import Stack
    from infra.stack.status import StackStatus
    from shared.gate.pauses import Pause
    from shared.settings import Settings

_CREATED = {"postgres": "missing tables are created; ", "valkey": "", "kafka": "missing topics are created; "}
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table for people.")]


def register(app: typer.Typer) -> None:
    """Add the stack's commands to `app`."""
    app.command()(up)
    app.command()(down)
    app.command()(status)


def up(
    fresh: Annotated[
        bool, typer.Option("--fresh", help="First end the local servers and delete their data (never given ones').")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start the local stack: PostgreSQL, Valkey and Kafka, where the settings name no address."""
    from rich.console import Console

    from infra.stack.kafka import MOCK_VERSION

    began = time.monotonic()
    stack = _stack()
    # With --json progress goes to the side, so that standard output stays one document.
    console = Console(stderr=as_json)
    try:
        found = stack.up(fresh=fresh, console=console)
    except StackError as error:
        _fail(error, as_json)
    except KeyboardInterrupt:
        typer.echo("Interrupted. What had started goes on: `surnia up` continues, `surnia down` ends it.", err=True)
        raise typer.Exit(130) from None
    if as_json:
        typer.echo(json.dumps(document(found), indent=2))
    else:
        what = "is up" if found.changed else "was up already"
        typer.echo(f"The stack {what} ({time.monotonic() - began:.1f} s). State: {found.state_dir}")
        for part in found.parts.values():
            if part.state == "given":
                typer.echo(f"{part.title} is given by address: {_CREATED[part.name]}never started, stopped or emptied.")
            elif part.version == MOCK_VERSION:
                typer.echo(f"Note: {part.note}")
        if found.gate:
            typer.echo(found.gate)
    raise typer.Exit(0 if found.healthy else 1)


def down(as_json: Json = False) -> None:
    """End the local stack's servers, Airflow's first, and keep their data."""
    from infra.airflow.services import Airflow
    from shared.settings import load_settings

    stack = _stack()
    if Airflow(load_settings()).down() and not as_json:
        typer.echo("Ended Airflow.")
    try:
        ended = stack.down()
    except StackError as error:
        _fail(error, as_json)
    if as_json:
        typer.echo(json.dumps({"ended": ended}, indent=2))
        return
    names = [stack.parts[name].title for name, was_running in ended.items() if was_running]
    typer.echo(f"Ended {', '.join(names)}; their data stays in {stack.state_dir}." if names else "Nothing was running.")


def status(as_json: Json = False) -> None:
    """Show each server, what goes through the paths, and what is paused.

    Servers that do not answer are lines in it: it takes some seconds at most.

    Exit code: 0 all servers are healthy and the gate is open, else 1.
    """
    from infra.oncall.overview import look, view

    found = _stack().status()
    paused, closed = _paused(found), _closed(found)
    flow = look(_settings()) if any(part.healthy for part in found.parts.values()) else None
    if as_json:
        known = None if paused is None else [pause.document() for pause in paused]
        more = {"pauses": known, "gate_closed_shards": closed, "flow": flow.document() if flow else None}
        typer.echo(json.dumps({**document(found), **more}, indent=2))
    else:
        from rich.console import Console
        from rich.text import Text

        from infra.stack.gate import closed_note
        from infra.stack.view import table

        console = Console()
        console.print(table(found))
        if flow:
            console.print(view(flow), markup=False, highlight=False)
        for pause in paused or ():
            console.print(Text(f"Paused: {pause.said}", style="bold yellow"), soft_wrap=True)
        if closed:
            console.print(Text(closed_note(closed), style="bold red"), soft_wrap=True)
    raise typer.Exit(0 if found.healthy and not closed else 1)


def document(found: StackStatus) -> dict[str, Any]:
    """A status as JSON; it never contains a password."""
    parts = {name: {**asdict(part), "healthy": part.healthy} for name, part in found.parts.items()}
    return {
        "healthy": found.healthy,
        "changed": found.changed,
        "state_dir": found.state_dir,
        "parts": parts,
        "gate": found.gate,
    }


def _paused(found: StackStatus) -> list[Pause] | None:
    """The pauses in force; None where PostgreSQL can't tell."""
    if not found.parts["postgres"].healthy:
        return None
    import asyncio

    import psycopg

    from shared.gate import pauses
    from shared.settings import load_settings

    async def read() -> list[Pause]:
        async with await pauses.connect(load_settings()) as connection:
            return await pauses.active(connection)

    try:
        return asyncio.run(read())
    except psycopg.Error:  # It went down a moment ago, or its tables are not made yet.
        return None


def _closed(found: StackStatus) -> int | None:
    """How many shards of the gate are closed; None where it does not answer."""
    if not found.parts["valkey"].healthy:
        return None
    from infra.stack.gate import ask
    from shared.gate import GateUnavailableError
    from shared.settings import load_settings

    try:
        return ask(load_settings())
    except GateUnavailableError:  # It went down a moment ago.
        return None


def _settings() -> Settings:
    from shared.settings import load_settings

    return load_settings()


def _stack() -> Stack:
    from infra.stack.stack import Stack
    from shared.settings import GivenSettings

    return Stack(GivenSettings())  # type: ignore[call-arg, unused-ignore]  # pydantic fills the fields from its sources


def _fail(error: StackError, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"healthy": False, "error": str(error)}, indent=2))
    else:
        print(error, file=sys.stderr)
    raise typer.Exit(1)
