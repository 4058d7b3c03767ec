"""A rebuild of the due index, as a person watches it."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from shared.settings import Settings
from stream.due.rebuild import Rebuilt, expected, rebuild
from stream.runtime import Runtime


class _Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} users/s")


async def rebuild_shown(settings: Settings) -> Rebuilt:
    """Rebuild with a bar on standard error: users read of about how many, and how many a second."""
    columns = (TextColumn("reading users"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    console = Console(stderr=True)
    runtime = Runtime.of(settings)
    await runtime.open()
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("users", total=await expected(runtime))

            def tell(read: int) -> None:
                progress.advance(task, read)
                # The database only guessed.
                done = progress.tasks[task].completed
                progress.update(task, total=max(done, progress.tasks[task].total or 0))

            found = await rebuild(runtime, tell)
            progress.update(task, total=progress.tasks[task].completed)
            return found
    finally:
        await runtime.close()
