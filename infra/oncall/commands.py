"""`surnia backfill`: plan, run, status, resume and cancel."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from infra.oncall import complete
from infra.oncall.look_commands import doctor, lag
from shared.settings import Settings, load_settings
from shared.terminal import myself, one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

    from batch.backfill import Backfill, Request, Summary

T = TypeVar("T")

NO_ANSWER, BUSY, UNKNOWN, NOT_CONFIRMED, CANCELLED = 1, 3, 4, 5, 6

backfill = typer.Typer(
    help="Plan now what a path that was down should have planned: comebacks of the batch path; practice, streak savers "
    "and abandoned lessons of the stream path.\n\nExit codes: 0 done (or planned), 1 a server does not answer (what "
    "was done stays: resume), 2 wrong usage, 3 somebody else runs it, 4 no such backfill, 5 not confirmed: nothing was "
    "done, 6 cancelled.",
    no_args_is_help=True,
)

From = Annotated[
    datetime, typer.Option("--from", help="Start of what was missed, UTC unless told otherwise: 2026-11-21T10:00")
]
To = Annotated[datetime, typer.Option("--to", help="Its end, not included; at most now, and a week after the start")]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", help="A kind; may be given several times [default: all]", autocompletion=complete.kinds),
]
Shards = Annotated[str, typer.Option("--shards", help="Such as 0-7,12 [default: all 256]")]
Zones = Annotated[
    str,
    typer.Option("--zones", help="Time zones with commas between them [default: all]", autocompletion=complete.zones),
]
Rate = Annotated[float | None, typer.Option("--rate", min=0.1, help="Sends a second at most [default: no limit]")]
Via = Annotated[str, typer.Option("--via", help="local or airflow", autocompletion=complete.vias)]
By = Annotated[str | None, typer.Option("--by", help="Who says so", show_default="user@host")]
Number = Annotated[int, typer.Argument(metavar="ID", min=1, max=2**31 - 1, help="The backfill's number")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object")]


def register(app: typer.Typer) -> None:
    """Add `surnia backfill`, `surnia lag` and `surnia doctor`."""
    app.add_typer(backfill, name="backfill")
    app.command()(lag)
    app.command()(doctor)


@backfill.command()
def plan(
    start: From, end: To, kind: Kinds = None, shards: Shards = "", zones: Zones = "", as_json: AsJson = False
) -> None:
    """Show what a backfill would do: users and sends by kind, local hour and zone. Reads only.

    Exit code: 0 shown, 1 a server does not answer.
    """
    from infra.oncall.backfill_view import plan_document, plan_view

    settings = load_settings()
    found = _looked(settings, _request(settings, start, end, kind, shards, zones))
    _tell(plan_document(found), plan_view(found), as_json)


@backfill.command("run")
def run_(
    start: From,
    end: To,
    kind: Kinds = None,
    shards: Shards = "",
    zones: Zones = "",
    rate: Rate = None,
    via: Via = "local",
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only what `plan` does")] = False,
    again: Annotated[bool, typer.Option("--again", help="Though the same was done before")] = False,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Show the plan, ask, and run it. The same request that was cut off is gone on with.

    Safe to run twice and by two people: one runs it, the other is told who does. What is past its window is reported as
    expired. Ctrl-C ends it; `surnia backfill resume` goes on.

    Exit code: 0 done, 1 a server does not answer, 3 somebody else runs it, 5 not confirmed, 6 cancelled.
    """
    from batch.backfill import begin, summary_of
    from infra.oncall.backfill_view import account, plan_document, plan_view

    settings, who = load_settings(), one_line(by or myself(), "--by", 100)
    if via not in ("local", "airflow"):
        raise typer.BadParameter("local or airflow", param_hint="--via")
    asked = _request(settings, start, end, kind, shards, zones)
    found = _looked(settings, asked)
    if dry_run:
        return _tell(plan_document(found), plan_view(found), as_json)
    if not as_json:
        _show(plan_view(found))
    if not yes:
        _confirm(found.total("sends"))
    begun, new = _run(lambda: begin(settings, asked, who, "airflow" if via == "airflow" else "local", rate, again))
    if begun.state == "done":
        print(
            f"surnia: the same was done by {begun.run_by}, {begun.ended_at:%Y-%m-%d %H:%M:%S %Z} "
            f"(backfill {begun.id}); --again does it once more",
            file=sys.stderr,
        )
        done = _run(lambda: summary_of(settings, begun.id))
        return _tell(_plain(done), account(done), as_json)
    if new:
        _run(lambda: _expect(settings, begun.id, found.expected()))
    return _go(settings, begun, who, as_json)


