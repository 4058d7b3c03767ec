"""The only place that knows what time it is; tests and the demo turn it.

Every other module is handed a `Clock`. Instants are UTC unix seconds (float) or aware UTC datetimes.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

_MICROSECONDS = struct.Struct("<q")


class Clock(Protocol):
    """What time it is, in UTC unix seconds."""

    def now(self) -> float: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()


class FileClock:
    """A clock many processes share: 8 bytes in a file, unix microseconds, mapped into memory.

    Whoever turns it calls `set`; everyone else sees the new time at the next `now`, which costs a
    memory read. The file must exist: `FileClock.create` writes it.
    """

    def __init__(self, path: Path) -> None:
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"No clock at {path}: SURNIA_CLOCK_FILE names a file that `surnia demo` or a test creates; "
                "unset it to use the machine's clock."
            ) from None
        try:
            self._map = mmap.mmap(descriptor, _MICROSECONDS.size)
        finally:
            os.close(descriptor)

    @classmethod
    def create(cls, path: Path, start: float) -> FileClock:
        """A new clock file at `path` that says `start` (unix seconds)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_MICROSECONDS.pack(round(start * 1e6)))
        return cls(path)

    def now(self) -> float:
        return float(_MICROSECONDS.unpack_from(self._map)[0]) / 1e6

    def set(self, instant: float) -> None:
        """Turn the clock, in either direction, for every process that shares it."""
        # One aligned 8-byte store: readers see the old time or the new one, never half of each.
        self._map[:] = _MICROSECONDS.pack(round(instant * 1e6))


def open_clock(file: Path | None) -> Clock:
    """The shared virtual clock where a file is named, else the machine's."""
    return FileClock(file) if file else SystemClock()


def utc(instant: float) -> datetime:
    """Unix seconds as an aware UTC datetime."""
    return datetime.fromtimestamp(instant, UTC)
