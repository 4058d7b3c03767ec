"""Sends an hour, stacked by path; the kinds stand in the hover text."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from infra.demo.report import text
from infra.demo.report.data import HourRow
from infra.demo.report.plots import frame

BAR = 3_240_000  # milliseconds: nine tenths of an hour, so that neighbours do not touch
GAP = 180_000  # milliseconds from the hour's beginning to its bar


def by_hour(rows: Sequence[HourRow]) -> frame.Figure | None:
    """None when nothing was sent."""
    kinds: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        # plotly knows no time zones: the axis says UTC
        kinds[row.path, f"{text.utc(row.hour):%Y-%m-%d %H:%M}"][row.kind] += row.n
    if not any(n.total() for n in kinds.values()):
        return None
    paths = frame.in_order(path for path, _ in kinds)
    return frame.figure(
        [_bars(path, kinds) for path in paths],
        340,
        frame.paths_key(paths),
        barmode="stack",
        hovermode="closest",
        xaxis=frame.axis("simulated hour (UTC)", type="date", showgrid=False),
        yaxis=frame.axis("sends an hour", rangemode="tozero", tickformat="~s"),
    )


def _bars(path: str, kinds: dict[tuple[str, str], Counter[str]]) -> dict[str, Any]:
    hours = sorted(hour for its_path, hour in kinds if its_path == path)
    counts = [kinds[path, hour] for hour in hours]
    return {
        "type": "bar",
        "name": frame.label(path),
        "x": hours,
        "y": [n.total() for n in counts],
        "width": BAR,
        "offset": GAP,
        "marker": {"color": frame.colour(path), "line": {"width": 0}},
        "customdata": [_kinds(n) for n in counts],
        "hovertemplate": "%{x|%a %-d %b, %H:00} UTC<br>%{fullData.name}: %{y:,}<br>%{customdata}<extra></extra>",
    }


def _kinds(counts: Counter[str]) -> str:
    return "<br>".join(f"   {frame.label(text.words(kind))} {n:,}" for kind, n in counts.most_common())
