"""What is typed on call: `pause`, `resume`, `pauses`, `inspect`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

import typer

from batch.users.terminal import fail, print_json, read_settings
from shared.identity import MAX_USER_ID
from shared.policy.kinds import KINDS, Path
from shared.terminal import myself, one_line

T = TypeVar("T")

NOT_IN_FORCE = 3
NO_SUCH_USER = 4


def _kinds() -> list[str]:
    return list(KINDS)


def _paths() -> list[str]:
    return [path.name for path in Path]


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object")]
OfPath = Annotated[
    str | None, typer.Option("--path", help="stream, batch or blast; any where not given", autocompletion=_paths)
]
OfKind = Annotated[
    str | None,
    typer.Option("--kind", help="A reminder kind such as practice; any where not given", autocompletion=_kinds),
]
Through = Annotated[str | None, typer.Option("--provider", help="apns, fcm or smtp; any where not given")]
OfCampaign = Annotated[str | None, typer.Option("--campaign", help="One campaign's name; any where not given")]
By = Annotated[str | None, typer.Option("--by", help="Who says so", show_default="user@host")]


def register(app: typer.Typer) -> None:
    """Add the commands of whoever is on call."""
    for command in (pause, resume, pauses, inspect):
        app.command()(command)


def pause(
    reason: Annotated[str, typer.Option("--reason", help="Why, for those who find it paused")],
    path: OfPath = None,
    kind: OfKind = None,
    provider: Through = None,
    campaign: OfCampaign = None,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Hold sends back at once, claims and deliveries both; without a selector, all of them.

    What is held back is sent after `surnia resume` if it is still in time, and else expires. Safe to repeat.

    Exit code: 0 in force, 3 recorded but not in force everywhere (it says what to do), 1 PostgreSQL does not answer and
    nothing is paused.
    """
    from batch.oncall.pausing import hold, tell_paused
    from batch.oncall.selectors import rule_of

    rule = rule_of(path, kind, provider, campaign)
    reason, by = one_line(reason, "--reason", 500), one_line(by or myself(), "--by", 100)
    settings = read_settings()
    unless = "Nothing was paused. Ending the delivery workers stops all sends. "
    done = _run(lambda: hold(settings, rule, reason, by), unless)
    _tell(done.document(), tell_paused(done), as_json)
    if not done.in_force:
        raise typer.Exit(NOT_IN_FORCE)


def resume(
    reason: Annotated[str, typer.Option("--reason", help="Why, for the history")],
    path: OfPath = None,
    kind: OfKind = None,
    provider: Through = None,
    campaign: OfCampaign = None,
    number: Annotated[int | None, typer.Option("--id", min=1, help="The pause of this number, instead")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every pause, instead")] = False,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """End pauses that were made with exactly these selectors; without any, the pause of everything.

    Exit code: 0 done, or there was nothing to resume; 3 recorded but not in force everywhere; 1 PostgreSQL does not
    answer.
    """
    from batch.oncall.pausing import let_go, tell_resumed
    from batch.oncall.selectors import rule_of

    rule = rule_of(path, kind, provider, campaign)
    if (number is not None) + every + any(rule) > 1:
        raise typer.BadParameter("name the pauses by selectors, by --id or by --all: one of the three")
    reason, by = one_line(reason, "--reason", 500), one_line(by or myself(), "--by", 100)
    settings = read_settings()
    which = None if every else number or rule
    done = _run(lambda: let_go(settings, which, reason, by), "Nothing was resumed. ")
    _tell(done.document(), tell_resumed(done), as_json)
    if not done.in_force:
        raise typer.Exit(NOT_IN_FORCE)


def pauses(
    history: Annotated[bool, typer.Option("--history", help="Those that were resumed too, the latest first")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what is paused: by whom, since when and why."""
    from batch.oncall.pausing import listed, tell_pauses

    settings = read_settings()
    found = _run(lambda: listed(settings, history=history), "")
    now = settings.clock().now()
    _tell({"pauses": [each.document() for each in found]}, tell_pauses(found, now), as_json)


def inspect(
    user: Annotated[int, typer.Argument(metavar="USER", min=1, max=MAX_USER_ID, help="The user's id")],
    days: Annotated[int, typer.Option(min=1, max=90, help="Local dates to look back, today included")] = 7,
    as_json: AsJson = False,
) -> None:
    """Explain a user's last days: what was due, what the gate said and why, what the provider answered, when.

    Times are the user's own wall clock. Works while the gate is down, without what only the gate knows.

    Exit code: 0 shown, 4 nobody knows such a user, 1 PostgreSQL does not answer.
    """
    from batch.oncall.inspection import inspect as run
    from batch.oncall.view import tell
    from shared.policy.localtime import UnknownTimeZoneError

    settings = read_settings()
    try:
        found = _run(lambda: run(settings, user, days), "")
    except UnknownTimeZoneError as error:
        fail(f"User {user} gets no reminders: {error}. Mend the zone with `surnia users import`.")
    if not found.known:
        text = f"Nobody knows user {user}: no row in the database, no outcome, nothing at the gate."
        _tell({"user_id": user, "known": False}, text, as_json)
        raise typer.Exit(NO_SUCH_USER)
    _tell(found.document(), tell(found), as_json)


def _run(work: Callable[[], Coroutine[Any, Any, T]], unless: str) -> T:
    import psycopg

    try:
        return asyncio.run(work())
    except psycopg.errors.UndefinedTable:
        fail("The database has no tables of Surnia yet, or old ones: run `surnia up`, which creates them.")
    except psycopg.OperationalError as error:
        fail(f"PostgreSQL does not answer: {str(error).strip()[:300]}\n{unless}See `surnia status`.")


def _tell(document: dict[str, Any], text: Any, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    from rich.console import Console
    from rich.table import Table

    Console().print(text, markup=False, highlight=False, soft_wrap=not isinstance(text, Table))
