"""What a person asks a backfill for, checked; the same request has the same key, whoever types it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import msgspec

from shared.due.index import DUE_KINDS
from shared.identity import SHARDS
from shared.policy.kinds import COMEBACK, ReminderKind
from shared.policy.localtime import known_zones

LONGEST = timedelta(days=7)
KIND_NAMES = (COMEBACK.name, *(kind.name for kind in DUE_KINDS))
"""What can be backfilled. A campaign is triggered again instead."""


class Request(msgspec.Struct, frozen=True):
    """What should have been planned in [start, end), of these kinds, shards and zones."""

    start: datetime
    end: datetime
    kinds: tuple[str, ...] = KIND_NAMES
    shards: tuple[int, ...] = tuple(range(SHARDS))
    zones: tuple[str, ...] = ()
    """None: all."""

    @property
    def key(self) -> str:
        """The same for everyone who asks for the same."""
        return sha256(msgspec.json.encode(self)).hexdigest()

    @property
    def comebacks(self) -> bool:
        """Whether the batch path has something to do."""
        return COMEBACK.name in self.kinds

    @property
    def due_kinds(self) -> tuple[ReminderKind, ...]:
        """What of the stream path is asked for, the most pressing first."""
        return tuple(kind for kind in DUE_KINDS if kind.name in self.kinds)

    @property
    def said(self) -> str:
        """In a line, for a person."""
        parts = [f"{self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M} UTC", ", ".join(self.kinds)]
        if len(self.shards) < SHARDS:
            parts.append(f"shards {ranges(self.shards)}")
        if self.zones:
            more = f" and {len(self.zones) - 3} more" if len(self.zones) > 3 else ""
            parts.append(f"zones {', '.join(self.zones[:3])}{more}")
        return "; ".join(parts)

    def arguments(self) -> list[str]:
        """The options that ask for it again."""
        words = ["--from", f"{self.start:%Y-%m-%dT%H:%M}", "--to", f"{self.end:%Y-%m-%dT%H:%M}"]
        if set(self.kinds) != set(KIND_NAMES):
            words += [word for kind in self.kinds for word in ("--kind", kind)]
        if len(self.shards) < SHARDS:
            words += ["--shards", ranges(self.shards)]
        return words + (["--zones", ",".join(self.zones)] if self.zones else [])


def request(
    start: datetime,
    end: datetime,
    now: float,
    kinds: Iterable[str] = (),
    shards: str = "",
    zones: Iterable[str] = (),
) -> Request:
    """A request from what somebody typed. Naive times are UTC; `now` is in unix seconds. Raises `ValueError`, which
    says what is wrong with it."""
    start, end = _utc(start), _utc(end)
    if not start < end <= start + LONGEST:
        raise ValueError(f"from {start:%Y-%m-%dT%H:%M} to {end:%Y-%m-%dT%H:%M}: take more than nothing, a week at most")
    if end.timestamp() > now:
        raise ValueError(
            f"{end:%Y-%m-%dT%H:%M} UTC is still to come: the paths plan that themselves, and nothing is missing yet"
        )
    chosen = {each.strip().lower().replace("-", "_") for each in kinds if each.strip()}
    if unknown := sorted(chosen - set(KIND_NAMES)):
        raise ValueError(f"{unknown[0][:80]!r} is none of {', '.join(KIND_NAMES)}")
    places = {each.strip() for each in zones if each.strip()}
    if wrong := sorted(places - known_zones()):
        raise ValueError(f"{wrong[0][:80]!r} is no time zone: use IANA names such as America/Sao_Paulo")
    return Request(
        start,
        end,
        tuple(name for name in KIND_NAMES if not chosen or name in chosen),
        _shards(shards),
        tuple(sorted(places)),
    )


def ranges(numbers: Iterable[int]) -> str:
    """Numbers as `_shards` reads them: 0-7,12."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in found)


def _shards(text: str) -> tuple[int, ...]:
    """0-7,12; all of them where nothing is named."""
    if not text.strip():
        return tuple(range(SHARDS))
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        # The length first: int() takes long for a number of a million digits.
        if len(part) > 16 or not first.isdecimal() or not (last or first).isdecimal():
            raise ValueError(f"{part[:40]!r} is no shard: write 0-7,12")
        low, high = int(first), int(last or first)
        if not low <= high < SHARDS:
            raise ValueError(f"{part.strip()!r}: shards are 0 to {SHARDS - 1}, the lower one first")
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
