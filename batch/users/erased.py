"""`surnia users erased`: the proofs of erasures. They say when and what, and nothing of whom."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

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


def render(proofs: list[Proof]) -> str:
    """For a terminal; instants are UTC."""
    if not proofs:
        return "Nobody was erased."
    return "\n".join(
        f"{proof.erasure_id}  {_short(proof.done_at) if proof.done_at else 'NOT DONE YET'}, asked for "
        f"{_short(proof.asked_at)} by {proof.topic}[{proof.partition}] @ {proof.offset}\n"
        f"  {_counted(proof)}"
        for proof in proofs
    )


def _short(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


def _counted(proof: Proof) -> str:
    return ", ".join(f"{getattr(proof, name):,} {name.replace('_', ' ')}" for name in _COUNTS)
