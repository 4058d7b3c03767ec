"""How the stack looks on a terminal: a line for each part while it comes up, and the table of `surnia status`."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from infra.stack.stack import Progress
from infra.stack.status import PartStatus, StackStatus
from shared.terminal import size

_COLOURS = {"running": "green", "given": "cyan", "stopped": "yellow"}


class _Board:
    """The parts' latest words; drawn anew several times a second."""

    def __init__(self, titles: Mapping[str, str]) -> None:
        self._began = time.monotonic()
        self._guard = threading.Lock()
        self._titles = titles
        self._words: dict[str, tuple[str, float | None]] = dict.fromkeys(titles, ("", None))
        self._spinners = {name: Spinner("dots") for name in titles}

    def say(self, name: str, text: str, done: bool) -> float:
        """Take note; gives the seconds since the start."""
        elapsed = time.monotonic() - self._began
        with self._guard:
            self._words[name] = (text, elapsed if done else None)
        return elapsed

    def __rich__(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        now = time.monotonic() - self._began
        with self._guard:
            words = dict(self._words)
        for name, (text, ended) in words.items():
            failed = text == "failed"
            mark = self._spinners[name] if ended is None else Text("✗" if failed else "✓", "red" if failed else "green")
            seconds = Text(f"{now if ended is None else ended:5.1f} s", style="dim")
            grid.add_row(mark, Text(self._titles[name], style="bold"), seconds, Text(text))
        return grid


@contextlib.contextmanager
def watching(console: Console, titles: Mapping[str, str]) -> Iterator[Progress]:
    """Show progress while the block runs: live on a terminal, else one line at each part's end."""
    board = _Board(titles)

    def line(name: str, text: str, done: bool) -> None:
        elapsed = board.say(name, text, done)
        if done and not console.is_terminal:
            console.print(f"{titles[name]}: {text} ({elapsed:.1f} s)", highlight=False, markup=False, soft_wrap=True)

    if console.is_terminal:
        with Live(board, console=console, refresh_per_second=12):
            yield line
    else:
        yield line


def table(status: StackStatus) -> Group:
    """`surnia status`: a row a part; what is wrong and what to type below."""
    rows = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("part", "state", "version", "address", "pid", "up for", "data"):
        rows.add_column(heading, overflow="fold" if heading == "address" else "ellipsis", no_wrap=heading != "address")
    below: list[Text] = []
    for part in status.parts.values():
        rows.add_row(
            part.title,
            Text(_state(part), style=_COLOURS.get(part.state, "red")),
            part.version or "-",
            part.address or "-",
            str(part.pid or "-"),
            "-" if part.uptime_seconds is None else duration(part.uptime_seconds),
            "-" if part.data_bytes is None else size(part.data_bytes),
        )
        below += _details(part)
    return Group(rows, *below)


def duration(seconds: float) -> str:
    """Seconds the way a person says them: 12 s, 5 min, 3 h 20 min, 2 d 4 h."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{rest} s"


def _state(part: PartStatus) -> str:
    return {"given": "given by address", "silent": "does not answer", "unreachable": "given, does not answer"}.get(
        part.state, part.state
    )


def _details(part: PartStatus) -> list[Text]:
    if part.healthy:
        return [Text(f"{part.title}: {part.note}", style="dim")] if part.note else []
    lines = [Text()]
    if part.log_tail:
        lines.append(Text(f"{part.title}, the end of {part.log}:"))
        lines += [Text(f"  {line}", style="dim") for line in part.log_tail]
    elif part.note:
        lines.append(Text(f"{part.title}: {part.note}"))
    if part.remedy:
        lines.append(Text(f"{part.title}: {part.remedy}", style="bold"))
    return lines
