"""Commands of the stream path: `worker`, `events`, `due`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from shared.settings import Settings, load_settings


def register(app: typer.Typer) -> None:
    """Add the stream path's commands."""
    app.command("worker")(worker)
    events = typer.Typer(help="Activity events: send them, and the contract for those who produce them.")
    events.command("send")(send)
    events.command("unsubscribe")(unsubscribe)
    events.command("schema")(schema)
    app.add_typer(events, name="events")
    due = typer.Typer(help="The due index: who is to be reminded when.")
    due.command("rebuild")(rebuild)
    app.add_typer(due, name="due")


def worker(
    role: Annotated[str, typer.Argument(help="stream, delivery or ledger", autocompletion=lambda: _ROLES)],
) -> None:
    """Run a worker until SIGTERM: `stream` (activity, due index), `delivery` (the lanes) or `ledger` (outcomes)."""
    if role not in _ROLES:
        raise typer.BadParameter(f"{role!r} is no role: use one of {', '.join(_ROLES)}")
    from stream.app import Role
    from stream.worker import run

    run(load_settings(), Role(role))


_ROLES = ["stream", "delivery", "ledger"]


def send(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the events, send none")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON")] = False,
) -> None:
    """Send activity events: JSON lines on standard input, checked like the worker checks them.

    Good lines are sent even if others are bad. Exit code 0: all sent; 3: some lines were bad (each is
    reported on standard error with its number and reason).
    """
    sent, bad = asyncio.run(_send(load_settings(), dry_run))
    if as_json:
        print(json.dumps({"sent": sent, "bad": bad, "dry_run": dry_run}))
    else:
        print(f"{sent} events {'are good (dry run: none sent)' if dry_run else 'sent'}, {bad} bad lines")
    if bad:
        raise typer.Exit(3)


async def _send(settings: Settings, dry_run: bool) -> tuple[int, int]:
    from shared.producer import Producer, Record
    from shared.topics import Topics
    from shared.wire.events import MAX_EVENT_BYTES, BadEventError, decode_event

    topic, clock = Topics.of(settings).activity, settings.clock()
    sent = bad = 0
    pending: list[Record] = []
    async with Producer(settings) as producer:
        number = 0
        while line := sys.stdin.buffer.readline(MAX_EVENT_BYTES + 2):
            number += 1
            if not line.strip():
                continue
            try:
                event = decode_event(line.rstrip(b"\r\n"), clock.now())
            except BadEventError as error:
                bad += 1
                print(f"line {number}: {error.reason}: {error}", file=sys.stderr)
                while not line.endswith(b"\n") and (line := sys.stdin.buffer.readline(MAX_EVENT_BYTES)):
                    pass  # The rest of a line that was too long.
                continue
            sent += 1
            if not dry_run:
                pending.append(Record(topic, str(event.user_id).encode(), line.rstrip(b"\r\n")))
            if len(pending) >= 1000:
                await producer.write(pending)
                pending.clear()
        await producer.write(pending)
    return sent, bad


def unsubscribe(
    token: Annotated[str, typer.Argument(help="The parameter `t` of the link in an e-mail, or the whole link")],
) -> None:
    """Take whoever got an e-mail off the e-mails: checks the link's signature and sends the event that says so.

    Exit code 1: it is no link of ours.
    """
    from shared.unsubscribe import BadTokenError, Unsubscribe, UnsubscribeSetupError, token_in

    settings = load_settings()
    try:
        user_id = Unsubscribe(settings).user_of(token_in(token))
    except (BadTokenError, UnsubscribeSetupError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    asyncio.run(_unsubscribe(settings, user_id))
    print(f"user {user_id} gets no more e-mails")


async def _unsubscribe(settings: Settings, user_id: int) -> None:
    from shared.clock import utc
    from shared.producer import Producer, Record
    from shared.topics import Topics
    from shared.wire.events import PreferencesChanged, encode_event

    event = PreferencesChanged(user_id=user_id, at=utc(settings.clock().now()), email_opted_out=True)
    async with Producer(settings) as producer:
        await producer.write([Record(Topics.of(settings).activity, str(user_id).encode(), encode_event(event))])


def schema(
    folder: Annotated[Path, typer.Argument(help="Folder to write into")] = Path("docs/events"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if the files differ")] = False,
) -> None:
    """Write the event contract: JSON Schema and AsyncAPI, generated from the types that workers decode with."""
    from shared.wire.schema import documents

    stale = []
    for name, text in documents().items():
        path = folder / name
        if check:
            stale += [name] if not path.exists() or path.read_text() != text else []
        else:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(path)
    if stale:
        print(f"out of date: {', '.join(stale)}; run `surnia events schema {folder}`", file=sys.stderr)
        raise typer.Exit(1)


def rebuild(as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON")] = False) -> None:
    """Fill the due index from PostgreSQL: after an import, or when it was lost with Redis. Harmless to repeat.

    Reads the table of users once from end to end. Timers of lessons that were not finished can't be had back.
    """
    from stream.due.view import rebuild_shown

    found = asyncio.run(rebuild_shown(load_settings()))
    if as_json:
        print(json.dumps(found._asdict()))
    else:
        left_out = f"; {found.unknown_zone} left out: unknown time zone" if found.unknown_zone else ""
        print(f"{found.scheduled} users have a reminder ahead{left_out}")