@backfill.command()
def resume(number: Number, rate: Rate = None, by: By = None, as_json: AsJson = False) -> None:
    """Go on with a backfill that was cut off or cancelled, from its checkpoints, the way it was run.

    Exit code: 0 done, 1 a server does not answer, 3 somebody runs it, 4 no such backfill, 6 cancelled.
    """
    from batch.backfill import go_on, summary_of
    from infra.oncall.backfill_view import account

    settings, who = load_settings(), one_line(by or myself(), "--by", 100)
    known = _run(lambda: _known(settings, number))
    begun = _run(lambda: go_on(settings, number, who, known.via, rate or known.rate))
    if begun.state == "done":
        done = _run(lambda: summary_of(settings, number))
        return _tell(_plain(done), account(done), as_json)
    return _go(settings, begun, who, as_json)


@backfill.command()
def cancel(number: Number, by: By = None, as_json: AsJson = False) -> None:
    """Stop a backfill at its next page, wherever it runs. What it has sent can't be called back.

    Exit code: 0 it stops (or had ended), 1 PostgreSQL does not answer, 4 no such backfill.
    """
    from batch.backfill import cancel as stop
    from batch.backfill import summary_of
    from infra.oncall.backfill_view import document

    settings, who = load_settings(), one_line(by or myself(), "--by", 100)
    found = _run(lambda: stop(settings, number, who))
    words = {
        "cancelling": f"Backfill {number} stops at its next page ({found.run_by} runs it, via {found.via}).",
        "cancelled": f"Backfill {number} is cancelled; `surnia backfill resume {number}` goes on with it.",
        "done": f"Backfill {number} is done: there is nothing to stop.",
    }
    done = _run(lambda: summary_of(settings, number))
    _tell(document(found, done), words[found.state], as_json)


@backfill.command()
def status(
    number: Annotated[int | None, typer.Argument(metavar="[ID]", min=1, max=2**31 - 1, help="One of them")] = None,
    as_json: AsJson = False,
) -> None:
    """Show backfills, or one: who ran it and when, how far it is, what it came to.

    Exit code: 0 shown, 1 PostgreSQL does not answer, 4 no such backfill.
    """
    from batch.backfill import summary_of
    from infra.oncall.backfill_view import document, list_view, status_view

    settings = load_settings()
    if number is None:
        found = _run(lambda: _latest(settings))
        rows = [document(each, done) for each, done in found]
        return _tell({"backfills": rows}, list_view([each for each, _ in found]), as_json)
    one = _run(lambda: _known(settings, number))
    done = _run(lambda: summary_of(settings, number))
    return _tell(document(one, done), status_view(one, done), as_json)


def _go(settings: Settings, begun: Backfill, who: str, as_json: bool) -> None:
    """Run it here, or have Airflow run it."""
    from batch.backfill import run
    from infra.oncall.backfill_view import account

    if begun.via == "airflow":
        from infra.oncall.airflow import trigger

        url = trigger(settings, begun)
        return _tell(
            {"id": begun.id, "state": begun.state, "via": "airflow", "url": url},
            f"Backfill {begun.id} goes to Airflow: {url}\n`surnia backfill status {begun.id}` shows how far it is.",
            as_json,
        )
    with _bar(begun.request) as advance:
        done = _run(lambda: run(settings, begun.id, by=who, rate=begun.rate, on_shard=advance), begun.id)
    return _tell(_plain(done), account(done), as_json)


