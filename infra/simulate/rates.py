"""What a core does a second, as the benches measured it, and what a quota allows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec


class RatesError(ValueError):
    """A file given with --rates is not what `surnia bench NAME --json FILE` writes."""


class Rate(msgspec.Struct, frozen=True):
    """`per_s`: of one core, 0 where nobody has measured it. `source`: which bench, when, where."""

    part: str
    what: str
    per_s: float
    source: str


_MACHINE = "2 cores (Xeon, 2026-11), shared with other work"
MEASURED = (
    Rate("stream", "events", 41_846, f"surnia bench stream, 2026-11-22, {_MACHINE}: ours.events_per_s"),
    Rate("due", "users fired", 21_832, f"surnia bench due, 2026-11-22, {_MACHINE}: ours.users_per_s"),
    Rate("scan", "rows", 0, "not measured yet: surnia bench scan --json FILE, and give it with --rates"),
    Rate("gate", "claims and marks", 179_695, f"surnia bench gate, 2026-11-21, {_MACHINE}: sparse.ours.claims_per_s"),
    Rate("delivery", "pushes", 8_492, f"surnia bench deliver, 2026-11-22, {_MACHINE}: ours_path.per_s"),
)
BYTES_PER_FIELD = 14.0
"""`surnia bench gate`, 2026-11-21: sparse.ours.bytes_per_claim, 13.8 at 20 million."""
BYTES_PER_TIMER = 79.2
"""A member of a sorted set of Valkey 9.1 with 3,906 of them, ids of 60 bits: used_memory of a million, 2026-11-22."""

_WHERE: Mapping[str, tuple[str, ...]] = {
    "stream": ("ours", "events_per_s"),
    "gate": ("sparse", "ours", "claims_per_s"),
    "delivery": ("ours_path", "per_s"),
}
_ONLY_SCAN = "orm_loop"
"""The contender by which a scan's figures are told from those of due reminders: both count users."""


def rates(files: list[Path]) -> tuple[Rate, ...]:
    """The measured rates, those of files in their place."""
    found = {rate.part: rate for rate in MEASURED}
    for file in files:
        part, per_s = _read(file)
        found[part] = Rate(part, found[part].what, per_s, f"{file.name}, given with --rates")
    return tuple(found.values())


def _read(file: Path) -> tuple[str, float]:
    try:
        figures = msgspec.json.decode(file.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise RatesError(f"{file}: {error}") from None
    for part, path in (("scan" if _has(figures, _ONLY_SCAN) else "due", ("ours", "users_per_s")), *_WHERE.items()):
        value: Any = figures
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, int | float) and value > 0:
            return part, float(value)
    raise RatesError(f"{file} is no figures of a bench: make one with `surnia bench NAME --json {file.name}`")


def _has(figures: Any, name: str) -> bool:
    return isinstance(figures, dict) and name in figures
