"""What a rebuild tells: how far it is, and in the end what it came to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

Tell = Callable[[str, int, int], None]
"""Called with what is being read, how much of it has been, and about how much there is."""


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild came to."""

    shards: list[int]
    """Those it was about."""
    dry_run: bool = False
    epoch: str = ""
    attempts: int = 0
    read: dict[str, int] = field(default_factory=dict)
    """Rows or messages of each source."""
    claimed: int = 0
    settled: int = 0
    marks: int = 0
    """User and local date with practice."""
    opt_outs: int = 0
    """Users with a kind that they do not want."""
    changed: int = 0
    """Values of the gate that were not there before."""
    reminders: int = 0
    """Users with a reminder ahead of their last practice."""
    timers: int = 0
    """Lessons that may turn out to be abandoned."""
    seconds: float = 0.0
    still_closed: list[int] = field(default_factory=list)
    """Shards whose data was lost again each time."""
