"""`surnia bench NAME --json FILE`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from infra.stack.stack import Stack


def register(app: typer.Typer) -> None:
    """Add the benches."""
    benches = typer.Typer(help="Measure, on servers of the bench's own.", no_args_is_help=True)
    benches.command("gate")(gate)
    benches.command("deliver")(deliver)
    benches.command("due")(due)
    benches.command("stream")(stream)
    benches.command("pressure")(pressure)
    benches.command("scan")(scan)
    app.add_typer(benches, name="bench")


def gate(
    claims: Annotated[int, typer.Option(min=10_000, max=50_000_000, help="Claims, over all rounds")] = 2_000_000,
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Alternating rounds")] = 5,
    grow_to: Annotated[
        int, typer.Option(min=0, max=100_000_000, help="Claims up to which memory is watched; 0: not at all")
    ] = 20_000_000,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as JSON")] = None,
) -> None:
    """Claims a second and bytes a claim, beside pipelined SET NX EX and redis-benchmark's HSET."""
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
    _write(json_file, figures)


def deliver(
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Alternating rounds")] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, max=60, help="Of a contender's turn in a round, about")] = 3.0,
    library: Annotated[list[str] | None, typer.Option(hidden=True, help="Measure these libraries alone")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as JSON")] = None,
) -> None:
    """Pushes a second: our engine, our whole path, aioapns, firebase-admin, httpx, and h2load, on one nginx."""
    import msgspec
    from rich.console import Console

    from infra.bench.cores import Cores, on
    from infra.bench.deliver.bench import LIBRARIES, bench_deliver

    console = Console(highlight=False, soft_wrap=True)
    cores = Cores.of_machine()
    with on(cores.rest), _servers(console) as stack:
        found = asyncio.run(
            bench_deliver(
                stack.state_dir, _environment(stack), cores, rounds, seconds, console.print, library or LIBRARIES
            )
        )
    figures = msgspec.to_builtins(found)
    for name in ("ours_engine", "ours_path", "ours_path_fcm", *LIBRARIES, "limit"):
        one = figures[name]
        console.print(
            f"{name}: {one['per_s']:,.0f} pushes/s, {one['cpu_us_per_push']} µs CPU a push, "
            f"peak RSS {one['peak_rss_mb']} MB, on {one['server']}"
        )
        for server, why in one["errors"].items():
            console.print(f"  could not finish on {server}: {why}", markup=False)
    console.print(f"limit is {found.limit_is}")
    for name, value in figures.items():
        if "ratio" in name or name.startswith("cores_for"):
            console.print(f"{name} {value}")
    half = found.half_load
    for what, latency in (("accepted", half.kafka_to_accepted), ("outcome in Kafka", half.kafka_to_outcome_in_kafka)):
        console.print(f"at {half.per_s:,.0f}/s, Kafka to {what}: p50 {latency.p50_ms} ms, p99 {latency.p99_ms} ms")
    _write(json_file, found)


def due(
    users: Annotated[int, typer.Option("--due", min=1_000, max=20_000_000, help="Users due in one minute")] = 200_000,
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Alternating rounds")] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as JSON")] = None,
) -> None:
    """Users fired a second, and how late, with many due in one minute, beside a SELECT and a SET NX for each user."""
    from rich.console import Console

    from infra.bench.due.bench import bench_due
    from shared.settings import load_settings

    console = Console(highlight=False, soft_wrap=True)
    with _servers(console) as stack:
        own = stack.settings().model_copy(update={"fire_concurrency": load_settings().fire_concurrency})
        found = asyncio.run(bench_due(own, users, rounds, console.print))
    for name, rate in (("ours", found.ours), ("baseline", found.baseline), ("limit", found.limit)):
        console.print(
            f"{name}: {rate.users_per_s:,.0f} users/s, {rate.cpu_us_per_user} µs CPU and "
            f"{rate.postgres_statements_per_user} PostgreSQL statements a user, peak RSS {rate.peak_rss_mb} MB "
            f"({rate.users:,} users a round)"
        )
    console.print(
        f"ratio to baseline {found.ratio_to_baseline}, to the limit {found.ratio_to_limit}\n"
        f"{found.due_in_one_minute:,} due at the same instant (1 million / {found.scale:g}), "
        f"{found.fire_concurrency} pages at once: "
        f"late by p50 {found.lateness_ms.p50} ms, p99 {found.lateness_ms.p99} ms"
    )
    _write(json_file, found)


