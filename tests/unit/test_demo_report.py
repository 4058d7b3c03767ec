"""The demo's report: what demo.json holds, and a page that loads nothing and believes nobody."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

import infra.demo.report
from infra.demo.report import Series, Summary, write_page, write_report
from infra.demo.report.data import (
    DenialRow,
    DeviceCounts,
    HourRow,
    Latency,
    LatencyBin,
    LocalHourRow,
    OutcomeRow,
    ZoneRow,
)

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>&\"'"
KEYS = [
    "users",
    "active",
    "silent",
    "events",
    "dead_letters",
    "candidates",
    "granted",
    "denied",
    "delivered",
    "expired",
    "failed",
    "dropped",
    "in_flight",
    "by_path",
    "by_kind",
    "devices",
    "lost",
    "latency_ms",
    "seconds",
    "setup_seconds",
    "simulated_hours",
    "started_at",
    "audit_holds",
    "problems",
]

NOTHING = Summary(
    *(0,) * 7, {}, *(0,) * 5, {}, {}, DeviceCounts(0, 0, 0), 0, Latency(0.0, 0.0), 0.0, 0.0, 0, "", True, []
)
GOOD = msgspec.structs.replace(
    NOTHING,
    users=1000,
    candidates=130,
    granted=100,
    denied={"practised_today": 30},
    delivered=90,
    expired=4,
    failed=3,
    dropped=2,
    in_flight=1,
    by_path={"stream": 60, "batch": 40},
    by_kind={"practice": 60, "comeback": 40},
    devices=DeviceCounts(0, 0, 90),
    latency_ms=Latency(12.5, 1240.0),
    started_at="2026-03-01T00:00:00+00:00",
)


def rows(words: str = "practice") -> Series:
    return Series(
        sends_by_hour=[HourRow("2026-03-01T08:00:00+00:00", words, words, 5)],
        by_zone=[ZoneRow(words, 5.75, words, 5)],
        by_local_hour=[LocalHourRow(5.75, 3, 5), LocalHourRow(-9.5, 23, 1)],
        denials=[DenialRow(words, words, 30)],
        latency=[LatencyBin(10.0, 0), LatencyBin(20.0, 80), LatencyBin(float("inf"), 10)],
        outcomes=[OutcomeRow(words, words, words, words, 90)],
    )


class Page(HTMLParser):
    """The elements of a page, and the words in it outside scripts and styles."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.raw: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.cdata_elem:
            self.raw.append(data)
        else:
            self.words += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def test_demo_json_has_the_agreed_keys_in_their_order(tmp_path: Path) -> None:
    numbers, page = write_report(tmp_path / "new", GOOD, Series())
    assert (numbers.name, page.name) == ("demo.json", "index.html")
    assert list(json.loads(numbers.read_text())) == KEYS
    assert msgspec.json.decode(numbers.read_bytes(), type=Summary) == GOOD


def test_the_page_loads_nothing_from_outside(tmp_path: Path) -> None:
    page = Page(write_page(tmp_path, GOOD, rows()))
    loaded = [
        value or ""
        for tag, attributes in page.elements
        for name, value in attributes.items()
        if name in {"src", "srcset", "data", "poster"} or (tag == "link" and name == "href")
    ]
    assert [value for value in loaded if not value.startswith("data:")] == []
    policy = next(attributes["content"] for tag, attributes in page.elements if "http-equiv" in attributes) or ""
    assert "default-src 'none'" in policy
    assert "http" not in policy
    styles = Path(infra.demo.report.__file__).with_name("page.css").read_text()
    assert not re.search(r"@import|url\(", styles)


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    summary = msgspec.structs.replace(
        GOOD,
        denied={HOSTILE: 30},
        by_path={HOSTILE: 100},
        by_kind={HOSTILE: 100},
        started_at=HOSTILE,
        problems=[HOSTILE],
    )
    page = Page(write_page(tmp_path, summary, rows(HOSTILE)))
    plain = Page(write_page(tmp_path, GOOD, rows()))
    assert (page.count("script"), page.count("img")) == (plain.count("script"), 0)
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert HOSTILE in page.words


def test_the_page_s_figures_survive_their_escaping(tmp_path: Path) -> None:
    html = write_page(tmp_path, GOOD, rows(HOSTILE)).read_text(encoding="utf-8")
    found = re.search(r'id="figures">(.*?)</script>', html, re.DOTALL)
    assert found
    assert set(json.loads(found[1])) == {"hours", "heat", "zones", "denials", "latency"}


def test_nothing_at_all_is_reported_without_plots(tmp_path: Path) -> None:
    _, path = write_report(tmp_path, NOTHING, Series())
    assert "nothing to judge" in Page(path).words


def test_the_verdict_is_good_only_when_everything_holds(tmp_path: Path) -> None:
    assert GOOD.holds
    assert "Every promise held" in Page(write_page(tmp_path, GOOD, Series())).words


@pytest.mark.parametrize(
    "change",
    [
        {"candidates": 131},
        {"delivered": 89},
        {"lost": 1},
        {"audit_holds": False},
        {"devices": DeviceCounts(1, 0, 90)},
        {"devices": DeviceCounts(0, 1, 90)},
        {"problems": ["something"]},
    ],
)
def test_any_broken_promise_is_noticed(change: dict[str, object]) -> None:
    assert not msgspec.structs.replace(GOOD, **change).holds


def test_a_broken_promise_is_what_the_page_says_first(tmp_path: Path) -> None:
    broken = msgspec.structs.replace(GOOD, devices=DeviceCounts(3, 0, 90))
    words = Page(write_page(tmp_path, broken, Series())).words
    assert "broke a promise" in words
    assert "Every promise held" not in words
