"""The demo's report on the terminal."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from infra.demo.report import Summary, summary_table
from infra.demo.report.data import DeviceCounts, Latency

GOOD = Summary(
    users=1000,
    active=200,
    silent=800,
    events=5000,
    dead_letters=0,
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
    lost=0,
    latency_ms=Latency(8.5, 1240.0),
    seconds=20.0,
    setup_seconds=9.5,
    simulated_hours=48,
    started_at="2026-03-01T00:00:00+00:00",
    audit_holds=True,
    problems=[],
)


def said(summary: Summary) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(summary_table(summary))
    return console.export_text()


def test_both_equations_stand_there_with_their_marks() -> None:
    words = " ".join(said(GOOD).replace("│", "").split())
    assert "130 = 30 + 100 ✓" in words
    assert "100 = 90 + 4 + 3 + 2 + 1 ✓" in words


def test_the_witness_and_the_latency_have_their_units() -> None:
    words = " ".join(said(GOOD).split())
    assert "shown twice 0 ✓ outside window 0 ✓" in words
    assert "p50 8.5 ms, p99 1.24 s" in words
    assert "48 simulated hours in 20 s, after 9.5 s of setup" in words
    assert "Sun 1 Mar 2026, 00:00 UTC" in words


def test_an_equation_that_does_not_hold_says_so() -> None:
    words = " ".join(said(msgspec.structs.replace(GOOD, delivered=89)).split())
    assert "100 ≠ 89 + 4 + 3 + 2 + 1 ✗" in words


@pytest.mark.parametrize(
    "change",
    [{"lost": 1}, {"audit_holds": False}, {"devices": DeviceCounts(1, 0, 90)}, {"problems": ["something"]}],
)
def test_a_broken_promise_is_marked(change: dict[str, object]) -> None:
    assert "✗" not in said(GOOD)
    assert "Surnia demo ✗" in said(msgspec.structs.replace(GOOD, **change))


def test_large_numbers_stay_whole_in_eighty_columns() -> None:
    n = 87_654_321
    large = msgspec.structs.replace(
        GOOD, candidates=2 * n, granted=n, delivered=n, by_kind={"abandoned_lesson": n}, denied={"long_" * 9: n}
    )
    lines = said(large).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.count(f"{n:,}") for line in lines) == 6


def test_the_rarest_reasons_are_counted_together() -> None:
    words = " ".join(said(msgspec.structs.replace(GOOD, denied={f"reason_{n}": n for n in range(1, 11)})).split())
    assert "reason_10 10" in words
    assert "3 others 6" in words


def test_an_empty_run_is_neither_good_nor_bad() -> None:
    nothing = dict.fromkeys(("candidates", "granted", "delivered", "expired", "failed", "dropped", "in_flight"), 0)
    empty = msgspec.structs.replace(GOOD, denied={}, by_path={}, by_kind={}, started_at="", **nothing)
    assert "Surnia demo –" in said(empty)


def test_nothing_from_outside_is_taken_for_markup() -> None:
    assert "[bold]x[/bold]" in said(msgspec.structs.replace(GOOD, by_path={"[bold]x[/bold]": 1}, problems=["[/]"]))
