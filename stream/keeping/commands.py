"""`surnia gate`: rebuild, status, open."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from shared.settings import load_settings

if TYPE_CHECKING:
    from stream.keeping.account import Tell
    from stream.runtime import Runtime

T = TypeVar("T")

CLOSED = 1
NO_ANSWER = 3

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object")]


def register(app: typer.Typer) -> None:
    """Add `surnia gate`."""
    gate = typer.Typer(help="The gate: how it is, and opening it when it is closed.", no_args_is_help=True)
    gate.command("status")(status)
    gate.command("rebuild")(rebuild)
    gate.command("open")(trust)
    app.add_typer(gate, name="gate")


def status(
    day: Annotated[
        datetime | None, typer.Option("--date", formats=["%Y-%m-%d"], help="Local date; today in UTC if not given")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Read every bucket instead of a sample of 4,096")] = False,
    as_json: AsJson = False,
) -> None:
    """Show whether the gate is open, what it holds, how large it is and how it answered.

    Exit code: 0 open, 1 a shard is closed, 3 it does not answer.
    """
    from stream.keeping.status import look
    from stream.keeping.view import document, shown

    found = _run(lambda runtime: look(runtime.keyspace, runtime.settings, day.date() if day else None, exact=exact))
    if as_json:
        print(json.dumps(document(found)))
    else:
        from rich.console import Console

        Console(highlight=False).print(shown(found))
    if found.closed:
        raise typer.Exit(CLOSED)


def rebuild(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and count, write nothing")] = False,
    every: Annotated[bool, typer.Option("--all", help="Shards that are open too; adds what they miss")] = False,
    as_json: AsJson = False,
) -> None:
    """Refill and open a gate that lost its data: from the ledger, the outbox, the users and what is left in Kafka.

    Safe to repeat, to interrupt, and to run twice at once; workers may run meanwhile.

    Exit code: 0 the gate is open (or dry run), 1 shards are still closed, 3 a server does not answer.
    """
    from stream.keeping.rebuild import rebuild as run
    from stream.keeping.view import account

    with _bars() as tell:
        done = _run(lambda runtime: run(runtime, every=every, dry_run=dry_run, tell=tell))
    print(json.dumps(asdict(done)) if as_json else account(done))
    if done.still_closed and not dry_run:
        raise typer.Exit(CLOSED)


def trust(
    reason: Annotated[str, typer.Option("--reason", help="How you know, for the log")],
    sure: Annotated[bool, typer.Option("--i-know-the-data-is-whole", help="You do: see the runbook")] = False,
    as_json: AsJson = False,
) -> None:
    """Open without reading anything: after a restart, failover or resharding that lost nothing.

    A shard without its epoch has lost its data and stays closed: `surnia gate rebuild` opens it.

    Exit code: 0 the gate is open, 1 shards are still closed, 3 it does not answer.
    """
    import structlog

    from shared.gate import Keeper, pauses
    from stream.keeping.rebuild import epoch_name

    async def work(runtime: Runtime) -> dict[str, Any]:
        keeper = Keeper(runtime.keyspace, runtime.settings)
        closed = sorted(await keeper.closed())
        lost = await keeper.trust(closed, epoch_name(runtime) + "-trusted")
        # Made while it was closed, or resumed: what the epochs had may be old.
        await pauses.put_in_force(runtime.settings)
        return {"opened": sorted(set(closed) - set(lost)), "still_closed": lost}

    if not sure:
        raise typer.BadParameter("without --i-know-the-data-is-whole, use `surnia gate rebuild`")
    done = _run(work)
    opened, lost = done["opened"], done["still_closed"]
    if opened:
        structlog.get_logger().warning("the gate was opened without a rebuild", shards=len(opened), reason=reason)
    if as_json:
        print(json.dumps(done))
    else:
        print(f"Opened {len(opened)} shards." if opened or lost else "The gate was open: nothing to do.")
        if lost:
            print(f"{len(lost)} shards have lost their data and stay closed: run `surnia gate rebuild`.")
    if lost:
        raise typer.Exit(CLOSED)


def _run(work: Callable[[Runtime], Coroutine[Any, Any, T]]) -> T:
    import psycopg
    from aiokafka.errors import KafkaError

    from shared.gate import GateUnavailableError
    from stream.runtime import Runtime

    async def whole() -> T:
        runtime = Runtime.of(load_settings())
        await runtime.open()
        try:
            return await work(runtime)
        finally:
            await runtime.close()

    try:
        return asyncio.run(whole())
    except GateUnavailableError as error:
        _fail(f"{error}. See 'Gate down' in docs/operations.md.")
    except psycopg.errors.UndefinedTable:
        _fail("the database has no tables of Surnia yet: run `surnia up`, which creates them")
    except psycopg.OperationalError as error:
        _fail(f"PostgreSQL does not answer: {str(error).strip()[:300]}. The gate is as it was.")
    except KafkaError as error:
        _fail(f"Kafka does not answer: {str(error)[:300] or type(error).__name__}. The gate is as it was.")


def _fail(why: str) -> NoReturn:
    print(f"surnia: {why}", file=sys.stderr)
    raise typer.Exit(NO_ANSWER)


@contextmanager
def _bars() -> Iterator[Tell]:
    """A bar for each source, on standard error; silent where nobody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        tasks: dict[str, TaskID] = {}

        def tell(what: str, done: int, expected: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what)
            progress.update(tasks[what], completed=done, total=expected)

        yield tell
