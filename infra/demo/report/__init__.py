"""The demo's numbers as three things: `demo.json`, a page that stands alone, and a table for the terminal."""

from __future__ import annotations

from pathlib import Path

import msgspec

from infra.demo.report.data import Series, Summary
from infra.demo.report.page import write_page
from infra.demo.report.table import summary_table

__all__ = ["Series", "Summary", "summary_table", "write_page", "write_report"]


def write_report(folder: Path, summary: Summary, series: Series) -> tuple[Path, Path]:
    """Write `demo.json` and `index.html` into the folder, which is made if need be; give both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = folder / "demo.json"
    numbers.write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
    return numbers, write_page(folder, summary, series)
