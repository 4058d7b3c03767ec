"""`surnia lag` and `surnia doctor`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from infra.oncall import complete
from shared.settings import load_settings

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object")]
NO_ANSWER = 2


def lag(
    topic: Annotated[
        list[str] | None,
        typer.Option("--topic", help="Only this topic; may be given several times", autocompletion=complete.topics),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how far everything is behind: consumer groups by topic, the due index, the write-back, the outbox.

    Exit code: 0 nothing is behind by more than a minute, 1 something is, 2 a server does not answer.
    """
    from infra.oncall.lag import look, view
    from shared.topics import Topics

    settings = load_settings()
    known = Topics.of(settings).all()
    if unknown := [name for name in topic or () if name not in known]:
        raise typer.BadParameter(f"{unknown[0][:80]!r} is none of {', '.join(known)}", param_hint="--topic")
    found = look(settings, topic or ())
    if as_json:
        typer.echo(json.dumps(found.document()))
    else:
        from rich.console import Console

        Console(highlight=False).print(view(found))
    raise typer.Exit(NO_ANSWER if found.trouble else 1 if found.behind else 0)


def doctor(as_json: AsJson = False) -> None:
    """Look at all that Surnia needs: configuration, servers, versions, topics, tables, clocks, credentials, Airflow.

    For every finding it says what to type. It changes nothing, and takes some seconds, however many servers are dead.

    Exit code: 0 all is well, 1 there are warnings, 2 something is broken.
    """
    from infra.oncall.doctor import State, checkup

    found = checkup(load_settings())
    worst = max(each.state for each in found)
    if as_json:
        rows = [
            {"part": each.part, "state": each.state.name, "says": each.says, "remedy": each.remedy} for each in found
        ]
        typer.echo(json.dumps({"state": worst.name, "findings": rows}))
        raise typer.Exit(int(worst))
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    marks = {State.ok: ("✓", "green"), State.warning: ("!", "yellow"), State.broken: ("✗", "bold red")}
    for each in found:
        mark, colour = marks[each.state]
        console.print(Text.assemble((mark, colour), f" {each.part}: {each.says}"), soft_wrap=True)
        if each.remedy:
            console.print(Text(f"  → {each.remedy}", style=colour), soft_wrap=True)
    bad = sum(each.state is State.broken for each in found)
    warnings = sum(each.state is State.warning for each in found)
    console.print("All is well." if not worst else f"{bad} broken, {warnings} to be looked at.")
    raise typer.Exit(int(worst))
