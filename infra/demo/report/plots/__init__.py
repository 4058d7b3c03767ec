"""The page's plots, by the name of the place where each is drawn."""

from __future__ import annotations

from infra.demo.report.data import Series, Summary
from infra.demo.report.plots.frame import Figure
from infra.demo.report.plots.heat import local_hours
from infra.demo.report.plots.hours import by_hour
from infra.demo.report.plots.latency import histogram
from infra.demo.report.plots.ranked import by_zone, denials

__all__ = ["Figure", "all_plots"]


def all_plots(summary: Summary, series: Series) -> dict[str, Figure | None]:
    """None stands for a plot that has nothing to show."""
    return {
        "hours": by_hour(series.sends_by_hour),
        "heat": local_hours(series.by_local_hour),
        "zones": by_zone(series.by_zone),
        "denials": denials(series.denials),
        "latency": histogram(series.latency, summary.latency_ms),
    }
