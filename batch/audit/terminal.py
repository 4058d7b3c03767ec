"""An audit on the terminal: its progress while it reads, its accounts as a table."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from batch.audit.account import Audit
from batch.audit.tables import Watch

_SHORT_SECONDS = 1.0
"""What takes no longer needs no bar."""
_ROWS = ("candidates", "denied", "granted", "delivered", "expired", "failed", "dropped", "in_flight", "lost")
_PLACES = {"planned": "granted, by the planners", "answered": "answered, by Kafka", "ledger": "answered, by the ledger"}


@contextmanager
def progress() -> Iterator[Watch]:
    """A bar on standard error for what takes long; gone when it is done, and silent where nobody watches."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    tasks: dict[str, TaskID] = {}
    began = time.monotonic()

    def watch(what: str, done: int, total: int) -> None:
        if time.monotonic() - began < _SHORT_SECONDS:
            return
        if what not in tasks:
            bar.start()
            tasks[what] = bar.add_task(what)
        bar.update(tasks[what], completed=done, total=total)

    try:
        yield watch
    finally:
        bar.stop()


def show(result: Audit) -> None:
    """Print what was found for a reader."""
    console = Console()
    console.print(f"Reminders of local date {result.local_date}:" + ("" if result.accounts else " none were planned"))
    if result.accounts:
        console.print(_table(result))
    if "planned" in result.unavailable:
        console.print("the planners' record of the date is not kept any more: granted is counted in what is left")
    if "kafka" in result.unavailable:
        console.print("Kafka does not reach back to the date: its outcomes are not compared")
    if result.lag:
        console.print(f"{result.lag:,} messages are still to be written, or to be read by delivery or the ledger")
    if result.repeated:
        console.print(f"{result.repeated:,} outcomes are in Kafka once more: work that was done again")
    for problem in result.problems:
        console.print(f"[red]does not hold:[/red] {problem}", highlight=False)
    if result.holds:
        console.print("[green]the accounts hold[/green]")


def _table(result: Audit) -> Table:
    table = Table(box=box.SIMPLE)
    table.add_column("")
    for account in result.accounts:
        table.add_column(f"{account.path}\n{account.kind}", justify="right")
    for name in _ROWS:
        parts = [getattr(account, name) for account in result.accounts]
        sums = [sum(part.values()) if isinstance(part, dict) else part for part in parts]
        table.add_row(name.replace("_", " "), *(f"{n:,}" for n in sums))
        reasons = sorted({reason for part in parts if isinstance(part, dict) for reason in part})
        for reason in reasons:
            table.add_row(f"  {reason}", *(f"{part.get(reason, 0):,}" for part in parts), style="dim")
    table.add_section()
    for name, text in _PLACES.items():
        counts = [getattr(account, name) for account in result.accounts]
        table.add_row(text, *("–" if n is None else f"{n:,}" for n in counts), style="dim")
    return table
