"""Numbers and codes as people read them; the page and the terminal share these."""

from __future__ import annotations

import math
from datetime import UTC, datetime

DASH = "–"


def count(n: float) -> str:
    """1234567 -> 1,234,567."""
    return f"{n:,.0f}" if math.isfinite(n) else DASH


def share(n: float, whole: float) -> str:
    """Percent of a whole; what is there but tiny never reads as 0%, nor almost all as 100%."""
    if whole <= 0:
        return DASH
    percent = 100 * n / whole
    if 0 < percent < 0.1:
        return "< 0.1%"
    if 99.9 < percent < 100:
        return "> 99.9%"
    return f"{percent:.1f}%" if percent % 100 else f"{percent:.0f}%"


def milliseconds(value: float) -> str:
    """A latency with its unit: 0.4 ms, 87 ms, 1.24 s."""
    if not math.isfinite(value):
        return DASH
    if value >= 1000:
        return f"{value / 1000:,.2f}".rstrip("0").rstrip(".") + " s"
    return f"{value:.0f} ms" if value >= 10 or value == int(value) else f"{value:.1f} ms"


def seconds(value: float) -> str:
    """A duration of the real clock: 8.4 s, 93 s, 12 min 5 s."""
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60} s"


def offset(hours: float) -> str:
    """A zone's offset: 5.5 -> UTC+05:30."""
    minutes = round(abs(hours) * 60)
    return f"UTC{'−' if hours < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"


def words(code: str) -> str:
    """A code as words: streak_saver -> streak saver."""
    return code.replace("_", " ")


def utc(iso: str) -> datetime:
    """A moment given in ISO, in UTC; without an offset it is taken for UTC."""
    moment = datetime.fromisoformat(iso)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def moment(iso: str) -> str:
    """A moment for people: Sun 1 Mar 2026, 00:00 UTC; what is no moment stays as it is, nothing becomes a dash."""
    try:
        at = utc(iso)
    except ValueError:
        return iso or DASH
    return f"{at:%a} {at.day} {at:%b %Y, %H:%M} UTC"
