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
    claims: Annotated[int, typer.Option(min=10_000, max=50_000_000, help="Claims, over all rounds")] = 2_000_000,
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Alternating rounds")] = 5,
    grow_to: Annotated[
        int, typer.Option(min=0, max=100_000_000, help="Claims up to which memory is watched; 0: not at all")
    ] = 20_000_000,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as JSON")] = None,
) -> None:
    """Claims a second and bytes a claim, beside pipelined SET NX EX and redis-benchmark's HSET."""
    import msgspec
    from rich.console import Console

    from infra.bench.gate import bench_gate
    from infra.stack.stack import Stack
    from shared.settings import load_settings

    console = Console(highlight=False)
    stack = Stack(load_settings().state_dir / "bench")
    console.print("starting a Valkey of the bench's own")
    try:
        stack.up(parts=("valkey",))
        figures = asyncio.run(bench_gate(stack.settings(), claims, rounds, grow_to, console.print))
    finally:
        stack.remove()
    for name, found in (("sparse", figures.sparse), ("dense", figures.dense)):
        console.print(
            f"{name}: ours {found.ours.claims_per_s:,.0f} claims/s, {found.ours.bytes_per_claim} B a claim; "
            f"SET NX EX {found.baseline.claims_per_s:,.0f}/s, {found.baseline.bytes_per_claim} B; "
            f"limit {found.limit.ops_per_s:,.0f}/s ({found.limit.what})\n"
            f"  ratio to baseline {found.ratio_to_baseline}, bytes {found.bytes_ratio_to_baseline}, "
            f"to the limit {found.ratio_to_limit}; peak RSS {found.peak_rss_mb} MB"
        )
    for what, latency in (("claim", figures.single_claim_at_1000_per_s), ("PING", figures.ping_at_1000_per_s)):
        console.print(f"a single {what} at 1,000/s: p50 {latency.p50_ms} ms, p99 {latency.p99_ms} ms")
    if json_file:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
