"""`surnia holdout`: are users who are reminded active again more often than those who are held out?"""

from __future__ import annotations

import asyncio
import sys
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from batch.holdout.measure import Measured

MOST_DATES = 92


def register(app: typer.Typer) -> None:
    """Add `surnia holdout`."""
    app.command("holdout")(holdout)


def holdout(
    day: Annotated[str | None, typer.Option("--date", help="One local date of reminders, such as 2026-11-21")] = None,
    start: Annotated[str | None, typer.Option("--from", help="Or the first of several")] = None,
    end: Annotated[str | None, typer.Option("--to", help="And the last, included")] = None,
    kind: Annotated[str | None, typer.Option(help="One kind of reminder; default: all")] = None,
    days: Annotated[int, typer.Option(min=0, max=60, help="Local days after the reminder's in which users return")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object")] = False,
) -> None:
    """Compare who was held out (SURNIA_HOLDOUT) with who was reminded: active again, and how sure the difference is.

    Reminded are all who came as far as the gate, also those it denied for practice or a cap: held-out users never got
    so far as to be sorted out by it. A user counts once for each local date and kind. When somebody first came back is
    not stored, only the last activity: run it when the days are just over, later ones blur what happened within them.

    Exit code 0: compared, or nobody was held out; 2: a server does not answer.
    """
    import msgspec
    import psycopg
    from rich.console import Console

    from batch.audit.terminal import progress
    from batch.holdout.measure import measure
    from shared.policy.holdout import KINDS_WITH_GROUPS
    from shared.settings import load_settings

    first, last = _dates(day, start, end)
    if kind is not None and kind not in KINDS_WITH_GROUPS:
        raise typer.BadParameter(f"one of {', '.join(KINDS_WITH_GROUPS)}", param_hint="--kind")
    read = 0
    try:
        with progress() as watch:

            def on_page(rows: int) -> None:
                nonlocal read
                read += rows
                watch("rows of the ledger", read, read)

            kinds = (kind,) if kind else KINDS_WITH_GROUPS
            found = asyncio.run(measure(load_settings(), first, last, kinds, days, on_page))
    except psycopg.errors.UndefinedTable:
        print(
            "surnia: tables of Surnia are missing in the database: run `surnia up`, which creates them", file=sys.stderr
        )
        raise typer.Exit(2) from None
    except psycopg.OperationalError as error:
        print(f"surnia: a server does not answer; see `surnia status`: {str(error).strip()[:300]}", file=sys.stderr)
        raise typer.Exit(2) from None
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    console = Console(highlight=False)
    if found.kinds:
        console.print(_table(found))
    for line in _words(found):
        console.print(line)


def _dates(day: str | None, start: str | None, end: str | None) -> tuple[date, date]:
    if (day is None) == (start is None and end is None) or (start is None) != (end is None):
        raise typer.BadParameter("give --date, or --from and --to", param_hint="--date")
    if day is not None:
        one = _day(day, "--date")
        return one, one
    assert start is not None
    assert end is not None
    first, last = _day(start, "--from"), _day(end, "--to")
    if not 0 <= (last - first).days < MOST_DATES:
        raise typer.BadParameter(f"from the first date to the last one, at most {MOST_DATES}", param_hint="--to")
    return first, last


def _day(text: str, option: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text[:40]!r} is no date: use YYYY-MM-DD", param_hint=option) from None


def _table(found: Measured) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, header_style="dim", padding=(0, 1, 0, 0))
    for n, column in enumerate(("kind", "held out", "back", "reminded", "back", "difference", "95% interval")):
        table.add_column(column, justify="right" if n else "left", no_wrap=True)
    for one in found.kinds:
        sure = one.low > 0 or one.high < 0
        table.add_row(
            one.kind,
            f"{one.held_out.users:,}",
            f"{one.held_out_rate:.2%}",
            f"{one.reminded.users:,}",
            f"{one.reminded_rate:.2%}",
            f"{100 * one.difference:+.2f} points",
            f"{100 * one.low:+.2f} to {100 * one.high:+.2f}" + ("" if sure else ": may be none"),
        )
    return table


def _words(found: Measured) -> list[str]:
    lines = []
    if not found.dates:
        lines.append(f"nothing is compared yet: {found.days} days after the reminders are not over everywhere")
    elif not found.kinds:
        lines.append("nobody was held out on these dates: set SURNIA_HOLDOUT, such as comeback=5")
    if found.dates and found.too_early:
        lines.append(f"left out, because their {found.days} days are not over: {', '.join(map(str, found.too_early))}")
    later = sum(one.held_out.later + one.reminded.later for one in found.kinds)
    if later:
        lines.append(
            f"{later:,} users were last active after their {found.days} days: they count as back, be it that they "
            "first came back later"
        )
    return lines
