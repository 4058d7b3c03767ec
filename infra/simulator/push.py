"""An accepted push, as the device would get it."""

from __future__ import annotations

from math import isfinite

import msgspec


class Push(msgspec.Struct, frozen=True, gc=False):
    """One push to one device, read from a provider's request."""

    provider: str
    token: str
    send_id: str
    kind: str
    title: str
    body: str
    collapse_id: str
    expires_at: float | None  # unix seconds; the earliest of those that the request names


def instant(value: object) -> float | None:
    """Unix seconds from a number or its decimal form; None where there is none."""
    if not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if isfinite(seconds) else None


def earlier(one: float | None, other: float | None) -> float | None:
    """The earlier of two instants, of which either may be missing."""
    return min((each for each in (one, other) if each is not None), default=None)
