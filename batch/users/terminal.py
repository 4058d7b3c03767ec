"""What the commands of `surnia users` share: running them, and saying what went wrong with its remedy."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

import typer

from shared.settings import Settings, load_settings

T = TypeVar("T")


def read_settings() -> Settings:
    """The settings, or the end with what is wrong with them."""
    try:
        return load_settings()
    except ValueError as error:
        fail(f"The settings are not valid; mend SURNIA_* in the environment or in .env:\n{error}")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it; what a person can mend ends the command with its remedy."""
    import psycopg

    # Two threads take turns here, one waiting for the socket for moments at a time: at the default of 5 ms a turn it
    # would wait longer for the interpreter than for PostgreSQL.
    sys.setswitchinterval(0.0005)
    try:
        return asyncio.run(_unwrapped(work))
    except psycopg.errors.UndefinedTable:
        fail("The database has no tables of Surnia yet: run `surnia up`, which creates them.")
    except psycopg.OperationalError as error:
        fail(
            f"PostgreSQL does not answer: {str(error).strip()[:300]}\n"
            "Run `surnia up` to start the local stack, or check SURNIA_POSTGRES_URL. What was loaded stays."
        )
    except KeyboardInterrupt:
        fail("Stopped. What was loaded stays; run the same command again to finish.")


async def _unwrapped(work: Coroutine[Any, Any, T]) -> T:
    """Task groups wrap what went wrong: the first of it is what a person wants to read."""
    try:
        return await work
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    typer.echo(json.dumps(value, default=lambda other: other.isoformat()))


def fail(message: str) -> NoReturn:
    """End the command; the message says what to do."""
    typer.echo(f"surnia: {message}", err=True)
    raise typer.Exit(1)
