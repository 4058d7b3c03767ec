"""What a contender's process is told, and what it says in the end: one line of JSON each."""

from __future__ import annotations

import msgspec


class Order(msgspec.Struct):
    """`due`: when the crowd's reminders are due, unix seconds."""

    users: int
    due: float


class Report(msgspec.Struct):
    """`cpu_seconds` includes the kernel's share. `statements`: sent to PostgreSQL."""

    users: int
    seconds: float
    cpu_seconds: float
    peak_rss_mb: float
    statements: int
    acknowledged: list[tuple[float, int]] = []
    """Seconds from the due time on, and users whose sends Kafka acknowledged then."""
    error: str = ""


decode_order = msgspec.json.Decoder(Order).decode
decode_report = msgspec.json.Decoder(Report).decode
encode = msgspec.json.Encoder().encode


def percentile_ms(acknowledged: list[tuple[float, int]], hundredth: int) -> float:
    """The lateness that so many of a hundred users had at most."""
    wanted = sum(n for _, n in acknowledged) * hundredth / 100
    for seconds, n in sorted(acknowledged):
        wanted -= n
        if wanted <= 0:
            return round(seconds * 1000, 1)
    return 0.0
