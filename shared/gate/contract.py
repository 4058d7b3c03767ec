"""What the gate promises, whatever store is behind it: its questions, its answers, its errors."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from enum import IntEnum
from typing import NamedTuple, Protocol

from shared.policy.kinds import Path


class SendKey(NamedTuple):
    """The identity of a send."""

    user_id: int
    kind: str
    local_date: date


class Claim(IntEnum):
    """The gate's answer to a planner. The numbers are what `claim.lua` answers."""

    granted = 0
    """Free until now: this call took it."""
    granted_again = 1
    """This path took it before: a crashed task or redelivered message repeats its work."""
    settled_before = 2
    """This path took it before and a provider accepted it: granted, and nothing is left to do."""
    practised = 3
    """Denied: the user practised on that local date."""
    other_path = 4
    """Denied: the other path has claimed or settled it."""
    daily_cap = 5
    """Denied: the user has had the day's reminders."""

    @property
    def denied(self) -> bool:
        return self >= Claim.practised

    @property
    def reason(self) -> str:
        """The reason code of a denial."""
        return self.name


class Standing(IntEnum):
    """How a claimed send stands at the moment of delivery."""

    clear = 0
    """Claimed by this path, not settled: deliver it."""
    settled = 1
    """A provider accepted it before: it must not be shown again."""
    practised = 2
    """The user practised since it was planned: drop it."""
    unclaimed = 3
    """The gate does not know the claim (lost, or the other path's): drop it, never fail open."""


class GateUnavailableError(RuntimeError):
    """The gate does not answer: nothing may be sent. Wait and ask again; nothing is lost meanwhile.
    See the 'Gate down' runbook in docs/operations.md."""


class Gate(Protocol):
    """Deduplication between the paths. Every method raises `GateUnavailableError` where it can't be sure."""

    async def practised(self, marks: Sequence[tuple[int, date]]) -> None:
        """Mark users as having practised on a local date."""

    async def claim(self, path: Path, keys: Sequence[SendKey]) -> list[Claim]:
        """Claim sends; one answer a key, in order."""

    async def standing(self, path: Path, keys: Sequence[SendKey]) -> list[Standing]:
        """How claimed sends stand now; one answer a key, in order."""

    async def settle(self, path: Path, keys: Sequence[SendKey]) -> None:
        """Record that a provider accepted these sends."""