async def _known(settings: Settings, number: int) -> Backfill:
    from batch.backfill import store

    async with await store.connect(settings) as connection:
        return await store.get(connection, number)


async def _latest(settings: Settings) -> list[tuple[Backfill, Summary]]:
    from batch.backfill import store, summary_of

    async with await store.connect(settings) as connection:
        return [(each, await summary_of(settings, each.id)) for each in await store.latest(connection)]


async def _expect(settings: Settings, number: int, expected: dict[str, Any]) -> None:
    from batch.backfill import store

    async with await store.connect(settings) as connection:
        await store.expect(connection, number, expected)


def _request(
    settings: Settings, start: datetime, end: datetime, kind: list[str] | None, shards: str, zones: str
) -> Request:
    from batch.backfill import request

    try:
        return request(start, end, settings.clock().now(), kind or (), shards, zones.split(","))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _looked(settings: Settings, asked: Request) -> Any:
    from batch.backfill import look

    with _bar(asked, "looking") as advance:
        return _run(lambda: look(settings, asked, advance))


def _confirm(sends: int) -> None:
    """Ask, or end where there is nobody to ask."""
    if not sys.stdin.isatty():
        _fail("nobody is there to confirm: add --yes to send, or use `surnia backfill plan` to look", NOT_CONFIRMED)
    if not typer.confirm(f"Go on and send up to {sends:,} reminders?", err=True):
        _fail("nothing was done", NOT_CONFIRMED)


@contextmanager
def _bar(asked: Request, what: str = "backfill") -> Iterator[Callable[[], None]]:
    """Shards on standard error; silent where nobody watches."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn(f"{what}: shards"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    paths = 1 if what == "looking" else bool(asked.due_kinds) + asked.comebacks
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=len(asked.shards) * paths)
        yield lambda: progress.advance(task)


def _run(work: Callable[[], Coroutine[Any, Any, T]], number: int | None = None) -> T:
    import psycopg

    from batch.backfill import BusyBackfillError, CancelledBackfillError, NoSuchBackfillError
    from batch.pressure import TooManyTriesError
    from shared.patience import SERVER_TROUBLE

    go_on = f" What was done stays: `surnia backfill resume {number}` goes on." if number else ""
    try:
        return asyncio.run(work())
    except psycopg.errors.UndefinedTable:
        _fail("the database has no tables of backfills yet: run `surnia up`, which creates them", NO_ANSWER)
    except SERVER_TROUBLE as error:
        said = str(error).strip()[:300] or type(error).__name__
        _fail(f"a server does not answer: {said}. See `surnia status`.{go_on}", NO_ANSWER)
    except TooManyTriesError as error:
        _fail(f"{error}{go_on}", NO_ANSWER)
    except BusyBackfillError as error:
        _fail(str(error), BUSY)
    except NoSuchBackfillError as error:
        _fail(str(error), UNKNOWN)
    except CancelledBackfillError as error:
        _fail(f"{error}.{go_on}", CANCELLED)
    except KeyboardInterrupt:
        _fail(f"stopped.{go_on}", 130)


def _plain(done: Any) -> dict[str, Any]:
    import msgspec

    plain: dict[str, Any] = msgspec.to_builtins(done)
    return plain


def _tell(document: dict[str, Any], shown: RenderableType, as_json: bool) -> None:
    if as_json:
        import json

        typer.echo(json.dumps(document))
    else:
        _show(shown)


def _show(shown: RenderableType) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    # Into a file or another program as wide as it is.
    console.print(shown, markup=False, soft_wrap=not console.is_terminal and isinstance(shown, str))


def _fail(why: str, code: int) -> NoReturn:
    print(f"surnia: {why}", file=sys.stderr)
    raise typer.Exit(code)
