"""The demo's last words on the terminal: what was planned, where it went, and who checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import ROUNDED
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from infra.demo.report import text
from infra.demo.report.data import Summary

LONGEST_LIST = 8  # rows of a list; the others are counted in one row

Term = tuple[str, int, str]  # name, number, style


def summary_table(summary: Summary) -> RenderableType:
    """The whole report; it fits 80 columns."""
    parts: list[RenderableType] = [
        _run(summary),
        _heading("Every candidate, accounted for"),
        _equation(
            [
                ("candidates", summary.candidates, "bold"),
                ("denied", summary.denials, "yellow"),
                ("granted", summary.granted, "cyan"),
            ],
            summary.candidates_add_up,
        ),
        _equation(
            [
                ("granted", summary.granted, "cyan"),
                ("delivered", summary.delivered, "green"),
                ("expired", summary.expired, ""),
                ("failed", summary.failed, "red" if summary.failed else ""),
                ("dropped", summary.dropped, ""),
                ("in flight", summary.in_flight, ""),
            ],
            summary.granted_adds_up,
        ),
        _lists(summary),
        _heading("Checked"),
        _checks(summary),
    ]
    if summary.problems:
        parts += [_heading("Problems"), *(Text(f" ✗ {problem}", "red") for problem in summary.problems)]
    mark, style = ("✗", "red") if not summary.holds else ("✓", "green") if summary.candidates else (text.DASH, "dim")
    title = Text.assemble(("Surnia demo ", "bold"), (mark, style))
    return Panel(Group(*parts), title=title, box=ROUNDED, border_style=style, expand=False)


def _mark(good: bool) -> Text:
    return Text("✓", "bold green") if good else Text("✗", "bold red")


def _heading(words: str) -> RenderableType:
    return Padding(Text(words, "bold"), (1, 0, 0, 0))


def _run(summary: Summary) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_row(
        Text("users", "dim"),
        f"{text.count(summary.users)}: {text.count(summary.active)} active, {text.count(summary.silent)} silent",
    )
    grid.add_row(
        Text("events", "dim"),
        f"{text.count(summary.events)}, {text.count(summary.dead_letters)} to the dead letters",
    )
    grid.add_row(
        Text("time", "dim"),
        Text(
            f"{text.count(summary.simulated_hours)} simulated hours in {text.seconds(summary.seconds)}, "
            f"after {text.seconds(summary.setup_seconds)} of setup\nfrom {text.moment(summary.started_at)}"
        ),
    )
    return grid


def _equation(terms: Sequence[Term], holds: bool) -> Table:
    """Numbers with their names above: the first is the sum of the others."""
    grid = Table.grid(padding=(0, 1))
    names: list[RenderableType] = []
    numbers: list[RenderableType] = []
    for place, (name, n, style) in enumerate(terms):
        if place:
            sign = ("=" if holds else "≠") if place == 1 else "+"
            grid.add_column()
            names.append("")
            numbers.append(Text(sign, "dim" if holds else "red"))
        grid.add_column(justify="right", no_wrap=True)
        names.append(Text(name, "dim"))
        numbers.append(Text(text.count(n), style))
    grid.add_column()
    grid.add_row(*names, "")
    grid.add_row(*numbers, _mark(holds))
    return grid


def _lists(summary: Summary) -> RenderableType:
    granted = Group(
        _list("Delivered by path", summary.by_path),
        "",
        _list("Delivered by kind", {text.words(kind): n for kind, n in summary.by_kind.items()}),
    )
    grid = Table.grid(padding=(0, 6, 0, 0))
    grid.add_row(granted, _list("Denied because", summary.denied))
    return Padding(grid, (1, 0, 0, 0))


def _list(title: str, numbers: Mapping[str, int]) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(max_width=26, overflow="ellipsis", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    ranked = sorted(numbers.items(), key=lambda item: -item[1])
    if len(ranked) > LONGEST_LIST:
        rest = ranked[LONGEST_LIST - 1 :]
        ranked = [*ranked[: LONGEST_LIST - 1], (f"{len(rest)} others", sum(n for _, n in rest))]
    for name, n in ranked or [("none", 0)]:
        grid.add_row(Text(name, "dim"), text.count(n))
    outer = Table.grid()
    outer.add_row(Text(title, "bold"))
    outer.add_row(grid)
    return outer


def _checks(summary: Summary) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column()

    def row(who: str, *claims: tuple[str, int]) -> None:
        line = Text("   ").join(Text.assemble(f"{name} {text.count(n)} ", _mark(n == 0)) for name, n in claims)
        grid.add_row(Text(who, "dim"), line)

    devices = summary.devices
    row("devices", ("shown twice", devices.shown_twice), ("outside window", devices.outside_window))
    row("ledger", ("lost", summary.lost))
    audit = summary.audit_holds
    grid.add_row(Text("audit", "dim"), Text.assemble("holds " if audit else "fails ", _mark(audit)))
    p50, p99 = text.milliseconds(summary.latency_ms.p50), text.milliseconds(summary.latency_ms.p99)
    grid.add_row(Text("latency", "dim"), f"p50 {p50}, p99 {p99} for the provider to answer")
    grid.add_row(Text("accepted", "dim"), f"{text.count(devices.accepted)} pushes, counted by the provider simulator")
    return grid
