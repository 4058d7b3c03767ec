"""The live terminal view: simulated time, rates by path, the gate's answers, lag."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque

import msgspec
import psycopg
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.demo.drive import State
from infra.demo.world import World
from shared.clock import utc
from shared.policy.kinds import Path
from shared.wire.sends import Result

_REFRESH_SECONDS = 0.5
_RATE_WINDOW_SECONDS = 5.0


class View:
    """Looks at the ledger twice a second and draws. On anything but a terminal: a line a simulated hour."""

    def __init__(self, world: World, state: State, start: float, console: Console) -> None:
        self._world = world
        self._state = state
        self._console = console
        self._start = start
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._history: deque[tuple[float, int, dict[str, int]]] = deque()
        self._hour = -1
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(None),
            TextColumn("{task.percentage:3.0f}%"),
            TimeElapsedColumn(),
        )
        self._task = self._progress.add_task("the day", total=state.end - start)

    async def run(self) -> None:
        """Draw until cancelled."""
        if not self._console.is_terminal:
            await self._lines()
        with Live(self._draw(), console=self._console, refresh_per_second=4, transient=True) as live:
            while True:
                await self._look()
                live.update(self._draw())
                await asyncio.sleep(_REFRESH_SECONDS)

    async def _lines(self) -> None:
        while True:
            hour = int((self._state.now - self._start) / 3600)
            if hour != self._hour and self._state.doing != "starting":
                self._hour = hour
                await self._look()
                paths = self._by_path()
                self._console.print(
                    f"{utc(self._state.now):%Y-%m-%d %H:%M} UTC  events {self._state.events:,}  delivered: "
                    + "  ".join(f"{name} {n:,}" for name, n in paths.items()),
                    highlight=False,
                )
            await asyncio.sleep(_REFRESH_SECONDS)

    async def _look(self) -> None:
        async with await psycopg.AsyncConnection.connect(self._world.settings.require_postgres()) as connection:
            cursor = await connection.execute("SELECT path, result, reason, count(*) FROM ledger GROUP BY 1, 2, 3")
            rows = [msgspec.convert(row, tuple[int, int, str, int]) for row in await cursor.fetchall()]
        self._counts = Counter({(Path(path).name, Result(result).name, reason): n for path, result, reason, n in rows})
        now = time.monotonic()
        self._history.append((now, self._state.events, self._by_path()))
        while now - self._history[0][0] > _RATE_WINDOW_SECONDS:
            self._history.popleft()

    def _by_path(self) -> dict[str, int]:
        totals = {path.name: 0 for path in Path}
        for (path, result, _), n in self._counts.items():
            if result == Result.delivered.name:
                totals[path] += n
        return totals

    def _draw(self) -> RenderableType:
        state = self._state
        self._progress.update(self._task, completed=state.now - self._start)
        return Panel(
            Group(self._progress, self._rates(), self._answers()),
            title=f"[bold]{utc(state.now):%Y-%m-%d %H:%M} UTC[/bold] (simulated) · {state.doing}",
            subtitle=f"{state.dag_runs} Airflow runs, {state.dag_seconds / max(1, state.dag_runs):.1f} s each",
        )

    def _rates(self) -> Table:
        table = Table(expand=True, box=None)
        for column in ("", "total", "now, a second", "to be read"):
            table.add_column(column, justify="left" if not column else "right")
        began, events, paths = self._history[0] if self._history else (time.monotonic(), self._state.events, {})
        seconds = max(_REFRESH_SECONDS, time.monotonic() - began)
        lag = self._state.lag
        table.add_row(
            "activity events",
            f"{self._state.events:,}",
            f"{(self._state.events - events) / seconds:,.0f}",
            f"{lag.get('stream', 0):,} messages",
        )
        for name, n in self._by_path().items():
            waiting = f"{self._state.waiting:,} due" if name == Path.stream.name else ""
            table.add_row(f"delivered, {name} path", f"{n:,}", f"{(n - paths.get(name, 0)) / seconds:,.0f}", waiting)
        table.add_row("sends · outcomes", "", "", f"{lag.get('delivery', 0):,} · {lag.get('ledger', 0):,} messages")
        return table

    def _answers(self) -> Table:
        table = Table(expand=True, box=None, title="how candidates ended", title_justify="left")
        for column in ("path", "result", "reason", "n"):
            table.add_column(column, justify="right" if column == "n" else "left")
        for (path, result, reason), n in self._counts.most_common(14):
            table.add_row(path, result, reason, f"{n:,}")
        return table
