"""Documentation, alert rules and dashboard name metrics that the workers have, and all of them are documented."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operations.md").read_text()
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "infra/alerts/surnia.rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
PANELS: list[dict[str, Any]] = json.loads((ROOT / "infra/dashboards/surnia.json").read_text())["panels"]

MADE = re.compile(
    r"\b(Counter|Gauge|Histogram|BatchHistogram|CounterMetricFamily|GaugeMetricFamily)\(\s*\"(surnia_\w+)\""
)
NAMED = re.compile(r"\bsurnia_[a-z_]+")


def series() -> dict[str, str]:
    """Name as Prometheus has it -> kind, of all that the code makes."""
    found = {}
    for folder in ("shared", "stream"):
        for file in (ROOT / folder).rglob("*.py"):
            for kind, name in MADE.findall(file.read_text()):
                counter = kind.startswith("Counter")
                found[name + "_total" * counter] = (
                    "histogram" if "Histogram" in kind else kind.removesuffix("MetricFamily")
                )
    return found


SERIES = series()
EXPRESSIONS = [(rule["alert"], rule["expr"]) for rule in RULES] + [
    (panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]
]


def documented() -> dict[str, set[str]]:
    """Name -> labels, of the page's table."""
    rows = re.findall(r"^\| `(surnia_\w+)(?:\{([a-z_, ]*)\})?` \|", PAGE, re.MULTILINE)
    return {name: {each.strip() for each in labels.split(",") if each.strip()} for name, labels in rows}


def test_every_metric_of_the_code_is_documented_and_no_other() -> None:
    assert set(documented()) == set(SERIES)


@pytest.mark.parametrize("name", SERIES)
def test_names_are_prometheus_own_way(name: str) -> None:
    counts = SERIES[name] == "Counter"
    assert name.endswith("_total") == counts
    assert not re.search(r"_(ms|millis|minutes|kb|count|sum|bucket)(_|$)", name)


@pytest.mark.parametrize(("of", "expression"), EXPRESSIONS, ids=[f"{n}-{of}" for n, (of, _) in enumerate(EXPRESSIONS)])
def test_an_expression_names_what_is_there(of: str, expression: str) -> None:
    names = NAMED.findall(expression)
    assert names
    labels: set[str] = {"le"}
    for name in names:
        base = re.sub(r"_(bucket|count|sum)$", "", name)
        known = name if name in SERIES else base
        assert known in SERIES, f"{of}: {name}"
        assert known == name or SERIES[known] == "histogram"
        labels |= documented()[known]
    asked = {each.strip() for by in re.findall(r"\bby \(([^)]*)\)", expression) for each in by.split(",")}
    assert asked <= labels, f"{of}: {asked - labels}"
    assert expression.count("(") == expression.count(")")


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_a_rule_says_what_it_means_and_where_to_read_on(rule: dict[str, Any]) -> None:
    notes = rule["annotations"]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert notes["summary"]
    assert notes["description"].endswith(".")
    page, _, anchor = notes["runbook"].partition("#")
    assert page == "docs/operations.md"
    assert anchor in anchors()
    told = set(re.findall(r"\$labels\.(\w+)", notes["summary"]))
    asked = {each.strip() for by in re.findall(r"\bby \(([^)]*)\)", rule["expr"]) for each in by.split(",")}
    assert told <= asked | {"instance"}


def test_alerts_have_names_of_their_own() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)


def anchors() -> set[str]:
    """The page's headings, as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
