"""The ways in which an hour is scanned: as it should be, and as accidents and impatient people do it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from random import Random

import psycopg

from infra.airflow.errors import AirflowError
from infra.airflow.runner import AirflowRunner, RunResult
from tests.chaos.world import World, wait_for

Scan = Callable[[World, datetime, datetime, Random], None]


def once(world: World, start: datetime, end: datetime, _: Random) -> None:
    """Run the hour until it succeeds; servers may be down."""
    world.until_done(*_command(start, end))


def killed_and_rerun(world: World, start: datetime, end: datetime, rng: Random) -> None:
    """kill -9 in the middle of a page, several times, then run it to its end."""
    for _ in range(rng.randint(1, 3)):
        scan = world.spawn(*_command(start, end))
        pages = _pages(world, start, end) + rng.randint(1, 80)
        wait_for(lambda n=pages, p=scan: p.poll() is not None or _pages(world, start, end) >= n, "the scan's pages")  # type: ignore[misc]  # mypy cannot infer a lambda's defaults
        with contextlib.suppress(ProcessLookupError):
            os.killpg(scan.pid, signal.SIGKILL)
        scan.communicate()
        world.say(f"scan of {start:%H:%M} killed after {_pages(world, start, end)} pages")
    once(world, start, end, rng)


def twice_at_once(world: World, start: datetime, end: datetime, rng: Random) -> None:
    """The same run by two people at the same time."""
    with ThreadPoolExecutor(2) as people:
        for done in [people.submit(once, world, start, end, rng) for _ in range(2)]:
            done.result()


def overlapping(world: World, start: datetime, end: datetime, rng: Random) -> None:
    """Half an hour more on both sides under a run id of its own, beside the hour itself."""
    margin = timedelta(minutes=30)
    with ThreadPoolExecutor(2) as people:
        wide = people.submit(once, world, start - margin, end + margin, rng)
        once(world, start, end, rng)
        wide.result()


def by_airflow_killed(world: World, start: datetime, end: datetime, rng: Random) -> None:
    """kill -9 of the process that runs the DAG's tasks in the middle of a page, then the same run from its start."""
    with AirflowRunner(world.settings) as runner, ThreadPoolExecutor(1) as aside:
        running = aside.submit(runner.run, start, end)
        pages = rng.randint(1, 80)
        wait_for(lambda: running.done() or _pages(world, start, end) >= pages, "Airflow's pages")
        runner.stop()  # kill -9 while a run is under way.
        with contextlib.suppress(AirflowError):
            running.result()
    world.say(f"Airflow's run of {start:%H:%M} killed after {_pages(world, start, end)} pages")
    with AirflowRunner(world.settings) as runner:

        def succeeded() -> RunResult | None:
            result = runner.run(start, end)
            world.say(f"Airflow's run of {start:%H:%M} ended as {result.state} {result.error}")
            return result if result.state == "success" else None

        wait_for(succeeded, "Airflow's run to succeed")


def _command(start: datetime, end: datetime) -> tuple[str, ...]:
    return "scan", "--from", f"{start:%Y-%m-%dT%H:%M}", "--to", f"{end:%Y-%m-%dT%H:%M}", "--json"


def _pages(world: World, start: datetime, end: datetime) -> int:
    """Pages of an interval that are done, as far as the database can be asked; -1 where it can't."""
    with contextlib.suppress(psycopg.OperationalError), world.database() as connection:
        row = connection.execute(
            "SELECT coalesce(sum(pages), 0) + count(*) FROM scan_checkpoints JOIN scan_runs USING (run_id) "
            "WHERE interval_start = %s AND interval_end = %s",
            (start, end),
        ).fetchone()
        return int(row[0]) if row else 0
    return -1
