"""What a contender's process is told, and what it says in the end: one line of JSON each."""

from __future__ import annotations

from datetime import datetime

import msgspec


class Order(msgspec.Struct):
    """An interval, the shards to scan for it, and how many users at most (0: all)."""

    start: datetime
    end: datetime
    shards: int
    users: int = 0


class Report(msgspec.Struct):
    """`cpu_seconds` includes the kernel's share."""

    users: int
    seconds: float
    cpu_seconds: float
    peak_rss_mb: float


decode_order = msgspec.json.Decoder(Order).decode
decode_report = msgspec.json.Decoder(Report).decode
encode = msgspec.json.Encoder().encode
