"""A progress bar on standard error with rate and time left; silent where nobody watches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn


class Advance:
    """Moves a bar: told how many more rows are done, and how much more of the total."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self.done = 0
        self._rows = 0
        self._bar = bar
        self._task = task

    def __call__(self, rows: int, amount: int) -> None:
        self.done += amount
        self._rows += rows or amount
        elapsed = self._bar.tasks[self._task].elapsed or 0.0
        rate = self._rows / elapsed if elapsed else 0.0
        self._bar.update(self._task, completed=self.done, rows=f"{self._rows:,} rows, {rate:,.0f}/s")


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Advance]:
    """A bar that is full at `total`, of whatever unit."""
    console = Console(stderr=True)
    columns = (
        TextColumn(what),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield Advance(bar, bar.add_task(what, total=total, rows=""))
