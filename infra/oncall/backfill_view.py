"""Backfills as a person reads them: the plan's table, the account of a run, the list of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from batch.backfill import Backfill, Look, Summary
from batch.backfill.look import largest
from shared.identity import SHARDS
from shared.terminal import several

MOST = 40
"""Rows of a plan that are shown; all of them are summed up, and `--json` has them."""
_COLUMNS = ("users", "sends", "expired", "already", "denied", "later")
_STAMP = "%Y-%m-%d %H:%M:%S %Z"
_WORDS = {
    "sends": "would be sent now",
    "expired": "past their window: reported as expired, not sent",
    "already": "decided before, by either path",
    "denied": "the planner denies them (opted out, no device, no answer for long, held out, no streak, quiet hours)",
    "later": "not due yet where the user is now",
}


def plan_view(found: Look) -> RenderableType:
    """A table by kind, local hour and zone; what the columns mean; what is not known before it runs."""
    if not found.rows:
        return Text(f"Nothing is missing: {found.request.said}.")
    table = Table(title=found.request.said, title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("kind", "local hour", "time zone"):
        table.add_column(heading, no_wrap=True)
    for heading in _COLUMNS:
        table.add_column(heading, justify="right")
    shown = largest(found.rows, MOST)
    for row in shown:
        table.add_row(row.kind, row.hour, row.time_zone, *(_count(getattr(row, name)) for name in _COLUMNS))
    if rest := len(found.rows) - len(shown):
        table.add_row(f"… {rest} more", "", "", *([""] * len(_COLUMNS)), style="dim")
    table.add_section()
    for kind in found.request.kinds:
        if found.total("users", kind):
            table.add_row(kind, "all", "", *(_count(found.total(name, kind)) for name in _COLUMNS))
    table.add_row("all", "", "", *(_count(found.total(name)) for name in _COLUMNS), style="bold")
    notes = [f"{name}: {words}" for name, words in _WORDS.items() if found.total(name)]
    if found.total("sends"):
        notes.append("The gate has the last word: who practised or had the day's reminders is denied when it runs.")
    if found.unread_events:
        notes.append(
            f"{several(found.unread_events, 'event')} {'waits' if found.unread_events == 1 else 'wait'} for a stream "
            "worker: who practised in them is marked at the gate before anybody is reminded."
        )
    return Group(table, *(Text(note, style="dim") for note in notes))


def plan_document(found: Look) -> dict[str, Any]:
    """The same for a program."""
    return {
        "from": found.request.start.isoformat(),
        "to": found.request.end.isoformat(),
        "kinds": list(found.request.kinds),
        "totals": {name: found.total(name) for name in _COLUMNS},
        "by_kind": found.expected(),
        "unread_events": found.unread_events,
        "rows": msgspec.to_builtins(found.rows),
    }


def account(done: Summary) -> RenderableType:
    """What a backfill came to."""
    lines = [Text(f"Backfill {done.id}: {done.state}. {_progress(done)}")]
    if done.by_kind:
        answers = sorted({answer for counts in done.by_kind.values() for answer in counts}, key=_order)
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("kind")
        for answer in answers:
            table.add_column(answer.replace("_", " "), justify="right")
        for kind, counts in done.by_kind.items():
            table.add_row(kind, *(_count(counts.get(answer, 0)) for answer in answers))
        return Group(*lines, table)
    return Group(*lines, Text("Nothing had to be done."))


def status_view(backfill: Backfill, done: Summary) -> RenderableType:
    """One backfill: who, what, how far."""
    lines = [
        f"Backfill {backfill.id}: {state_of(backfill)}",
        f"  what    {backfill.request.said}",
        f"  asked   {backfill.asked_at:{_STAMP}} by {backfill.asked_by}",
        f"  run     {backfill.run_at:{_STAMP}} by {backfill.run_by}, via {backfill.via}"
        + (f", {backfill.rate:g} sends/s at most" if backfill.rate else ""),
    ]
    if backfill.ended_at:
        by = f" by {backfill.ended_by}" if backfill.ended_by else ""
        lines.append(f"  ended   {backfill.ended_at:{_STAMP}}{by}")
    if backfill.interrupted:
        lines.append(f"  Nobody has it in hand: `surnia backfill resume {backfill.id}` goes on where it was cut off.")
    if backfill.expected:
        planned = ", ".join(f"{kind} {counts['sends']:,}" for kind, counts in backfill.expected.items())
        lines.append(f"  planned sends  {planned}")
    return Group(*(Text(line) for line in lines), account(done))


def list_view(backfills: Sequence[Backfill]) -> RenderableType:
    """All that are known, the newest first."""
    if not backfills:
        return Text("There has been no backfill.")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("id", "state", "run by", "since", "via", "what"):
        table.add_column(heading, no_wrap=heading != "what")
    for each in backfills:
        cells = (str(each.id), state_of(each), each.run_by, f"{each.run_at:{_STAMP}}", each.via, each.request.said)
        table.add_row(*map(Text, cells))
    return table


def document(backfill: Backfill, done: Summary) -> dict[str, Any]:
    """One backfill as JSON."""
    return {
        **msgspec.to_builtins(done),
        "state": state_of(backfill),
        "request": msgspec.to_builtins(backfill.request),
        "via": backfill.via,
        "rate": backfill.rate,
        "asked_by": backfill.asked_by,
        "asked_at": backfill.asked_at.isoformat(),
        "run_by": backfill.run_by,
        "run_at": backfill.run_at.isoformat(),
        "ended_by": backfill.ended_by,
        "ended_at": backfill.ended_at.isoformat() if backfill.ended_at else None,
        "expected": backfill.expected,
    }


def state_of(backfill: Backfill) -> str:
    """`interrupted` is what nobody has in hand; of Airflow's, a run that waits for its turn looks the same."""
    return "interrupted" if backfill.interrupted else backfill.state


def _progress(done: Summary) -> str:
    twice = ", each of them once for each path" if done.shards > SHARDS else ""
    return f"{done.shards_done:,} of {done.shards:,} shards are done{twice}."


def _count(number: int) -> str:
    return f"{number:,}" if number else "·"


def _order(answer: str) -> tuple[int, str]:
    first = ("sent", "expired", "already")
    return first.index(answer) if answer in first else len(first), answer
