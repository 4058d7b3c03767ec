"""What the plots have in common: plotly figures as plain data, drawn by the page's own script.

A colour is the name of a CSS variable of `page.css`; the script fills in the theme's value, so that one figure
serves light and dark. Plotly reads tags in labels: whatever comes from outside goes through `label`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

Figure = dict[str, Any]
Key = Sequence[tuple[str, str, str]]  # name, colour, and its sign: box, solid or dotted

PATHS = ("stream", "batch")
LONGEST_LABEL = 40
CLEAR = "rgba(0,0,0,0)"
FONT = {"family": "Inter, system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 13, "color": "--ink"}


def label(words: str) -> str:
    """Words from outside, cut to length and safe as a plotly label."""
    return escape(words if len(words) <= LONGEST_LABEL else words[: LONGEST_LABEL - 1] + "…", quote=False)


def in_order(paths: Iterable[str]) -> list[str]:
    """The paths there are: ours first, as everywhere; then what else turned up."""
    return sorted(set(paths), key=lambda path: (PATHS.index(path) if path in PATHS else len(PATHS), path))


def colour(path: str) -> str:
    """A path has the same colour on the whole page."""
    return f"--{path}" if path in PATHS else "--other"


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis with its title, unit included."""
    return {
        "title": {"text": title, "standoff": 12, "font": {"size": 12, "color": "--muted"}},
        "automargin": True,
        "fixedrange": True,
        "gridcolor": "--grid",
        "linecolor": "--line",
        "zeroline": False,
        "tickfont": {"size": 12, "color": "--muted"},
        **more,
    }


def paths_key(paths: Iterable[str]) -> Key:
    """The key of a plot whose colours are the paths."""
    return [(path, colour(path), "box") for path in paths]


def figure(data: list[dict[str, Any]], height: int, key: Key = (), **layout: Any) -> Figure:
    """Traces in the page's frame; `height` in CSS pixels. The page itself draws the key, so that it can wrap."""
    return {
        "data": data,
        "layout": {
            "height": height,
            "margin": {"l": 8, "r": 8, "t": 24, "b": 8},
            "paper_bgcolor": CLEAR,
            "plot_bgcolor": CLEAR,
            "font": FONT,
            "hoverlabel": {"bgcolor": "--card", "bordercolor": "--line", "font": FONT, "align": "left"},
            "showlegend": False,
            "dragmode": False,
            "meta": {"key": key},
            **layout,
        },
    }
