"""Pauses: who paused what, when and why (PostgreSQL), and their rules put in force at the gate.

The table is the truth and the history. What holds sends back is the rules in every epoch key (shared/gate/rules.py),
which claims and standings read with the same script call that answers them: there is nothing to poll.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg

from shared.gate.keeper import Keeper
from shared.gate.rules import Rule
from shared.policy.kinds import KIND_BY_CODE, KINDS, Path
from shared.settings import Settings

Connection = psycopg.AsyncConnection[Any]

PROVIDERS = ("apns", "fcm", "smtp")

_LOCK = 0x73_75_72_6E_69_61
"""PostgreSQL's advisory lock of whoever changes pauses or puts them in force ("surnia")."""
_COLUMNS = "id, path, kind, campaign, provider, reason, paused_by, paused_at, resumed_by, resumed_at, resume_reason"
_SAME = (
    "path IS NOT DISTINCT FROM %s AND kind IS NOT DISTINCT FROM %s AND campaign IS NOT DISTINCT FROM %s "
    "AND provider IS NOT DISTINCT FROM %s"
)


@dataclass(frozen=True, slots=True)
class Pause:
    """One pause, in force until it is resumed. Instants are aware UTC datetimes."""

    id: int
    rule: Rule
    reason: str
    paused_by: str
    paused_at: datetime
    resumed_by: str | None = None
    resumed_at: datetime | None = None
    resume_reason: str | None = None

    @property
    def what(self) -> str:
        """What it holds back, in words."""
        return what(self.rule)

    @property
    def since(self) -> str:
        """Since when, by whom and why."""
        return f"since {self.paused_at:%Y-%m-%d %H:%M:%S %Z} by {self.paused_by}: {self.reason}"

    @property
    def said(self) -> str:
        """What, since when, by whom and why, in a line."""
        return f"{self.what}, {self.since}"

    def document(self) -> dict[str, Any]:
        """As JSON."""
        rule = {name: named(value) for name, value in self.rule._asdict().items()}
        rest = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("id", "rule")}
        return {
            "id": self.id,
            **rule,
            **{name: value.isoformat() if isinstance(value, datetime) else value for name, value in rest.items()},
        }


def what(rule: Rule) -> str:
    """What a rule holds back, in words: "everything", or "path stream, kind practice"."""
    return ", ".join(f"{name} {named(value)}" for name, value in rule._asdict().items() if value) or "everything"


def named(value: Path | str | None) -> str | None:
    """A selector as a person writes it."""
    return value.name if isinstance(value, Path) else value


async def active(connection: Connection) -> list[Pause]:
    """The pauses that nobody has resumed, the oldest first."""
    return await _select(connection, "WHERE resumed_at IS NULL ORDER BY id", ())


async def history(connection: Connection, most: int = 100) -> list[Pause]:
    """The latest pauses, resumed ones too, the newest first."""
    return await _select(connection, "ORDER BY id DESC LIMIT %s", (most,))


async def pause(connection: Connection, rule: Rule, reason: str, by: str, at: datetime) -> tuple[Pause, bool]:
    """Write a pause down, and whether it is new: what is paused already, by exactly this rule, stays as it was."""
    async with alone(connection):
        values = _values(rule)
        if same := await _select(connection, f"WHERE resumed_at IS NULL AND {_SAME}", values):
            return same[0], False
        cursor = await connection.execute(
            "INSERT INTO pauses (path, kind, campaign, provider, reason, paused_by, paused_at) "  # noqa: S608  # constant
            f"VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING {_COLUMNS}",
            (*values, reason, by, at),
        )
        return (await _pauses(cursor))[0], True


async def resume(connection: Connection, which: Rule | int | None, reason: str, by: str, at: datetime) -> list[Pause]:
    """End the pauses of exactly this rule, the one of this id, or (None) all; those that this call ended."""
    where, values = _SAME, _values(which) if isinstance(which, Rule) else ()
    if not isinstance(which, Rule):
        where, values = ("true", ()) if which is None else ("id = %s", (which,))
    async with alone(connection):
        cursor = await connection.execute(
            "UPDATE pauses SET resumed_by = %s, resumed_at = %s, resume_reason = %s "  # noqa: S608  # constants
            f"WHERE resumed_at IS NULL AND {where} RETURNING {_COLUMNS}",
            (by, at, reason, *values),
        )
        return sorted(await _pauses(cursor), key=lambda pause: pause.id)


async def put_in_force(settings: Settings) -> list[int]:
    """Write the rules of all active pauses into every epoch key; the shards that are closed, and so can't take them.

    Of several calls at once the last one writes what all of them have committed. Raises `GateUnavailableError` where
    the gate does not answer.
    """
    async with await connect(settings) as connection, alone(connection):
        keeper = Keeper.connect(settings)
        try:
            return await keeper.write_rules([pause.rule for pause in await active(connection)])
        finally:
            await keeper.close()


async def connect(settings: Settings) -> Connection:
    """A connection of its own, each statement a transaction unless one is begun."""
    return await psycopg.AsyncConnection.connect(
        settings.require_postgres(), autocommit=True, application_name="surnia pauses", connect_timeout=5
    )


@asynccontextmanager
async def alone(connection: Connection) -> AsyncIterator[None]:
    """A transaction in which nobody else changes pauses, puts them in force or opens the gate with them."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        yield


async def _select(connection: Connection, where: LiteralString, values: Sequence[object]) -> list[Pause]:
    return await _pauses(await connection.execute(f"SELECT {_COLUMNS} FROM pauses {where}", values))  # noqa: S608


async def _pauses(cursor: psycopg.AsyncCursor[Any]) -> list[Pause]:
    return [_pause(*row) for row in await cursor.fetchall()]


def _pause(
    number: int, path: int | None, kind: int | None, campaign: str | None, provider: str | None, *rest: Any
) -> Pause:
    rule = Rule(
        path=None if path is None else Path(path),
        kind=None if kind is None else KIND_BY_CODE[kind].name,
        campaign=campaign,
        provider=provider,
    )
    return Pause(number, rule, *map(_utc, rest))


def _utc(value: Any) -> Any:
    """The database answers in its own time zone."""
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def _values(rule: Rule) -> tuple[object, ...]:
    """The rule's columns, in the order of `_SAME`."""
    path = None if rule.path is None else int(rule.path)
    kind = None if rule.kind is None else KINDS[rule.kind].code
    return path, kind, rule.campaign, rule.provider
