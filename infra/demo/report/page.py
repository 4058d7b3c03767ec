"""The page: one HTML file that loads nothing from anywhere, and reads well in light, dark and on a phone."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from infra.demo.report import text
from infra.demo.report.data import OutcomeRow, Series, Summary
from infra.demo.report.plots import Figure, all_plots
from infra.demo.report.plots.frame import in_order

HERE = Path(__file__).parent
RESULTS = ("delivered", "expired", "failed", "dropped", "in flight", "denied")


class _Group(NamedTuple):
    """What became of the candidates of one path and kind; `whole`: how many those are."""

    path: str
    kind: str
    whole: int
    rows: list[OutcomeRow]


def write_page(folder: Path, summary: Summary, series: Series) -> Path:
    """Write `index.html` into the folder, which is made if need be. About 5 MB: plotly's script is in it."""
    # slow to import, and only this needs them
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "count": text.count,
        "milliseconds": text.milliseconds,
        "moment": text.moment,
        "seconds": text.seconds,
        "share": text.share,
        "words": text.words,
    }
    plots = {name: figure for name, figure in all_plots(summary, series).items() if figure is not None}
    page = environment.get_template("page.html.j2").render(
        summary=summary,
        flows=_flows(summary),
        plots=plots,
        figures=Markup(script_safe(plots)),  # noqa: S704  # escaped for a script by script_safe
        outcomes=_outcomes(series.outcomes),
        results=RESULTS,
        plotly=Markup(get_plotlyjs()),  # noqa: S704  # the library's own source
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


def script_safe(figures: dict[str, Figure]) -> str:
    """JSON that cannot end the script element it stands in."""
    encoded = msgspec.json.encode(figures).decode()
    return encoded.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _flows(summary: Summary) -> list[dict[str, Any]]:
    """The two equations; the second takes up the first one's last term."""
    terms = {
        "delivered": summary.delivered,
        "expired": summary.expired,
        "failed": summary.failed,
        "dropped": summary.dropped,
        "in flight": summary.in_flight,
    }
    return [
        {
            "whole": ("candidates", summary.candidates),
            "terms": {"denied": summary.denials, "granted": summary.granted},
            "holds": summary.candidates_add_up,
        },
        {"whole": ("granted", summary.granted), "terms": terms, "holds": summary.granted_adds_up},
    ]


def _outcomes(rows: list[OutcomeRow]) -> list[_Group]:
    """Rows in reading order: ours and the most numerous first."""
    groups: defaultdict[tuple[str, str], list[OutcomeRow]] = defaultdict(list)
    for row in rows:
        groups[row.path, row.kind].append(row)
    wholes = {name: sum(row.n for row in its) for name, its in groups.items()}
    paths = in_order(path for path, _ in groups)
    ranked = sorted(groups, key=lambda name: (paths.index(name[0]), -wholes[name], name))
    return [_Group(*name, wholes[name], sorted(groups[name], key=_place)) for name in ranked]


def _place(row: OutcomeRow) -> tuple[int, int]:
    return RESULTS.index(row.result) if row.result in RESULTS else len(RESULTS), -row.n
