"""The terminal's words: parts at their busiest hour, providers against quotas, totals."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from infra.demo.report import text
from infra.simulate.figures import Peak, Quota, Result
from shared.terminal import size


def tables(result: Result) -> RenderableType:
    """All of it; the tables fit 80 columns."""
    mix = result.mix
    head = Text.assemble(
        (f"{text.count(mix.users)} users", "bold"),
        f", {mix.active:.0%} of them active, {mix.days} days from {mix.start:%a %d %b %Y} 00:00 UTC; ladder "
        f"{', '.join(map(str, mix.ladder))}, send hour {mix.send_hour}:00 local, spread over {mix.spread_minutes} min",
    )
    tail = Text(f"simulated in {text.seconds(result.seconds)}, peak RSS {result.peak_rss_mb:,.0f} MB")
    return Group(
        head, "", _peaks(result), "", _quotas(result.quotas), "", *_memory(result), "", _assumptions(result), tail
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", header_style="dim", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.caption_justify = "left"
    for n, column in enumerate(columns):
        table.add_column(column, justify="right" if n else "left", no_wrap=True)
    return table


def _peaks(result: Result) -> Table:
    table = _table(
        "Parts at their busiest hour",
        "part",
        f"in {result.mix.days} days",
        "an hour",
        "a second",
        "when (UTC)",
        "cores",
    )
    for peak in result.peaks:
        table.add_row(
            f"{peak.part}: {peak.what}",
            text.count(peak.total),
            text.count(peak.per_hour),
            f"{peak.per_s:,.0f}",
            _when(peak),
            _cores(result, peak),
        )
    table.caption = f"all measured parts together {result.cores:,.1f} cores at the busiest hour, evenly loaded"
    return table


def _when(peak: Peak) -> str:
    return peak.hour[5:16].replace("T", " ")


def _cores(result: Result, peak: Peak) -> str:
    measured = any(rate.part == peak.part and rate.per_s for rate in result.rates)
    return f"{peak.cores:,.2f}" if measured else text.DASH


def _quotas(quotas: list[Quota]) -> Table:
    table = _table("Providers", "provider", "pushes", "peak/s", "quota/s", "used", "largest burst", "drained in")
    for one in quotas:
        quota = text.count(one.per_s) if one.per_s else "none"
        drained = "> 1 h" if one.longest_drain_seconds < 0 else text.seconds(one.longest_drain_seconds)
        over = one.share_of_quota >= 1 or one.longest_drain_seconds < 0
        table.add_row(
            one.provider,
            text.count(one.total),
            f"{one.peak_per_s:,.0f}",
            quota,
            f"{one.share_of_quota:.0%}" if one.per_s else text.DASH,
            text.count(one.largest_burst),
            drained if one.per_s else text.DASH,
            style="red" if over else "",
        )
    return table


def _memory(result: Result) -> list[str]:
    totals, burst = result.totals, result.burst
    cores = ", ".join(f"{part} {n:,.1f}" for part, n in burst.cores.items())
    return [
        f"largest burst: {text.count(burst.due)} streak savers at {burst.hour[5:16].replace('T', ' ')}, "
        f"{text.count(burst.pushes)} pushes; out within {burst.within_seconds // 60} minutes with cores: {cores}",
        f"gate {size(int(result.gate_peak_mb * 1e6))}, due index {size(int(result.due_peak_mb * 1e6))} at most",
        f"{text.count(totals['claims'])} claims, {text.count(totals['denied'])} denials, "
        f"{text.count(totals['sends'])} sends, {text.count(totals['ledger_rows'])} rows of the ledger",
    ]


def _assumptions(result: Result) -> Group:
    lines = [Text(f"· {line}", "dim") for line in result.assumptions]
    rates = [
        Text(f"· {rate.part}: {text.count(rate.per_s)} {rate.what}/s a core, {rate.source}", "dim")
        for rate in result.rates
    ]
    return Group(Text("Assumed", "bold"), *lines, Text("Measured", "bold"), *rates)
