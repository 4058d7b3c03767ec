"""`surnia bench NAME --json FILE`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the benches."""
    benches = typer.Typer(help="Measure, on servers of the bench's own.", no_args_is_help=True)
    benches.command("gate")(gate)
    # A second name is what makes Typer keep the first: with one command alone it would swallow "gate".
    benches.callback()(_benches)
    app.add_typer(benches, name="bench")


def _benches() -> None:
    """Measure, on servers of the bench's own."""


def gate(
    users: Annotated[int, typer.Option(min=1_000, max=10_000_000, help="Claims a round")] = 500_000,
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Alternating rounds")] = 5,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as JSON")] = None,
) -> None:
    """Claims a second and bytes a claim, beside pipelined SET NX EX."""
    import msgspec
    from rich.console import Console

    from infra.bench.gate import bench_gate
    from infra.stack.stack import Stack
    from shared.settings import load_settings

    console = Console()
    stack = Stack(load_settings().state_dir / "bench")
    console.print("starting a Valkey of the bench's own")
    try:
        stack.up(parts=("valkey",))
        figures = asyncio.run(bench_gate(stack.settings(), users, rounds))
    finally:
        stack.remove()
    for name, rate in figures.median_rates.items():
        size = figures.bytes_an_operation[name]
        console.print(f"{name}: {rate:,.0f} claims/s (median of {rounds} rounds), {size:.1f} bytes a claim")
    for name, ratio in figures.ratios.items():
        console.print(f"{figures.ours} to {name}: {ratio:.2f} times as fast")
    console.print(f"peak RSS of the client: {figures.peak_rss_mb:,.0f} MB")
    if json_file:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
