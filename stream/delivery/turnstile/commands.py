"""`surnia providers`: how they stand, and opening or closing them by hand."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from shared.settings import load_settings
from shared.terminal import myself, one_line

if TYPE_CHECKING:
    from stream.delivery.turnstile.redis import RedisTurnstile

T = TypeVar("T")

NOT_CLOSED = 1
NO_ANSWER = 3

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="apns, fcm or smtp, or the full name that `status` shows")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for those who find it so")]
By = Annotated[str | None, typer.Option("--by", help="Who says so", show_default="user@host")]


def register(app: typer.Typer) -> None:
    """Add `surnia providers`."""
    providers = typer.Typer(
        help="Providers: whether sends flow to them, and opening or closing them by hand.", no_args_is_help=True
    )
    providers.command("status")(status)
    providers.command("force-open")(force_open)
    providers.command("force-close")(force_close)
    providers.command("reset")(reset)
    app.add_typer(providers, name="providers")


def status(as_json: AsJson = False) -> None:
    """Show for each provider whether sends flow to it (closed), why not (open, half open), and how fast.

    Exit code: 0 all are closed, 1 one is not, or calls so many tokens bad that it is no longer believed, 3 Redis does
    not answer.
    """
    from stream.delivery.turnstile.status import look, shown

    found = _run(look)
    if as_json:
        print(json.dumps({"providers": [each.document() for each in found]}))
    else:
        from rich.console import Console

        Console(highlight=False).print(shown(found))
    if any(each.state != "closed" or each.retiring_stopped_at is not None for each in found):
        raise typer.Exit(NOT_CLOSED)


def force_open(name: Name, reason: Reason, by: By = None) -> None:
    """Stop all sends to a provider at once, on all workers, until `surnia providers reset`.

    Its sends go by another route where a device has one, else they wait, and go by e-mail or expire at the end of their
    window. Safe to repeat.

    Exit code: 0 in force, 3 Redis does not answer and nothing was changed.
    """
    print(f"{_force(name, 'open', reason, by)} is forced open: it gets nothing until `surnia providers reset {name}`.")


def force_close(name: Name, reason: Reason, by: By = None) -> None:
    """Send to a provider whatever it answers, at its full pace, until `surnia providers reset`. Safe to repeat.

    Exit code: 0 in force, 3 Redis does not answer and nothing was changed.
    """
    full = _force(name, "closed", reason, by)
    print(f"{full} is forced closed: it is sent to whatever it answers, until `surnia providers reset {name}`.")


def reset(name: Name) -> None:
    """Forget what is known of a provider, a forced state too: sends flow, slowly at first.

    Exit code: 0 done, 3 Redis does not answer and nothing was changed.
    """

    async def work(turnstile: RedisTurnstile) -> tuple[str, bool]:
        provider = _provider(turnstile, name)
        return turnstile.name(provider), await turnstile.reset(provider)

    full, known = _run(work)
    print(f"{full} is closed and begins anew." if known else f"Nothing is known of {full}: nothing to do.")


def _force(name: str, state: str, reason: str, by: str | None) -> str:
    from stream.delivery.turnstile.contract import State

    reason, who = one_line(reason, "--reason", 500), one_line(by or myself(), "--by", 100)

    async def work(turnstile: RedisTurnstile) -> str:
        provider = _provider(turnstile, name)
        await turnstile.force(provider, State(state), who, reason, load_settings().clock().now())
        return turnstile.name(provider)

    return _run(work)


def _provider(turnstile: RedisTurnstile, name: str) -> str:
    """`apns` from itself or from its full name."""
    known = {provider: provider for provider in turnstile.providers}
    known |= {turnstile.name(provider): provider for provider in turnstile.providers}
    if name not in known:
        raise typer.BadParameter(f"{name[:80]!r} is none of {', '.join(known)}", param_hint="NAME")
    return known[name]


def _run(work: Callable[[RedisTurnstile], Coroutine[Any, Any, T]]) -> T:
    from shared.gate import GateUnavailableError
    from stream.delivery.turnstile.redis import RedisTurnstile

    async def whole() -> T:
        turnstile = RedisTurnstile.connect(load_settings())
        try:
            return await work(turnstile)
        finally:
            await turnstile.close()

    try:
        return asyncio.run(whole())
    except GateUnavailableError as error:
        print(f"surnia: {error}. While it does not answer, nothing is sent.", file=sys.stderr)
        raise typer.Exit(NO_ANSWER) from None
