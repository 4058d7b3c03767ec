"""Sends by the zone's offset and the hour in UTC.

A local hour is a diagonal here, so sends that keep to local hours form bands, and the quiet hours stay empty.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from infra.demo.report import text
from infra.demo.report.data import LocalHourRow
from infra.demo.report.plots import frame
from infra.simulator.witness import QUIET_FROM, QUIET_UNTIL

HOURS = range(24)
ROW = 15  # CSS pixels
STEPS = 5  # of the colour scale, --heat-0 to --heat-4


def local_hours(rows: Sequence[LocalHourRow]) -> frame.Figure | None:
    """None when nothing was sent."""
    counts: Counter[tuple[float, int]] = Counter()
    for row in rows:
        counts[row.utc_offset_hours, row.utc_hour % 24] += row.n
    if not counts.total():
        return None
    offsets = sorted({offset for offset, _ in counts})
    table = [[counts[offset, hour] for hour in HOURS] for offset in offsets]
    return frame.figure(
        [
            _cells(offsets, table),
            _edge(offsets, QUIET_FROM, "solid"),
            _edge(offsets, QUIET_UNTIL, "dot"),
        ],
        max(300, 100 + ROW * len(offsets)),
        [
            (f"{QUIET_FROM:02}:00 local, night begins", "--edge", "solid"),
            (f"{QUIET_UNTIL:02}:00 local, night ends", "--edge", "dotted"),
        ],
        hovermode="closest",
        xaxis=frame.axis(
            "hour of the day (UTC)",
            range=[0, 24],
            tickvals=list(range(0, 25, 3)),
            ticktext=[f"{hour:02}:00" for hour in range(0, 25, 3)],
            showgrid=False,
        ),
        yaxis=frame.axis(
            "the time zone's offset",
            range=[-0.5, len(offsets) - 0.5],
            tickvals=list(range(len(offsets))),
            ticktext=[text.offset(offset) for offset in offsets],
            tickfont={"size": 10, "color": "--muted"},
            showgrid=False,
        ),
    )


def _cells(offsets: list[float], table: list[list[int]]) -> dict[str, Any]:
    """The colour follows the logarithm: one populous zone must not pale the others."""
    top = max(n for row in table for n in row)
    rows = list(zip(offsets, table, strict=True))
    powers = range(math.ceil(math.log10(top)) + 1)
    told = [[(f"{n:,}", _told(offset, hour)) for hour, n in zip(HOURS, row, strict=True)] for offset, row in rows]
    return {
        "type": "heatmap",
        "x": [hour + 0.5 for hour in HOURS],
        "y": list(range(len(offsets))),
        "z": [[math.log10(n) if n else None for n in row] for row in table],
        "zmin": 0,
        "zmax": max(math.log10(top), 1),
        "colorscale": [[step / (STEPS - 1), f"--heat-{step}"] for step in range(STEPS)],
        "xgap": 1,
        "ygap": 1,
        "hoverongaps": False,
        "customdata": told,
        "hovertemplate": "%{customdata[1]}<br>%{customdata[0]} sends<extra></extra>",
        "colorbar": {
            "title": {"text": "sends", "side": "top", "font": {"size": 11, "color": "--muted"}},
            "tickvals": list(powers),
            "ticktext": [f"{10**power:,}" for power in powers],
            "tickfont": {"size": 11, "color": "--muted"},
            "thickness": 10,
            "outlinewidth": 0,
            "len": 0.6,
            "y": 1,
            "yanchor": "top",
        },
    }


def _told(offset: float, hour: int) -> str:
    """What hovering over a cell says: both clocks."""
    minutes = round((hour + offset) * 60) % (24 * 60)
    return f"{hour:02}:00 UTC is {minutes // 60:02}:{minutes % 60:02} at {text.offset(offset)}"


def _edge(offsets: list[float], local_hour: int, dash: str) -> dict[str, Any]:
    """Where a local hour begins in each row: a stair, broken where it wraps round midnight UTC."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    before = 24.0
    for row, offset in enumerate(offsets):
        at = (local_hour - offset) % 24
        if at > before:
            xs.append(None)
            ys.append(None)
        xs += [at, at]
        ys += [row - 0.5, row + 0.5]
        before = at
    return {
        "type": "scatter",
        "mode": "lines",
        "x": xs,
        "y": ys,
        "line": {"color": "--edge", "width": 2, "dash": dash},
        "hoverinfo": "skip",
    }
