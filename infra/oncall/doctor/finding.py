"""What a check has found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class State(IntEnum):
    """How bad it is; the worst is the exit code."""

    ok = 0
    warning = 1
    """It works, and may not for long, or not as somebody thinks."""
    broken = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One line."""

    part: str
    """Such as PostgreSQL."""
    state: State
    says: str
    remedy: str = ""
    """What to type or to set."""


def ok(part: str, says: str) -> Finding:
    return Finding(part, State.ok, says)


def warning(part: str, says: str, remedy: str) -> Finding:
    return Finding(part, State.warning, says, remedy)


def broken(part: str, says: str, remedy: str) -> Finding:
    return Finding(part, State.broken, says, remedy)


def skew(part: str, seconds: float) -> Finding:
    """A server's clock against this machine's; `seconds`: how far it is ahead, right to the time of a round trip."""
    if abs(seconds) < MOST_SKEW:
        return ok(part, f"its clock and this machine's differ by {abs(seconds):.1f} s")
    ahead = "ahead of" if seconds > 0 else "behind"
    return warning(
        part,
        f"its clock is {abs(seconds):.0f} s {ahead} this machine's: what is due and what is over is told by clocks",
        "Run an NTP client on both (`timedatectl`, `chronyc tracking`)",
    )


MOST_SKEW = 2.0
"""Seconds: a minute's reminder does not notice, and a round trip is far below."""
