"""The reminder kinds, all in one place: to add one, add a row here and its texts to `shared/templates`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Literal

HOUR = 3600.0


class Path(IntEnum):
    """Who plans a send. The numbers are the gate's claim bits and the ledger's column."""

    stream = 1
    batch = 2
    blast = 3


class Lane(StrEnum):
    """Lanes never wait for one another: each is a Kafka topic and a delivery agent of its own."""

    urgent = "urgent"
    normal = "normal"
    blast = "blast"


KindName = Literal["practice", "streak_saver", "abandoned_lesson", "comeback", "campaign"]


@dataclass(frozen=True, slots=True)
class ReminderKind:
    """One kind of reminder.

    `code` is its place in the gate's value and the ledger's column: never change or reuse one.
    `life` is how long after it was due it is still worth sending, in seconds.
    """

    name: KindName
    code: int
    path: Path
    life: float
    quiet_exempt: bool = False

    @property
    def lane(self) -> Lane:
        """The lane of the path that plans it."""
        return _LANES[self.path]


_LANES = {Path.stream: Lane.urgent, Path.batch: Lane.normal, Path.blast: Lane.blast}

PRACTICE = ReminderKind("practice", 0, Path.stream, life=4 * HOUR)
STREAK_SAVER = ReminderKind("streak_saver", 1, Path.stream, life=2 * HOUR, quiet_exempt=True)
ABANDONED_LESSON = ReminderKind("abandoned_lesson", 2, Path.stream, life=1 * HOUR)
COMEBACK = ReminderKind("comeback", 3, Path.batch, life=4 * HOUR)
CAMPAIGN = ReminderKind("campaign", 4, Path.blast, life=1 * HOUR)
"""A blast. Its identity is the campaign's name instead of the date, and so is its text."""

_ALL = (PRACTICE, STREAK_SAVER, ABANDONED_LESSON, COMEBACK, CAMPAIGN)
KINDS: dict[str, ReminderKind] = {kind.name: kind for kind in _ALL}
KIND_BY_CODE: dict[int, ReminderKind] = {kind.code: kind for kind in KINDS.values()}

PRACTICE_AFTER = 23.5 * HOUR
"""A practice reminder is due this long after the last practice (DESIGN, words)."""
ABANDONED_AFTER = 0.5 * HOUR
"""A started lesson that is not finished after this long counts as abandoned (DESIGN, words)."""
STREAK_SAVER_HOUR = 22
"""The local hour of the streak saver (DESIGN, words)."""
