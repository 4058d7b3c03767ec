"""One demo from start to report."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from batch.users.load import LoadCounts, load
from batch.users.population import Population
from infra.demo.collect import collect
from infra.demo.day import Day
from infra.demo.drive import Drive, State
from infra.demo.live import View
from infra.demo.report import write_report
from infra.demo.report.data import Series, Summary
from infra.demo.report.table import summary_table
from infra.demo.world import World
from shared.settings import load_settings
from stream.due.rebuild import rebuild
from stream.runtime import Runtime

STEP_SECONDS = 900.0
"""How far the clock is turned at a time: within a step, events and reminders meet as they come."""


def run(console: Console, *, users: int, hours: int, folder: Path, start: float, seed: int) -> Summary:
    """Set up, simulate, count, write the report, end everything."""
    began = time.monotonic()
    state_dir = load_settings().state_dir / "demo"
    with console.status("setting up") as status:

        def say(what: str) -> None:
            said = f"{what} ({time.monotonic() - began:.0f} s)"
            status.update(said)
            if not console.is_terminal:
                console.print(said, highlight=False)

        population = Population(users, seed, start, load_settings())
        day = Day(state_dir / "events", start, hours, STEP_SECONDS, seed)
        with World(state_dir, start, users, say, lambda world: day.write(population, world.devices_file)) as world:
            say(f"loading {users:,} users")
            loaded = asyncio.run(load(world.settings, population))
            world.serve()
            say("filling the due index")
            asyncio.run(_fill_due_index(world))
            status.stop()
            setup = time.monotonic() - began
            console.print(f"set up in {setup:.1f} s: {loaded.users:,} users, {loaded.devices:,} devices")
            summary, series = asyncio.run(_drive(world, day, start, hours, console, loaded, setup))
            status.start()
            say("stopping")
    console.print(summary_table(summary))
    for path in write_report(folder, summary, series):
        console.print(f"report: {path}", highlight=False, soft_wrap=True)
    return summary


async def _fill_due_index(world: World) -> None:
    runtime = Runtime.of(world.settings)
    await runtime.open()
    try:
        await rebuild(runtime)
    finally:
        await runtime.close()


async def _drive(
    world: World, day: Day, start: float, hours: int, console: Console, loaded: LoadCounts, setup: float
) -> tuple[Summary, Series]:
    state = State(now=start, end=start + hours * 3600)
    began = time.monotonic()
    view = asyncio.create_task(View(world, state, start, console).run())
    try:
        await Drive(world, day, STEP_SECONDS, state).run()
    finally:
        view.cancel()
        with suppress(asyncio.CancelledError):
            await view
    return await collect(world, start, state, loaded, time.monotonic() - began, setup)