def stream(
    events: Annotated[int, typer.Option(min=50_000, max=100_000_000, help="Events in the topic")] = 2_000_000,
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Alternating rounds")] = 3,
    seconds: Annotated[float, typer.Option(min=0.5, max=600, help="Of a contender's turn in a round, at most")] = 30.0,
    latency_seconds: Annotated[float, typer.Option(min=0.5, max=600, help="Of load while latency is measured")] = 20.0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as JSON")] = None,
) -> None:
    """Activity events a second in one process: our worker, a plain Faust agent, and the Kafka client alone."""
    from rich.console import Console

    from infra.bench.cores import Cores, on
    from infra.bench.stream.bench import Bench, bench_stream

    console = Console(highlight=False, soft_wrap=True)
    cores = Cores.of_machine()
    with on(cores.rest), _servers(console) as stack:
        bench = Bench(stack.settings(), _environment(stack), cores, events, seconds, stack.state_dir)
        found = asyncio.run(bench_stream(bench, rounds, latency_seconds, console.print))
    for name, side in (("ours", found.ours), ("stock_faust", found.stock_faust), ("limit", found.limit)):
        console.print(
            f"{name}: {side.events_per_s:,.0f} events/s, {side.cpu_us_per_event} µs CPU an event, "
            f"peak RSS {side.peak_rss_mb} MB"
        )
    console.print(f"ratio_to_stock {found.ratio_to_stock}   ratio_to_limit {found.ratio_to_limit}")
    half, tenth = found.latency_ms, found.latency_ms_at_tenth
    console.print(f"Kafka to gate marked, at {found.half_load_per_s:,.0f}/s: p50 {half.p50} ms, p99 {half.p99} ms")
    console.print(f"the same at a tenth of the load: p50 {tenth.p50} ms, p99 {tenth.p99} ms")
    _write(json_file, found)


def pressure(
    users: Annotated[int, typer.Option(min=10_000, max=100_000_000, help="Population")] = 1_000_000,
    rate: Annotated[int, typer.Option(min=1, max=100_000, help="Transactions a second beside the scans")] = 200,
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Alternating rounds")] = 3,
    seconds: Annotated[int, typer.Option(min=2, max=600, help="Of a contender's turn in a round")] = 20,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as JSON")] = None,
) -> None:
    """The latency of short transactions (pgbench) beside no scan, a naive full scan and ours."""
    from rich.console import Console

    from infra.bench.pressure.bench import bench_pressure
    from infra.bench.pressure.report import table

    console = Console(highlight=False, soft_wrap=True, width=120)
    with _servers(console) as stack:
        settings, environment = stack.settings(), _environment(stack)
        found = asyncio.run(bench_pressure(settings, environment, users, rate, rounds, seconds, console.print))
    console.print(table(found))
    _write(json_file, found)


def scan(
    users: Annotated[int, typer.Option(min=1_000, max=200_000_000, help="Users of the database")] = 5_000_000,
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Alternating rounds")] = 3,
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="Of a contender's turn in a round, about")] = 15.0,
    keep: Annotated[bool, typer.Option(help="Keep the database for the next run")] = True,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as JSON")] = None,
) -> None:
    """Due users a second, from PostgreSQL to Kafka, beside a loop with an ORM and a COPY of the same rows."""
    from rich.console import Console

    from infra.bench.scan.bench import bench_scan

    console = Console(highlight=False, soft_wrap=True)
    with _servers(console, "bench-scan", keep=keep) as stack:
        found = asyncio.run(bench_scan(stack.settings(), users, rounds, seconds, console.print))
    for name, rate in (("ours", found.ours), ("orm_loop", found.orm_loop), ("limit", found.limit)):
        console.print(
            f"{name}: {rate.users_per_s:,.0f} users/s, {rate.cpu_us_per_user} µs CPU a user, peak RSS "
            f"{rate.peak_rss_mb} MB, {rate.hours_for_80m} h for 80 million ({rate.users:,} users a round)"
        )
    console.print(f"ratio_to_orm_loop {found.ratio_to_orm_loop}   ratio_to_limit {found.ratio_to_limit}")
    console.print(f"rows_read_per_row_due {found.rows_read_per_row_due}   idle_hour_s {found.idle_hour_s}")
    _write(json_file, found)


@contextmanager
def _servers(console: Console, name: str = "bench", *, keep: bool = False) -> Iterator[Stack]:
    """PostgreSQL, Valkey and Kafka of the bench's own; what stops the bench is told.

    Gone afterwards, or with `keep` only stopped, and found as they were by the next.
    """
    from infra.bench.deliver.report import BenchError
    from infra.stack.stack import Stack
    from shared.settings import load_settings

    stack = Stack(load_settings().state_dir / name)
    try:
        console.print("starting PostgreSQL, Valkey and Kafka of the bench's own")
        stack.up(fresh=not keep)
        yield stack
    except BenchError as error:
        console.print(f"The bench cannot go on: {error}", style="red", markup=False)
        raise typer.Exit(1) from None
    finally:
        if keep:
            stack.down()
        else:
            stack.remove()


def _environment(stack: Stack) -> dict[str, str]:
    """What a process needs to know of these servers."""
    found = {f"SURNIA_{name.upper()}": value for name, value in stack.addresses().items()}
    return found | {"SURNIA_STATE_DIR": str(stack.state_dir), "SURNIA_DATABASES": ""}


def _write(json_file: Path | None, figures: object) -> None:
    import msgspec

    if json_file:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
