"""A user's value in the gate: one small integer a local date, so that a hash of 200 stays a small listpack.

    bit 0          practised
    3 bits a kind  from bit 1 + 3 × its code, codes 0 to 3:
                   0 free · 1 claimed by stream · 2 claimed by batch · 3 settled by stream · 4 settled by batch
                   5 opted out
    bits 13–15     campaigns claimed on that date
    bit 16         opted out of campaigns
    bit 17         erased: whoever this was gets nothing on that date, whatever else is said later

The scripts beside this file read and write the same bits. A settled send keeps its path, so that a planner that repeats
a crashed page is told what it was told before. How many reminders the user has had is counted from the states: a count
of its own could part from them. A comeback's claim is 2,048 and takes two bytes.
"""

from __future__ import annotations

from shared.gate.contract import Standing
from shared.policy.kinds import CAMPAIGN, Path

SETTLED = 2
"""Added to the path's number when its claim is settled."""
OPTED_OUT = 5
KIND_CODES = range(4)
"""The kinds that have a state here. Another kind takes the next code, and moves what is above in all scripts."""
_CAMPAIGNS_FROM = 13
_NO_CAMPAIGNS = 1 << 16
ERASED = 1 << 17
"""The tombstone of a user who was deleted. It is the highest bit: scripts ask whether a value is at least this."""


def has_place(path: Path, kind: str, campaign: str) -> bool:
    """Whether the gate can hold such a send: campaigns have a name, the other kinds none; those are of two paths."""
    return bool(campaign) if kind == CAMPAIGN.name else not campaign and path in (Path.stream, Path.batch)


def practised(value: int) -> bool:
    return bool(value & 1)


def state(value: int, kind_code: int) -> int:
    """0 free, a `Path` when claimed by it, `Path` + `SETTLED` when settled, `OPTED_OUT`."""
    return (value >> (1 + 3 * kind_code)) & 7


def campaigns(value: int) -> int:
    """Campaigns claimed on the date."""
    return (value >> _CAMPAIGNS_FROM) & 7


def count(value: int) -> int:
    """Reminders of the date: what the daily cap is about."""
    return campaigns(value) + sum(1 <= state(value, code) < OPTED_OUT for code in KIND_CODES)


def erased(value: int) -> bool:
    return bool(value & ERASED)


def opted_out(value: int, kind_code: int) -> bool:
    return bool(value & _NO_CAMPAIGNS) if kind_code == CAMPAIGN.code else state(value, kind_code) == OPTED_OUT


def standing(value: int, kind_code: int, path: Path) -> Standing:
    """How a claimed send of that path stands, pauses apart; what `standing.lua` answers."""
    now = state(value, kind_code)
    if now == path + SETTLED:
        return Standing.settled
    if now == OPTED_OUT or erased(value):
        return Standing.opted_out
    if now != path:
        return Standing.unclaimed
    return Standing.practised if practised(value) else Standing.clear
