"""The page's plots: load by the hour."""

from __future__ import annotations

from typing import Any

from infra.demo.report.plots import frame
from infra.simulate.figures import PROVIDERS, Result

COLOURS = ("--stream", "--batch", "--delivered", "--dropped", "--expired", "--failed")


def all_plots(result: Result) -> dict[str, frame.Figure]:
    """By the name of the place where each is drawn."""
    hours = result.hours
    x = [hour.hour.replace("T", " ").rstrip("Z") for hour in hours]
    kinds, parts = list(hours[0].sends), list(hours[0].cores)
    return {
        "events": _stack(x, {"events": [h.events for h in hours]}, "events an hour"),
        "sends": _stack(x, {k: [h.sends[k] for h in hours] for k in kinds}, "sends an hour"),
        "due": _stack(x, {k: [h.due[k] for h in hours] for k in kinds}, "due an hour"),
        "claims": _stack(x, {k: [h.claims[k] for h in hours] for k in ("stream", "batch")}, "claims an hour"),
        "providers": _lines(
            x, {p: [h.push_peak_per_s[p] for h in hours] for p in PROVIDERS}, "pushes in the busiest second"
        ),
        "bursts": _lines(x, {p: [h.streak_burst[p] for h in hours] for p in PROVIDERS}, "streak savers due on the dot"),
        "memory": _lines(
            x, {"gate": [h.gate_mb for h in hours], "due index": [h.due_mb for h in hours]}, "MB of Redis memory"
        ),
        "cores": _stack(x, {p: [h.cores[p] for h in hours] for p in parts}, "cores"),
    }


def _stack(x: list[str], rows: dict[str, list[Any]], unit: str) -> frame.Figure:
    return _figure(x, rows, unit, lambda n: {"stackgroup": "all", "line": {"width": 0, "color": COLOURS[n]}})


def _lines(x: list[str], rows: dict[str, list[Any]], unit: str) -> frame.Figure:
    return _figure(x, rows, unit, lambda n: {"line": {"width": 2, "color": COLOURS[n]}})


def _figure(x: list[str], rows: dict[str, list[Any]], unit: str, style: Any) -> frame.Figure:
    rows = {name: row for name, row in rows.items() if any(row)}
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": frame.label(name.replace("_", " ")),
            "x": x,
            "y": row,
            "hovertemplate": "%{x|%a %-d %b, %H:00} UTC<br>%{fullData.name}: %{y:,.4~r}<extra></extra>",
            **({"fillcolor": COLOURS[n]} if "stackgroup" in style(n) else {}),
            **style(n),
        }
        for n, (name, row) in enumerate(rows.items())
    ]
    key = [(name.replace("_", " "), COLOURS[n], "box") for n, name in enumerate(rows)]
    return frame.figure(
        traces,
        300,
        key if len(key) > 1 else (),
        hovermode="closest",
        xaxis=frame.axis("hour (UTC)", type="date", showgrid=False),
        yaxis=frame.axis(unit, rangemode="tozero", tickformat="~s"),
    )
