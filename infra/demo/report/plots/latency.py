"""How long the provider took to answer, on a logarithmic axis, with the median and the 99th percentile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from infra.demo.report import text
from infra.demo.report.data import Latency, LatencyBin
from infra.demo.report.plots import frame

Bin = tuple[float, float, int]  # from, to (milliseconds), sends


def histogram(rows: Sequence[LatencyBin], marks: Latency) -> frame.Figure | None:
    """None when nothing was sent."""
    bins = _trimmed(_bins(rows))
    if not bins:
        return None
    logs = [(math.log10(low), math.log10(high)) for low, high, _ in bins]
    bars = {
        "type": "bar",
        "x": [(low + high) / 2 for low, high in logs],
        "y": [n for _, _, n in bins],
        "width": [high - low for low, high in logs],
        "marker": {"color": "--delivered", "line": {"width": 1, "color": "--card"}},
        "customdata": [f"{text.milliseconds(low)} to {text.milliseconds(high)}" for low, high, _ in bins],
        "hovertemplate": "%{customdata}<br>%{y:,} sends<extra></extra>",
    }
    named = [("p50", marks.p50, "right"), ("p99", marks.p99, "left")]
    lines = [(name, value, side) for name, value, side in named if math.isfinite(value) and value > 0]
    places = [math.log10(value) for _, value, _ in lines]
    start, end = min([logs[0][0], *places]), max([logs[-1][1], *places])
    room = 0.14 * (end - start)  # for the words beside the lines
    ticks = _ticks(start, end)
    return frame.figure(
        [bars],
        320,
        bargap=0,
        hovermode="closest",
        shapes=[_line(place) for place in places],
        annotations=[
            _words(f"{name} {text.milliseconds(value)}", math.log10(value), side) for name, value, side in lines
        ],
        xaxis=frame.axis(
            "provider's round trip (logarithmic)",
            range=[start - room, end + room],
            tickvals=[math.log10(tick) for tick in ticks],
            ticktext=[text.milliseconds(tick) for tick in ticks],
            showgrid=False,
        ),
        yaxis=frame.axis("sends", rangemode="tozero", tickformat="~s"),
    )


def _bins(rows: Sequence[LatencyBin]) -> list[Bin]:
    """Each bin with its lower edge; the first begins at half its upper edge, an endless last one at twice its lower."""
    bins: list[Bin] = []
    for row in sorted(rows, key=lambda row: row.upper_ms):
        low = bins[-1][1] if bins else (row.upper_ms / 2 if math.isfinite(row.upper_ms) else 1.0)
        high = row.upper_ms if math.isfinite(row.upper_ms) else low * 2
        if high > low > 0:
            bins.append((low, high, row.n))
    return bins


def _trimmed(bins: list[Bin]) -> list[Bin]:
    """Without the empty bins at both ends."""
    filled = [place for place, (_, _, n) in enumerate(bins) if n]
    return bins[filled[0] : filled[-1] + 1] if filled else []


def _ticks(start: float, end: float) -> list[float]:
    """1, 2, 5 within a short range of powers of ten, the powers alone in a long one."""
    steps = (1, 2, 5) if end - start < 2.5 else (1,)
    powers = range(math.floor(start) - 1, math.ceil(end) + 1)
    return [10.0**power * step for power in powers for step in steps]


def _line(place: float) -> dict[str, Any]:
    line = {"color": "--ink", "width": 1.5, "dash": "dot"}
    return {"type": "line", "x0": place, "x1": place, "y0": 0, "y1": 1.04, "yref": "paper", "line": line}


def _words(words: str, place: float, side: str) -> dict[str, Any]:
    """Beside the line, above the bars: the median's to the left, so that the two never meet."""
    return {
        "text": words,
        "x": place,
        "y": 1.0,
        "yref": "paper",
        "xanchor": side,
        "yanchor": "bottom",
        "xshift": -5 if side == "right" else 5,
        "showarrow": False,
        "font": {"size": 12, "color": "--ink"},
    }
