"""What a bad message leaves behind: its reason, where it came from, and its first bytes."""

from __future__ import annotations

import msgspec

KEPT_BYTES = 4096
"""Of a hostile megabyte the head is enough to recognise its sender; the offset leads to the rest."""


class DeadLetter(msgspec.Struct, frozen=True):
    """One JSON message of the dead-letter topic. `value` is base64 in JSON, cut at `KEPT_BYTES`."""

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    size: int
    at: float
    key: bytes
    value: bytes

    @classmethod
    def of(
        cls, *, reason: str, detail: str, topic: str, partition: int, offset: int, at: float, key: bytes, value: bytes
    ) -> DeadLetter:
        return cls(reason, detail, topic, partition, offset, len(value), at, key[:256], value[:KEPT_BYTES])


encode_dead_letter = msgspec.json.Encoder().encode
decode_dead_letter = msgspec.json.Decoder(DeadLetter).decode
