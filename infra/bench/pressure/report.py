"""What the experiment found."""

from __future__ import annotations

from statistics import median

import msgspec
from rich import box
from rich.table import Table

from infra.bench.pressure.oltp import Latency


class Found(msgspec.Struct):
    """What a contender's scans found in one turn."""

    users: int = 0
    """Due."""
    hours: int = 0
    """Scanned to the end."""


class Side(msgspec.Struct):
    """One contender over all rounds: medians of the turns."""

    oltp_per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    due_users_per_s: float
    """That the scan found."""
    rounds_p99_ms: list[float]


class Pressure(msgspec.Struct):
    """The experiment."""

    users: int
    oltp_rate: int
    oltp_clients: int
    tasks: int
    scans_per_database: int
    none: Side
    naive: Side
    ours: Side
    p99_naive_to_none: float
    p99_ours_to_none: float


def side(turns: list[tuple[Latency, float]]) -> Side:
    """Of a contender's turns; beside each latency the due users a second."""
    per_s, p50, p99, longest = (round(median(latency[n] for latency, _ in turns), 2) for n in range(4))
    return Side(
        oltp_per_s=per_s,
        p50_ms=p50,
        p99_ms=p99,
        max_ms=longest,
        due_users_per_s=round(median(rate for _, rate in turns), 1),
        rounds_p99_ms=[latency.p99_ms for latency, _ in turns],
    )


def ratio(turns: list[tuple[Latency, float]], to: list[tuple[Latency, float]]) -> float:
    """The median over the rounds of one p99 to the other's."""
    return round(median(a.p99_ms / b.p99_ms for (a, _), (b, _) in zip(turns, to, strict=True)), 2)


def table(found: Pressure) -> Table:
    """For a terminal, and for the docs."""
    title = f"{found.oltp_rate} transactions/s on {found.users:,} users, beside"
    shown = Table(title=title, title_justify="left", box=box.ASCII2)
    for name in ("", "transactions/s", "p50 ms", "p99 ms", "max ms", "to no scan", "due users/s"):
        shown.add_column(name, justify="left" if not name else "right", no_wrap=True)
    rows = (
        ("no scan", found.none, 1.0),
        (f"a naive scan, {found.tasks} tasks", found.naive, found.p99_naive_to_none),
        (f"ours, {found.tasks} tasks, K = {found.scans_per_database}", found.ours, found.p99_ours_to_none),
    )
    for name, one, times in rows:
        shown.add_row(
            name, f"{one.oltp_per_s:,.1f}", f"{one.p50_ms:.2f}", f"{one.p99_ms:.2f}", f"{one.max_ms:.1f}",
            f"{times:.2f}", f"{one.due_users_per_s:,.0f}",
        )  # fmt: skip
    return shown
