"""Holding sends back and letting them go: the row first, then the rules at the gate, then what to tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from shared.clock import utc
from shared.gate import pauses
from shared.gate.contract import GateUnavailableError
from shared.gate.pauses import Pause
from shared.gate.rules import Rule
from shared.identity import SHARDS
from shared.settings import Settings

_STAMP = "%Y-%m-%d %H:%M:%S %Z"


@dataclass(frozen=True, slots=True)
class Done:
    """What a pause or resume came to."""

    changed: list[Pause]
    """The pauses that this call made or ended."""
    standing: list[Pause]
    """Those that stand now."""
    already: Pause | None = None
    """What was asked for and had been paused before."""
    closed: tuple[int, ...] = ()
    """Shards of the gate that are closed: nothing is sent there until they are rebuilt, with the rules."""
    trouble: str = ""
    """Why the gate could not be told."""

    @property
    def in_force(self) -> bool:
        return not (self.closed or self.trouble)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "changed": [each.document() for each in self.changed],
            "already": self.already.document() if self.already else None,
            "standing": [each.document() for each in self.standing],
            "in_force": self.in_force,
            "closed_shards": list(self.closed),
            "gate": self.trouble or "told",
        }


async def hold(settings: Settings, rule: Rule, reason: str, by: str) -> Done:
    """Pause. Raises psycopg's errors where PostgreSQL does not answer: then nothing is paused."""
    async with await pauses.connect(settings) as connection:
        made, new = await pauses.pause(connection, rule, reason, by, utc(settings.clock().now()))
        return await _told(settings, connection, [made] if new else [], None if new else made)


async def let_go(settings: Settings, which: Rule | int | None, reason: str, by: str) -> Done:
    """Resume what `shared.gate.pauses.resume` finds."""
    async with await pauses.connect(settings) as connection:
        ended = await pauses.resume(connection, which, reason, by, utc(settings.clock().now()))
        return await _told(settings, connection, ended, None)


async def listed(settings: Settings, *, history: bool) -> list[Pause]:
    """The pauses that stand, or the latest of all."""
    async with await pauses.connect(settings) as connection:
        return await (pauses.history(connection) if history else pauses.active(connection))


async def _told(settings: Settings, connection: pauses.Connection, changed: list[Pause], already: Pause | None) -> Done:
    """Tell the gate, even where no row has changed: an earlier call may have found it down."""
    closed: list[int] = []
    trouble = ""
    try:
        closed = await pauses.put_in_force(settings)
    except GateUnavailableError as error:
        trouble = str(error)
    return Done(changed, await pauses.active(connection), already, tuple(closed), trouble)


def tell_paused(done: Done) -> str:
    """For a person."""
    pause = done.already or done.changed[0]
    lines = [f"Paused: {pause.what} (pause {pause.id})."]
    if done.already:
        lines = [f"Paused already, {pause.since}: {pause.what} (pause {pause.id})."]
    if done.in_force:
        lines.append("In force: no more of it goes to a provider. What is not resumed in time expires.")
    lines += _not_in_force(done)
    lines.append(f'To end it: surnia resume --id {pause.id} --reason "…"')
    return "\n".join(lines)


def tell_resumed(done: Done) -> str:
    """For a person."""
    lines = [f"Resumed: {pause.what} (pause {pause.id}, {pause.since})." for pause in done.changed]
    lines = lines or ["Nothing to resume: no such pause is in force."]
    lines += _not_in_force(done)
    if done.standing:
        lines.append("Still paused:")
        lines += [f'  {pause.said} (to end it: surnia resume --id {pause.id} --reason "…")' for pause in done.standing]
    else:
        lines.append("Nothing is paused.")
    return "\n".join(lines)


def tell_pauses(found: list[Pause], now: float) -> RenderableType:
    """A table, or that there are none. `now`: unix seconds."""
    if not found:
        return "Nothing is paused."
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("id", "what", "since", "by", "why", "for", "resumed"):
        table.add_column(heading, no_wrap=heading in ("id", "since", "for"))
    for pause in found:
        until = pause.resumed_at or utc(now)
        resumed = "no"
        if pause.resumed_at:
            resumed = f"{pause.resumed_at:{_STAMP}} by {pause.resumed_by}: {pause.resume_reason}"
        cells = (str(pause.id), pause.what, f"{pause.paused_at:{_STAMP}}", pause.paused_by, pause.reason)
        table.add_row(*map(Text, cells), str(until - pause.paused_at).partition(".")[0], Text(resumed))
    return table


def _not_in_force(done: Done) -> list[str]:
    if done.trouble:
        return [
            f"NOT IN FORCE YET. It is recorded, but the gate could not be told: {done.trouble}",
            "A worker that does not reach the gate either sends nothing. Run this command again as soon as it answers.",
        ]
    if done.closed:
        return [
            f"The gate is closed for {len(done.closed)} of {SHARDS} shards: nothing is sent there meanwhile. "
            "It opens with this in force when it is rebuilt (`surnia gate rebuild`)."
        ]
    return []
