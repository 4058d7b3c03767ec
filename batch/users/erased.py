"""`surnia users erased`: the proofs of erasures. They say when and what, and nothing of whom."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from rich.console import RenderableType
from rich.table import Table

from batch.users.database import Connection

_COUNTS = ("users", "devices", "gate_fields", "due_entries", "outbox_pages", "ledger_rows", "planned_entries")


class Proof(msgspec.Struct):
    """One erasure. What was found of the user where; what the ledger and the planners had is under a pseudonym now."""

    erasure_id: UUID
    topic: str
    partition: int
    offset: int
    """The event that asked for it."""
    asked_at: datetime
    begun_at: datetime
    done_at: datetime | None
    """None: it is going on, or waits for a server."""
    users: int
    devices: int
    gate_fields: int
    due_entries: int
    outbox_pages: int
    ledger_rows: int
    planned_entries: int


async def find_erasures(connection: Connection, since: datetime | None) -> list[Proof]:
    """Those that were begun since an instant, the first one first."""
    cursor = await connection.execute(
        "SELECT erasure_id, topic, kafka_partition, kafka_offset, asked_at, begun_at, done_at, users, devices, "
        "gate_fields, due_entries, outbox_pages, ledger_rows, planned_entries FROM erasures "
        "WHERE %(since)s::timestamptz IS NULL OR begun_at >= %(since)s ORDER BY begun_at, erasure_id",
        {"since": since},
    )
    return [Proof(*row) for row in await cursor.fetchall()]


def document(proofs: list[Proof]) -> dict[str, Any]:
    """As JSON."""
    return {"erasures": msgspec.to_builtins(proofs)}


def render(proofs: list[Proof]) -> RenderableType:
    """For a terminal; instants are UTC."""
    if not proofs:
        return "Nobody was erased."
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("erasure", "event", "asked", "done"):
        table.add_column(heading, no_wrap=True)
    for heading in _COUNTS:
        table.add_column(heading.replace("_", " "), justify="right")
    for proof in proofs:
        table.add_row(
            str(proof.erasure_id),
            f"{proof.topic}[{proof.partition}] @ {proof.offset}",
            f"{proof.asked_at:%Y-%m-%d %H:%M:%S}",
            f"{proof.done_at:%Y-%m-%d %H:%M:%S}" if proof.done_at else "NOT YET",
            *(f"{getattr(proof, name):,}" for name in _COUNTS),
        )
    return table
