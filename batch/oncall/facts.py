"""What is known of a user's reminders, as `surnia inspect --json` prints it."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import msgspec

from shared.gate.pauses import Pause

UNDER_WAY = "under_way"


class Candidate(msgspec.Struct, kw_only=True):
    """One reminder that was considered. Instants are the user's wall clock with its UTC offset."""

    local_date: date
    kind: str
    path: str
    campaign: str = ""
    due_at: datetime | None = None
    """None: only its outcome will say."""
    gate: str
    """`GRANTED`, or the reason of a denial."""
    result: str
    """A ledger's result, or `UNDER_WAY`."""
    reason: str = ""
    provider: str = ""
    latency_ms: float | None = None
    decided_at: datetime | None = None
    words: str = ""
    """All of it in a sentence."""

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"campaign {self.campaign}" if self.campaign else self.kind

    @property
    def key(self) -> tuple[date, str, str, str]:
        return self.local_date, self.kind, self.path, self.campaign


class GateDay(msgspec.Struct, kw_only=True):
    """What the gate holds for one local date."""

    local_date: date
    practised: bool
    kinds: dict[str, str]
    """Kind -> "claimed by stream", "settled by batch" and so on, "opted out"."""
    campaigns: int
    count: int
    """Reminders that count for the daily cap."""
    erased: bool = False
    """A user of this id was deleted: nothing is sent for this date."""


class Coming(msgspec.Struct, kw_only=True):
    """A reminder that is going to be considered, or is due and waits."""

    kind: str
    path: str
    due_at: datetime
    words: str = ""


class GateView(msgspec.Struct, kw_only=True):
    """The gate's side of it."""

    trouble: str = ""
    """Why it does not answer, or why it is closed; empty: it is open."""
    answers: bool = True
    days: list[GateDay] = []
    due: list[tuple[str, float]] = []
    """The due index: kind and unix seconds."""


class Inspection(msgspec.Struct, kw_only=True):
    """A user's last days."""

    user_id: int
    time_zone: str
    now: datetime
    facts: dict[str, Any] | None
    """The user's row with devices; None where there is none (any more)."""
    candidates: list[Candidate]
    coming: list[Coming]
    gate: GateView
    pauses: list[Pause]
    planned_not_read: list[date]
    """Local dates whose pages would have taken too long to look through."""

    @property
    def known(self) -> bool:
        # A tombstone says of nobody that there is such a user.
        return bool(self.facts or self.candidates or self.coming or any(not day.erased for day in self.gate.days))

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {**msgspec.to_builtins(self), "pauses": [pause.document() for pause in self.pauses]}
