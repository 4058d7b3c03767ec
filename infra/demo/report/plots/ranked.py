"""Ranked horizontal bars, by path: time zones, and reasons of denial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from infra.demo.report import text
from infra.demo.report.data import DenialRow, ZoneRow
from infra.demo.report.plots import frame

ZONES = 25
REASONS = 15
ROW = 22  # CSS pixels
LOWEST = 320  # CSS pixels
ROOM = 1.16  # of the longest bar: its number stands to the right of it


def by_zone(rows: Sequence[ZoneRow]) -> frame.Figure | None:
    """The zones with the most sends; None when nothing was sent."""
    offsets = {row.time_zone: text.offset(row.utc_offset_hours).removeprefix("UTC") for row in rows}
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        counts[f"{row.time_zone} {offsets[row.time_zone]}", row.path] += row.n
    return _ranked(counts, ZONES, "sends delivered")


def denials(rows: Sequence[DenialRow]) -> frame.Figure | None:
    """The most frequent reasons; None when nothing was denied."""
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        counts[row.reason, row.path] += row.n
    return _ranked(counts, REASONS, "candidates denied")


def _ranked(counts: Counter[tuple[str, str]], most: int, unit: str) -> frame.Figure | None:
    totals: Counter[str] = Counter()
    for (name, _), n in counts.items():
        totals[name] += n
    ranked = [name for name, n in totals.most_common(most) if n]
    if not ranked:
        return None
    names = [frame.label(name) for name in ranked]
    paths = frame.in_order(path for _, path in counts)
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": frame.label(path),
            "y": names,
            "x": [counts[name, path] for name in ranked],
            "marker": {"color": frame.colour(path), "line": {"width": 0}},
            "hovertemplate": "%{y}<br>%{fullData.name}: %{x:,}<extra></extra>",
        }
        for path in paths
    ]
    numbers = {
        "type": "scatter",
        "mode": "text",
        "y": names,
        "x": [totals[name] for name in ranked],
        "text": [f" {totals[name]:,}" for name in ranked],
        "textposition": "middle right",
        "textfont": {"size": 11, "color": "--muted"},
        "hoverinfo": "skip",
        "cliponaxis": False,
    }
    return frame.figure(
        [*traces, numbers],
        max(LOWEST, 100 + ROW * len(names)),
        frame.paths_key(paths),
        barmode="stack",
        bargap=0.28,
        hovermode="closest",
        xaxis=frame.axis(unit, range=[0, max(totals.values()) * ROOM], tickformat="~s", nticks=6),
        yaxis=frame.axis(
            "",
            type="category",
            range=[len(names) - 0.4, -0.6],  # the first on top
            showgrid=False,
            dtick=1,
            tickfont={"size": 12, "color": "--ink"},
        ),
    )
