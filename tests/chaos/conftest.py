"""Which seeds run, the world they run in, and the table in the end."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path

import pytest

from tests.chaos.checks import Count
from tests.chaos.drive import Row
from tests.chaos.flow import Flow
from tests.chaos.world import World

IN_EVERY_TEST_RUN = "3,8,17"
"""Seeds that `make test` runs: they kill a worker of each role, the servers but Kafka, and none needs Airflow."""
IN_EVERY_TEST_RUN_MINUTES = 1 / 6
"""Of the soak: a few seconds in which a worker is killed once."""
KEPT = Path(".surnia") / "chaos"
"""Logs of the seeds that failed, a folder each."""
ROW = "chaos"
"""The property of a test's report that holds its line of the table."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos-seeds", "--chaos-seed", default=IN_EVERY_TEST_RUN, help="seeds, such as 1-50 or 3,17")
    parser.addoption(
        "--soak-minutes", type=float, default=IN_EVERY_TEST_RUN_MINUTES, help="how long test_soak.py lasts"
    )
    parser.addoption("--soak-rate", type=int, default=None, help="its events a second; half of what a worker handles")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "minutes" in metafunc.fixturenames:
        minutes = metafunc.config.getoption("soak_minutes", IN_EVERY_TEST_RUN_MINUTES)
        lasting = pytest.param(minutes, marks=pytest.mark.timeout(minutes * 60 + 600), id=f"{minutes:.3g}")
        metafunc.parametrize("minutes", [lasting])
    if "seed" in metafunc.fixturenames:
        # Asked for by name: where pytest is given a folder above this one, it has not read the option.
        text = metafunc.config.getoption("chaos_seeds", IN_EVERY_TEST_RUN)
        metafunc.parametrize("seed", sorted(seeds_of(text)))


def seeds_of(text: str) -> set[int]:
    """The seeds that "1-3,17" names. In order, since the clock of a world only goes on."""
    ranges = [part.partition("-") for part in text.split(",")]
    return {seed for first, _, last in ranges for seed in range(int(first), int(last or first) + 1)}


class Worlds:
    """The world that stands: until a seed fails, then the next one gets a new one."""

    def __init__(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self._folders = tmp_path_factory
        self._standing: tuple[World, Flow] | None = None
        self._exit = ExitStack()

    def standing(self) -> tuple[World, Flow]:
        if self._standing is None:
            world = self._exit.enter_context(World(self._folders.mktemp("world")))
            flow = Flow(world)
            self._exit.callback(flow.close)
            self._standing = world, flow
        return self._standing

    def give_up(self, seed: int) -> Path:
        """Keep the logs of a world in which a seed failed, and end it; where they are."""
        kept = KEPT / f"seed-{seed}"
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        if self._standing:
            folder = self._standing[0].folder
            self.close()
            shutil.copytree(folder / "logs", kept / "logs")
            for name in ("timeline.log", "journal", "simulator.log", "airflow/runner.log"):
                if (folder / name).exists():
                    shutil.copy(folder / name, kept)
        return kept

    def close(self) -> None:
        self._standing = None
        self._exit.close()


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    worlds = Worlds(tmp_path_factory)
    yield worlds
    worlds.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for name in ("passed", "failed") for report in terminalreporter.stats.get(name, ())]
    rows = [Row(**row) for report in reports for name, row in report.user_properties if name == ROW]
    if rows:
        terminalreporter.section("chaos")
        for line in table(sorted(rows, key=lambda row: row.seed)):
            terminalreporter.write_line(line)


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The seeds as lines of a table, and their sums."""
    names = [field.name for field in fields(Count)]
    widths = {name: max(7, len(name)) for name in names}
    heads = " ".join(f"{name.replace('_', ' '):>{widths[name]}}" for name in names)
    yield f"seed {heads}  seconds  faults"
    for row in rows:
        numbers = " ".join(f"{row.count[name]:>{widths[name]}}" for name in names)
        yield f"{row.seed:>4} {numbers}  {row.seconds:>7.1f}  {row.faults}{' FAILED' if row.problems else ''}"
    sums = " ".join(f"{sum(row.count[name] for row in rows):>{widths[name]}}" for name in names)
    yield f"{'all':>4} {sums}  {sum(row.seconds for row in rows):>7.1f}"
