"""The page: one HTML file that loads nothing from anywhere; its looks are those of the demo's report."""

from __future__ import annotations

from pathlib import Path

from infra.demo.report import page as report
from infra.demo.report import text
from infra.simulate.figures import Result
from infra.simulate.plots import all_plots

HERE = Path(__file__).parent


def write_page(file: Path, result: Result) -> Path:
    """Write the page. About 5 MB: plotly's script is in it."""
    # slow to import, and only this needs them
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=FileSystemLoader([HERE, report.HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": text.count, "seconds": text.seconds}
    plots = all_plots(result)
    page = environment.get_template("simulation.html.j2").render(
        result=result,
        mix=result.mix,
        plots=plots,
        figures=Markup(report.script_safe(plots)),  # noqa: S704  # escaped for a script by script_safe
        plotly=Markup(get_plotlyjs()),  # noqa: S704  # the library's own source
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page, encoding="utf-8")
    return file
