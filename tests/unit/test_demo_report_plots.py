"""The report's plots: figures that plotly accepts, whatever the numbers are."""

from __future__ import annotations

import json
import re

import msgspec
import plotly.graph_objects

from infra.demo.report import Series, Summary
from infra.demo.report.data import DenialRow, DeviceCounts, HourRow, Latency, LatencyBin, LocalHourRow, ZoneRow
from infra.demo.report.plots import all_plots

NOTHING = Summary(
    *(0,) * 7, {}, *(0,) * 5, {}, {}, DeviceCounts(0, 0, 0), 0, Latency(0.0, 0.0), 0.0, 0.0, 0, "", True, []
)
GOOD = msgspec.structs.replace(NOTHING, latency_ms=Latency(8.5, 1240.0))


def rows(words: str = "practice") -> Series:
    return Series(
        sends_by_hour=[HourRow("2026-03-01T08:00:00+00:00", words, words, 5)],
        by_zone=[ZoneRow(words, 5.75, words, 5)],
        by_local_hour=[LocalHourRow(5.75, 3, 5), LocalHourRow(-9.5, 23, 1)],
        denials=[DenialRow(words, words, 30)],
        latency=[LatencyBin(10.0, 0), LatencyBin(20.0, 80), LatencyBin(float("inf"), 10)],
    )


def test_no_rows_make_no_plots() -> None:
    assert set(all_plots(NOTHING, Series()).values()) == {None}


def test_hostile_words_reach_plotly_as_text_not_as_its_markup() -> None:
    figures = all_plots(GOOD, rows("<b>x</b>"))
    encoded = msgspec.json.encode(figures["zones"]).decode()
    trace = json.loads(encoded)["data"][0]
    assert trace["y"] == ["&lt;b&gt;x&lt;/b&gt; +05:45"]


def test_plotly_knows_every_property_that_the_figures_set() -> None:
    figures = all_plots(GOOD, rows())
    for figure in figures.values():
        # colours are names of CSS variables until the page fills them in
        assert figure
        plotly.graph_objects.Figure(json.loads(re.sub(r'"--[a-z0-9-]+"', '"red"', json.dumps(figure))))


def test_rows_of_zero_make_no_plots() -> None:
    zero = Series(
        [HourRow("2026-03-01T08:00:00Z", "stream", "practice", 0)],
        [ZoneRow("Asia/Tokyo", 9, "stream", 0)],
        [LocalHourRow(9, 1, 0)],
        [DenialRow("stream", "daily_cap", 0)],
        [LatencyBin(10, 0)],
    )
    assert set(all_plots(NOTHING, zero).values()) == {None}


def test_a_single_send_can_be_drawn() -> None:
    one = Series(by_local_hour=[LocalHourRow(0, 12, 1)], latency=[LatencyBin(5, 1)])
    figures = all_plots(msgspec.structs.replace(GOOD, latency_ms=Latency(4, 4)), one)
    assert figures["heat"]
    assert figures["latency"]
    low, high = figures["latency"]["layout"]["xaxis"]["range"]
    assert low < high


def test_a_night_edge_is_broken_where_it_wraps_round_midnight_utc() -> None:
    figure = all_plots(GOOD, Series(by_local_hour=[LocalHourRow(offset, 12, 1) for offset in range(-11, 15)]))["heat"]
    assert figure
    _, begins, ends = figure["data"]
    for edge in (begins, ends):
        steps = [(a, b) for a, b in zip(edge["x"], edge["x"][1:], strict=False) if a is not None and b is not None]
        assert all(b <= a for a, b in steps)
        assert None in edge["x"]
