"""A user's value in the gate: one small integer a local date, so that a hash of 200 stays a listpack.

    bit 0       practised
    bits 1–3    reminders claimed on that date, over all kinds and both paths
    3 bits a kind, from bit 4 + 3 × its code:
        0 free · 1 claimed by stream · 2 claimed by batch · 3 settled by stream · 4 settled by batch

The scripts beside this file read and write the same bits. A settled send keeps its path, so that a planner
that repeats a crashed page is told what it was told before, and the audit's counts stay exact.
"""

from __future__ import annotations

from shared.gate.contract import Standing
from shared.policy.kinds import Path

_KINDS_FROM = 4
_KIND_BITS = 3
SETTLED = 2
"""Added to the path's number when its claim is settled."""


def practised(value: int) -> bool:
    return bool(value & 1)


def count(value: int) -> int:
    """Reminders claimed on the date."""
    return (value >> 1) & 7


def state(value: int, kind_code: int) -> int:
    """0 free, a `Path` when claimed by it, `Path` + `SETTLED` when settled."""
    return (value >> (_KINDS_FROM + _KIND_BITS * kind_code)) & 7


def standing(value: int, kind_code: int, path: Path) -> Standing:
    """How a claimed send of that path stands."""
    now = state(value, kind_code)
    if now == path + SETTLED:
        return Standing.settled
    if now != path:
        return Standing.unclaimed
    return Standing.practised if practised(value) else Standing.clear
