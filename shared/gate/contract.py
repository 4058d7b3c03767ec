"""What the gate promises, whatever store is behind it: its questions, its answers, its errors."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from enum import IntEnum
from typing import NamedTuple, Protocol

from shared.keyspace.errors import GateClosedError, GateUnavailableError
from shared.policy.kinds import Path

__all__ = ["Claim", "Gate", "GateClosedError", "GateUnavailableError", "SendKey", "Standing"]


class SendKey(NamedTuple):
    """The identity of a send. A campaign's is the user and the campaign; its date is where it counts for the day."""

    user_id: int
    kind: str
    local_date: date
    campaign: str = ""


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
    opted_out = 6
    """Denied: the user does not want this kind."""
    paused = 7
    """Not decided: somebody on call has paused it. Ask again; nothing was taken."""
    weekly_cap = 8
    """Denied: the user has had the reminders of seven days, the local date and the six before it."""

    @property
    def denied(self) -> bool:
        return Claim.practised <= self <= Claim.opted_out or self is Claim.weekly_cap

    @property
    def reason(self) -> str:
        """The reason code of a denial."""
        return self.name


class Standing(IntEnum):
    """How a claimed send stands at the moment of delivery. The numbers are what `standing.lua` answers."""

    clear = 0
    """Claimed by this path, not settled: deliver it."""
    settled = 1
    """A provider accepted it before: it must not be shown again."""
    practised = 2
    """The user practised since it was planned: drop it."""
    unclaimed = 3
    """Not claimed by this path. Either the other path has it, or the gate was rebuilt without it: claim it again,
    and drop it where that is denied."""
    opted_out = 4
    """The user has turned this kind off since: drop it."""
    paused = 5
    """Somebody on call has paused it: keep it until it is resumed or expires."""


class Gate(Protocol):
    """Deduplication between the paths. Every method raises `GateUnavailableError` where it can't be sure."""

    async def practised(self, marks: Sequence[tuple[int, date]]) -> None:
        """Mark users as having practised on a local date."""

    async def opt_out(self, choices: Sequence[tuple[int, date, int]]) -> None:
        """(user, local date, bits of the kinds' codes): the kinds the user does not want on that date; others are
        wanted again. A claim that was not settled is taken back."""

    async def claim(self, path: Path, kind: str, day: date, user_ids: Sequence[int], campaign: str = "") -> list[Claim]:
        """Claim a send for each of these users; one answer a user, in order."""

    async def standing(self, path: Path, keys: Sequence[SendKey]) -> list[Standing]:
        """How claimed sends stand now; one answer a key, in order."""

    async def settle(self, path: Path, keys: Sequence[SendKey]) -> None:
        """Record that a provider accepted these sends. A fact: it holds even where the claim was lost."""
